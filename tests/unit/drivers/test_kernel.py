"""Where a kernel's code comes from, by VANTUN_KERNELS; each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.drivers.little_library import write_library

ROOT = Path(__file__).resolve().parents[3]

_LIBRARY = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, format="LOG %(message)s", stream=sys.stdout)
import numpy as np
from drivers import kernel
from drivers.kernel_library import open_library
folder = Path(sys.argv[1])
kernel.use_library(lambda: open_library(folder / "library", folder, None))
"""
_SUM = """
@kernel.kernel
def fails_above(limit: int, value: int) -> int:
    return value if value <= limit else -1

fails_above.name = "tests.unit.drivers.little_library.fails_above"
print(fails_above(5, 4), "numba" in sys.modules)
"""


def run(folder: Path, text: str, mode: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, VANTUN_KERNELS=mode, PYTHONPATH=str(ROOT), NUMBA_CACHE_DIR=str(folder / "cache"))
    path = folder / "program.py"
    path.write_text(_LIBRARY + text)
    return subprocess.run(
        [sys.executable, str(path), str(folder)], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "native", ""])
def test_the_library_serves_without_numba(tmp_path: Path, mode: str) -> None:
    write_library(tmp_path / "library", tmp_path)
    done = run(tmp_path, _SUM, mode)
    assert done.stdout == "4 False\n", done.stderr


@pytest.mark.slow
def test_jit_never_looks_for_a_library(tmp_path: Path) -> None:
    write_library(tmp_path / "library", tmp_path)
    assert run(tmp_path, _SUM, "jit").stdout == "4 True\n"


@pytest.mark.slow
def test_without_a_library_numba_serves_and_the_log_says_so_once(tmp_path: Path) -> None:
    done = run(tmp_path, _SUM + _SUM, "auto")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("LOG")] == ["4 True", "4 True"], done.stderr
    said = [line for line in lines if "kernels are compiled in this process" in line]
    assert len(said) == 1
    assert "library.json" in said[0]
    assert "vantun accel warm" in said[0]


def test_native_without_a_library_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, _SUM, "native")
    assert done.returncode == 1
    assert "KernelError: kernel tests.unit.drivers.little_library.fails_above: there is no" in done.stderr
    assert "vantun accel warm" in done.stderr


def test_neither_library_nor_numba(tmp_path: Path) -> None:
    done = run(tmp_path, 'sys.modules["numba"] = None\n' + _SUM, "auto")
    assert done.returncode == 1
    assert "pip install 'vantun[jit]'" in done.stderr


def test_an_unknown_mode(tmp_path: Path) -> None:
    done = run(tmp_path, _SUM, "fast")
    assert "VANTUN_KERNELS is 'fast'; it can be auto, native, jit" in done.stderr


@pytest.mark.slow
def test_a_call_that_does_not_fit_is_made_by_numba(tmp_path: Path) -> None:
    write_library(tmp_path / "library", tmp_path)
    text = _SUM + "print(fails_above(5.5, 4.25), fails_above(5, 3))\n"
    done = run(tmp_path, text, "auto")
    assert done.stdout.splitlines()[-1] == "4.25 3", done.stderr
    assert "than it was compiled for" in run(tmp_path, text, "native").stderr
