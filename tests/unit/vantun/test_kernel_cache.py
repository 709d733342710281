from __future__ import annotations

from pathlib import Path

import pytest

from vantun import __version__
from vantun.kernel_cache import use_kernel_cache


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what the code under test writes is undone.
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)


def test_the_users_choice_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    assert use_kernel_cache() == Path("/elsewhere")


def test_a_folder_for_each_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = use_kernel_cache()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "vantun")
    assert f"-{__version__}-" in folder.name
    assert folder.stat().st_mode & 0o777 == 0o700


def test_systemd_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path}/a:{tmp_path}/b")
    folder = use_kernel_cache()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "a")


def test_a_folder_that_others_can_fill_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = use_kernel_cache()
    assert folder is not None
    folder.chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert use_kernel_cache() is None


def test_no_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert use_kernel_cache() is None
