from __future__ import annotations

import sys
from pathlib import Path

import pytest

from accel.bench.plot import check, draw
from drivers.errors import UnavailableError
from tests.unit.accel.bench.test_compare import comparison, point


def test_without_matplotlib_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnavailableError, match=r"pip install 'vantun\[plot\]'"):
        check(Path("a.svg"))


@pytest.mark.parametrize("name", ["a", "a.txt", "svg"])
def test_a_name_without_the_ending_of_a_picture(name: str) -> None:
    with pytest.raises(ValueError, match=r"ends in \.svg, \.png, \.pdf"):
        check(Path(name))


def test_an_emulator_and_the_limit_are_marked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'vantun[plot]'")
    found = comparison(point(1, a=10, b=20, memcpy=5), point(64, a=10, b=5, memcpy=5), fake="b", lead=("a", "b"))
    picture = tmp_path / "found.svg"
    draw([found, found], picture, "a machine")
    text = picture.read_text(encoding="utf-8")
    for label in ("memcpy (limit)", "b (emulator)", "fec.encode, (10,4), 1200 B", "a machine"):
        assert label in text
    draw([found], tmp_path / "found.png", "a machine")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
