"""Sleeping until a descriptor is readable, to the microsecond.

``epoll_wait`` counts in milliseconds, which is 80 packets at 1 Gbit/s. ``ppoll`` counts in nanoseconds, is older than
any kernel this package runs on, and an epoll descriptor is itself readable when one of its own is ready.
"""

from __future__ import annotations

import ctypes
import math
import os

from drivers.errors import SystemCallError
from drivers.library import Library

_POLLIN = 1
_EINTR = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36


class _Pollfd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


def _c_library() -> Library:
    names = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"]
    return Library("the C library", names, "run on Linux with glibc or musl")


class Sleeper:
    """Sleeps on one descriptor; buffers are made once."""

    def __init__(self, descriptor: int) -> None:
        pointer = ctypes.c_void_p
        self._ppoll = _c_library().function("ppoll", ctypes.c_int, pointer, ctypes.c_ulong, pointer, pointer)
        self._pollfd = _Pollfd(descriptor, _POLLIN, 0)
        self._timespec = _Timespec(0, 0)
        self._pollfd_address = ctypes.addressof(self._pollfd)
        self._timespec_address = ctypes.addressof(self._timespec)

    def sleep(self, seconds: float) -> bool:
        """Sleep at most ``seconds`` (inf = until readable); return whether the descriptor is readable.

        A signal ends the sleep early, as if nothing were readable.
        """
        limit = None
        if seconds != math.inf:
            whole = int(max(seconds, 0.0) * 1e9)
            self._timespec.seconds, self._timespec.nanoseconds = divmod(whole, 1_000_000_000)
            limit = self._timespec_address
        result: int = self._ppoll(self._pollfd_address, 1, limit, None)
        if result < 0 and ctypes.get_errno() != _EINTR:
            raise SystemCallError("waiting for sockets", ctypes.get_errno(), "report this")
        return result > 0


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process ``signal_number`` when the thread that started it ends (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal_number, "tying this process to its parent")


def set_timer_slack(nanoseconds: int) -> None:
    """Bound how late the kernel may end a sleep of this thread; its own default is 50 us."""
    _prctl(_PR_SET_TIMERSLACK, nanoseconds, "setting the timer slack")


def adopt_orphans(*, on: bool) -> None:
    """Become, or cease to be, the parent of every process below this one whose own parent ends (prctl(2))."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(on), "adopting processes")


def name_process(name: str) -> None:
    """Set what ``top`` and ``/proc/<pid>/comm`` call this process; at most 15 letters."""
    letters = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(_PR_SET_NAME, ctypes.addressof(letters), "naming this process")


def _prctl(option: int, value: int, doing: str) -> None:
    unsigned = ctypes.c_ulong
    prctl = _c_library().function("prctl", ctypes.c_int, ctypes.c_int, unsigned, unsigned, unsigned, unsigned)
    if prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise SystemCallError(doing, number, f"this sandbox forbids prctl ({os.strerror(number)}); allow it")
