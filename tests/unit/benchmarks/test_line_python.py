"""Whose a sample is, and what is said where there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.line_python import Samples, python_share

REPORT = """
    52.00%  libpython3.11.so.1.0
    20.00%  [kernel.kallsyms]
    10.00%  kernels-x86-64-v4.so
     6.00%  _ctypes.cpython-311-x86_64-linux-gnu.so
     2.00%  _multiarray_umath.cpython-311-x86_64-linux-gnu.so
     4.00%  libffi.so.8.1.2
     6.00%  libc.so.6
"""


def test_the_interpreter_and_what_it_calls_the_world_through_are_python() -> None:
    assert python_share(REPORT) == pytest.approx(0.64)
    assert python_share("    30.00%  python3.11\n    70.00%  [kernel.kallsyms]\n") == pytest.approx(0.3)
    assert python_share("") == 0.0


def test_without_perf_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no perf" in Samples(os.getpid(), 0.1, tmp_path / "x").tell()
