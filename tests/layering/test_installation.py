"""The guard against other distributions that ship a package called ``accel`` or ``drivers``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder with the parts of the three packages that `import vantun` reads."""
    (tmp_path / "vantun").mkdir()
    for part in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "vantun" / part, tmp_path / "vantun" / part)
    for sister in ("accel", "drivers"):
        (tmp_path / sister).mkdir()
        (tmp_path / sister / "__init__.py").write_text('__vantun__ = "0.1.0"\n')
    return tmp_path


def import_vantun(*folders: Path) -> str:
    """Import vantun in a fresh interpreter that sees only ``folders``; return the last line of what it prints."""
    path = [str(folder) for folder in folders]
    script = f"import sys; sys.path[:0] = {path!r}; import vantun; print('fine')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_version_matches_the_test(installed: Path) -> None:
    assert import_vantun(installed) == "fine"


def test_a_missing_sister(installed: Path) -> None:
    shutil.rmtree(installed / "accel")
    assert "the package 'accel', a part of VANTUN, is missing" in import_vantun(installed)


def test_another_distribution_has_overwritten_a_sister(installed: Path) -> None:
    (installed / "drivers" / "__init__.py").write_text("")
    message = import_vantun(installed)
    assert "belongs to another distribution" in message
    assert "pip install" in message


def test_a_removed_init_leaves_a_namespace_package(installed: Path) -> None:
    (installed / "accel" / "__init__.py").unlink()
    assert "belongs to another distribution" in import_vantun(installed)


def test_another_version(installed: Path) -> None:
    (installed / "accel" / "__init__.py").write_text('__vantun__ = "0.0.9"\n')
    assert "is of VANTUN 0.0.9, but this is VANTUN 0.1.0" in import_vantun(installed)


def test_another_folder_comes_first(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.move(installed / "accel", other / "accel")
    assert "but VANTUN is installed in" in import_vantun(other, installed)
