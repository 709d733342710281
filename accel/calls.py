"""Calls of a C library in bulk: numpy writes what is to be called with what, one compiled loop makes the calls.

A library that takes one packet or block per call would cost a Python call for each; a record costs a nanosecond. A
record is wrong in the way that C is wrong, so only the engines that know their library's prototypes write any.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from accel.ir.calls import ARGUMENTS, WORDS
from accel.native import function

Records = NDArray[np.int64]
"""[calls, WORDS]: address of the function, its result, its arguments."""

_Argument = int | NDArray[np.int64]


class Caller:
    """The compiled loop."""

    def __init__(self) -> None:
        self._run = function("calls", "run_calls")
        self._context = np.zeros(2, np.int64)
        self._address = int(self._context.ctypes.data)

    def run(self, records: Records) -> None:
        """Make the calls in order; each record receives its result (a C ``int`` is in the low 32 bits)."""
        self._context[0] = address_of(records)
        self._context[1] = len(records)
        self._run(self._address)


def make_records(count: int) -> Records:
    """Return room for ``count`` calls; arguments that are not written are 0."""
    return np.zeros((count, WORDS), np.int64)


def write_call(records: Records, target: int, *arguments: _Argument) -> None:
    """Write the same call into every record; an argument is one value for all, or one for each."""
    assert len(arguments) <= ARGUMENTS
    records[:, 0] = target
    for place, argument in enumerate(arguments, 2):
        records[:, place] = argument


def results(records: Records) -> NDArray[np.int32]:
    """Return the results of functions that return a C ``int``."""
    return records[:, 1].astype(np.int32)


def address_of(array: NDArray[np.generic]) -> int:
    """Return where an array begins."""
    return int(array.__array_interface__["data"][0])


def aligned(size: int, alignment: int = 64) -> NDArray[np.uint8]:
    """Return zeroed bytes at an address that is a multiple of ``alignment``."""
    room = np.zeros(size + alignment, np.uint8)
    start = -address_of(room) % alignment
    return room[start : start + size]


@cache
def _copier() -> tuple[Caller, int, int]:
    c = ctypes.CDLL(None)
    memcpy, memset = (ctypes.cast(each, ctypes.c_void_p).value or 0 for each in (c.memcpy, c.memset))
    return Caller(), memcpy, memset


def copy_ranges(target: NDArray[np.int64], source: NDArray[np.int64], length: NDArray[np.int64]) -> None:
    """Copy byte ranges by address; they do not overlap."""
    caller, memcpy, _ = _copier()
    records = make_records(len(target))
    write_call(records, memcpy, target, source, length)
    caller.run(records)


def zero_ranges(target: NDArray[np.int64], length: NDArray[np.int64]) -> None:
    """Zero byte ranges by address."""
    caller, _, memset = _copier()
    records = make_records(len(target))
    write_call(records, memset, target, 0, length)
    caller.run(records)
