"""Whose a sample is, and what is said where there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.line_python import KERNELS, LINUX, OTHERS, OWNERS, PYTHON, Samples, owner_shares
from benchmarks.line_town import LineError

REPORT = """
    42.00%  libpython3.11.so.1.0
    15.00%  [kernel.kallsyms]
     5.00%  [veth]
    20.00%  kernels-x86-64-v4-0123456789abcdef.so
     6.00%  _ctypes.cpython-311-x86_64-linux-gnu.so
     2.00%  _multiarray_umath.cpython-311-x86_64-linux-gnu.so
     4.00%  libffi.so.8.1.2
     5.00%  libc.so.6
     1.00%  [vdso]
"""


def test_the_interpreter_and_what_it_calls_the_world_through_are_python() -> None:
    found = owner_shares(REPORT)
    assert found == {
        PYTHON: pytest.approx(0.54),
        LINUX: pytest.approx(0.2),
        KERNELS: pytest.approx(0.2),
        OTHERS: pytest.approx(0.06),
    }
    assert set(found) == set(OWNERS)
    assert owner_shares("    30.00%  python3.11\n    70.00%  [kernel.kallsyms]\n")[PYTHON] == pytest.approx(0.3)
    assert owner_shares("") == {}


def test_without_perf_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no perf" in Samples([os.getpid()], 0.1, tmp_path / "x").tell()
    with pytest.raises(LineError, match="there is no perf"):
        Samples([os.getpid()], 0.1, tmp_path / "x").shares()
