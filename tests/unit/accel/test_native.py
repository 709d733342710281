"""Functions of IR modules: from the library, else compiled, which is noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_PROGRAM = """
import sys
from accel.native import function
from drivers.kernel import compiled_because
function("calls", "run_calls")
print(compiled_because(), "llvmlite" in sys.modules)
"""


def run(mode: str, before: str = "") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, VANTUN_KERNELS=mode, PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, "-c", before + _PROGRAM], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_what_is_compiled_is_noted() -> None:
    done = run("auto")
    assert done.stdout.startswith("accel.ir.calls.run_calls: this program looks for none; "), done.stderr
    assert done.stdout.endswith(" True\n")


def test_native_without_a_library_is_an_error() -> None:
    done = run("native")
    assert "KernelError: calls.run_calls is not in the library of kernels" in done.stderr
    assert "vantun accel warm" in done.stderr


def test_without_a_compiler() -> None:
    done = run("auto", 'import sys; sys.modules["llvmlite"] = None\n')
    assert "pip install 'vantun[jit]'" in done.stderr
