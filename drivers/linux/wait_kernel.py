"""Sleeping, watching descriptors and telling the time from nopython code: what a loop without Python does in between.

``epoll_wait`` fills ``struct epoll_event``, which x86-64 packs into 12 bytes and every other machine lays out in 16: an
array of events has EVENT_WORDS words of 32 bits for each.
"""

from __future__ import annotations

import ctypes
import platform
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import before_compiling, kernel
from drivers.library import Library

EVENT_WORDS = 3 if platform.machine() == "x86_64" else 4
EVENT_FLAGS, EVENT_DESCRIPTOR = 0, EVENT_WORDS - 2
"""Words of an event: what is ready, and the descriptor, as Python's ``select.epoll`` writes it."""
MAX_EVENTS = 256
_POLLIN = 1
_MONOTONIC = 1
_NOTICED = 30e-6
"""Seconds that giving the core away may take until it is worth asking why; with nobody there it takes half a one."""
_RUSAGE_THREAD = 1
_RUSAGE_WORDS, _INVOLUNTARY = 18, 17
"""``struct rusage``: two times of two words each, and fourteen counts, of which ru_nivcsw is the last."""

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"], "run on Linux")
for _symbol in ("epoll_wait", "ppoll", "nanosleep", "sched_yield", "clock_gettime", "getrusage"):
    _C.function(_symbol, ctypes.c_int)

if TYPE_CHECKING:
    # numba's types are no functions for a type checker, and its integers no int.
    int64 = int

    def _epoll_wait(descriptor: int, events: int, count: int, milliseconds: int) -> int: ...
    def _ppoll(descriptors: int, count: int, limit: int, mask: int) -> int: ...
    def _nanosleep(wanted: int, rest: int) -> int: ...
    def _sched_yield() -> int: ...
    def _getrusage(whose: int, place: int) -> int: ...
    def _clock_gettime(clock: int, place: int) -> int: ...
else:
    int64 = np.int64


@before_compiling
def _teach_names() -> None:
    """Define the names that only numba understands."""
    from numba import types

    number, address = types.int32, types.intp
    globals().update(
        _epoll_wait=types.ExternalFunction("epoll_wait", number(number, address, number, number)),
        _ppoll=types.ExternalFunction("ppoll", number(address, types.uintp, address, address)),
        _nanosleep=types.ExternalFunction("nanosleep", number(address, address)),
        _sched_yield=types.ExternalFunction("sched_yield", number()),
        _getrusage=types.ExternalFunction("getrusage", number(number, address)),
        _clock_gettime=types.ExternalFunction("clock_gettime", number(number, address)),
    )


@kernel
def monotonic(words: NDArray[np.int64]) -> float:
    """Return the time as Python's ``time.monotonic`` does; ``words`` [shape=(3,), dtype=int64] are used up."""
    _clock_gettime(_MONOTONIC, words.ctypes.data)
    return float(words[0]) + 1e-9 * float(words[1])


@kernel
def _lay(words: NDArray[np.int64], seconds: float) -> None:
    whole = int64(max(seconds, 0.0) * 1e9)
    words[0] = whole // 1_000_000_000
    words[1] = whole % 1_000_000_000


@kernel
def rest(words: NDArray[np.int64], seconds: float) -> None:
    """Sleep so long, whatever becomes ready."""
    _lay(words, seconds)
    _nanosleep(words.ctypes.data, 0)


@kernel
def ready_events(epoll: int, events: NDArray[np.int32]) -> int:
    """Fill ``events`` [shape=(MAX_EVENTS, EVENT_WORDS), dtype=int32] with what is ready; return how many."""
    found = int64(_epoll_wait(epoll, events.ctypes.data, events.shape[0], 0))
    return max(found, 0)


@kernel
def wait_events(epoll: int, events: NDArray[np.int32], words: NDArray[np.int64], seconds: float) -> int:
    """Sleep until something is ready, at most so long (inf = for ever); return as :func:`ready_events`."""
    words[2] = epoll | _POLLIN << 32
    limit = int64(0)
    if seconds < 1e9:
        _lay(words, seconds)
        limit = words.ctypes.data
    if _ppoll(words.ctypes.data + 16, 1, limit, 0) <= 0:
        return 0
    return ready_events(epoll, events)


@kernel
def _taken_by_others(usage: NDArray[np.int64]) -> int:
    """Return how often others have had the core although this thread could run; ``usage`` is used up.

    Of giving it away that counts what somebody accepted. Time that a hypervisor, or an interrupt, has taken does not.
    """
    _getrusage(_RUSAGE_THREAD, usage.ctypes.data)
    return int64(usage[_INVOLUNTARY])


@kernel
def watch_events(
    epoll: int, events: NDArray[np.int32], words: NDArray[np.int64], seconds: float, taken: float
) -> tuple[int, float]:
    """Ask again and again for so long; return (how many are ready, seconds that others had the core meanwhile).

    In between the core is given away. Who keeps it for ``taken`` seconds needs it: the watch is over, since sleeping is
    the only way to have it back at once when something arrives. Less than that is not told: a program that had
    something to do. Neither is what no program has taken.
    """
    before = monotonic(words)
    end = before + seconds
    found = ready_events(epoll, events)
    if found > 0 or seconds <= 0.0:
        return found, 0.0
    usage = np.empty(_RUSAGE_WORDS, np.int64)
    times = _taken_by_others(usage)
    while True:
        _sched_yield()
        after = monotonic(words)
        found = ready_events(epoll, events)
        if after - before > _NOTICED:
            before_that, times = times, _taken_by_others(usage)
            if after - before >= taken and times != before_that:
                return found, after - before
        if found > 0 or after >= end:
            return found, 0.0
        before = after
