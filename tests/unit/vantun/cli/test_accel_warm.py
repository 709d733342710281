from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from accel.aot.failure import BuildError
from tests.unit.drivers.little_library import write_library
from vantun import kernel_build, kernel_cache
from vantun.cli import main
from vantun.kernel_cache import library_folder

pytestmark = pytest.mark.slow

Build = Callable[[Path, Callable[[str], None], Sequence[str]], list[str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(kernel_cache, "use_library", lambda _: None)  # this process keeps its own
    monkeypatch.setattr("vantun.kernel_place.ROOT", tmp_path)
    monkeypatch.setattr(kernel_build, "build_library", _build(tmp_path))
    return library_folder()


def _build(root: Path) -> Build:
    def build(folder: Path, say: Callable[[str], None], levels: Sequence[str] = ()) -> list[str]:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_library(folder, root)
        say("compiled")
        return []

    return build


def test_builds_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accel", "warm"]) == 0
    out = capsys.readouterr().out
    assert "there is no" in out
    assert "5 kernels for" in out
    assert main(["accel", "warm"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["accel", "warm", "--force"]) == 0
    assert "compiled" in capsys.readouterr().out


def test_into_a_folder(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accel", "warm", "--into", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "library.json").exists()
    assert not place.exists()


def test_a_failure_is_one_message(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> list[str]:
        raise BuildError("the linker ld is missing; apt-get install binutils")

    monkeypatch.setattr(kernel_build, "build_library", fail)
    assert main(["accel", "warm"]) == 1
    assert "apt-get install binutils" in capsys.readouterr().err
