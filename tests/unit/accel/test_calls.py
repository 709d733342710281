from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np

from accel.calls import Caller, address_of, aligned, make_records, results, write_call
from accel.ir.calls import ARGUMENTS

ROOT = Path(__file__).resolve().parents[3]


def test_every_argument_arrives_in_its_place() -> None:
    seen: list[tuple[int, ...]] = []

    def target(*arguments: int) -> int:
        seen.append(arguments)
        return -len(seen)

    callback = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * ARGUMENTS)(target)
    records = make_records(3)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    write_call(records, address, np.array([7, 8, 9]), *range(-1, ARGUMENTS - 2))
    Caller().run(records)
    assert seen == [(first, *range(-1, ARGUMENTS - 2)) for first in (7, 8, 9)]
    assert results(records).tolist() == [-1, -2, -3]


def test_no_calls() -> None:
    Caller().run(make_records(0))


def test_an_int_is_in_the_low_half() -> None:
    records = make_records(1)
    records[0, 1] = (123 << 32) | 0xFFFFFFFF
    assert results(records).tolist() == [-1]


def test_aligned_memory_is_zero_and_aligned() -> None:
    for size in (1, 63, 4096):
        room = aligned(size)
        assert (len(room), address_of(room) % 64, bool(room.any())) == (size, 0, False)


def test_the_engines_of_libraries_are_light_until_they_are_opened() -> None:
    """What is imported here is imported by `vantun accel probe` for engines that nobody has."""
    script = "import sys, accel.fec.isal, drivers.ipsec_mb, drivers.libcrypto; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
