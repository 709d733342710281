"""Modules that are executed when they are used."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from vantun.late_import import import_late, leave_out

_SOURCE = """
import sys
import threading
sys.executed = True
from late_example.part import answer
"""


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "late_example"
    package.mkdir()
    (package / "__init__.py").write_text(_SOURCE)
    (package / "part.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "executed", False, raising=False)
    for name in ("late_example", "late_example.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("example")
def test_a_module_is_executed_when_it_is_asked_for_something() -> None:
    import_late("late_example")
    import late_example  # type: ignore[import-not-found]

    assert not sys.executed  # type: ignore[attr-defined]
    assert late_example.answer == 42
    assert sys.executed  # type: ignore[attr-defined]
    assert late_example.part.answer == 42


@pytest.mark.usefixtures("example")
def test_neither_a_part_nor_its_package_is_executed_when_the_part_is_imported() -> None:
    import_late("late_example.part")
    from late_example import part

    assert part is sys.modules["late_example.part"]
    assert "answer" not in vars(part)
    assert part.answer == 42
    assert not sys.executed  # type: ignore[attr-defined]
    assert sys.modules["late_example"].answer == 42
    assert sys.executed  # type: ignore[attr-defined]


@pytest.mark.usefixtures("example")
def test_what_is_imported_already_stays() -> None:
    import late_example

    import_late("late_example")
    assert sys.modules["late_example"] is late_example


def test_what_does_not_exist_fails_at_its_import() -> None:
    import_late("no_such_module_anywhere")
    assert "no_such_module_anywhere" not in sys.modules


@pytest.mark.usefixtures("example")
def test_a_name_that_it_does_not_have_is_an_attribute_error() -> None:
    import_late("late_example")
    with pytest.raises(AttributeError, match="nothing"):
        _ = sys.modules["late_example"].nothing


@pytest.mark.usefixtures("example")
def test_another_thread_waits_until_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "late_example" / "__init__.py").write_text("import time\ntime.sleep(0.2)\nanswer = 42\n")
    import_late("late_example")
    late = sys.modules["late_example"]
    first = threading.Thread(target=lambda: late.answer)
    first.start()
    assert late.answer == 42
    first.join()


def test_what_is_left_out_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "late_example.part", raising=False)
    leave_out("late_example.part")
    assert not [name for name in vars(sys.modules.pop("late_example.part")) if not name.startswith("__")]
