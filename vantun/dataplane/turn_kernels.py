"""A turn's work in as few calls from Python as there can be: one for what arrived, one for what leaves.

A call costs some 2 us of Python whatever it does, so the stages that need no Python between them are fused here. An
engine of this process's own code is called from here, too, by its lease (:mod:`accel.lease`). Where there is none, or
somebody has to look at a batch, the kernel returns ASK, the stage has the batch done by whoever serves, and the other
half of the kernel is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import TAG_LENGTH
from drivers.batch import PacketBatch
from drivers.kernel import before_compiling, kernel
from vantun.session.coding import Spans, collect_wanted
from vantun.session.departures import Departures
from vantun.session.floors import note_received, reserve_numbers
from vantun.session.ingest import Arrivals, accept_arrivals, sort_arrivals
from vantun.session.pool import release_row
from vantun.session.scheduler import plan
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64

DONE, ASK, ASK_ENCODE = range(3)
"""What is left to be done: nothing, or a batch of the AEAD engine, or of the FEC engine, and then the rest."""
FUNCTION, CONTEXT, LEFT = range(3)
"""Words of a lease, as :mod:`accel.lease` has them."""
CALLS, PACKETS, BYTES, NANOSECONDS = range(4)
"""Words of a stage's counters."""
_GOOD = 1
_REJECTED = -1
_LOOKS = 8
"""Times that sessions are looked at in one call: one that has sent something may have more to send."""
_MONOTONIC = 1

if TYPE_CHECKING:
    # numba's own for a type checker
    def _exchange(address: int, value: int) -> int: ...
    def _invoke(function: int, argument: int) -> int: ...
    def _clock_gettime(clock: int, place: int) -> int: ...


@before_compiling
def _teach_names() -> None:
    """Define the names that only numba understands."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    word = ir.IntType(64)

    @intrinsic
    def exchange(_context, address, value):  # type: ignore[no-untyped-def]
        """Write a word and return what was there."""

        def generate(_codegen, builder, _signature, given):  # type: ignore[no-untyped-def]
            place = builder.inttoptr(given[0], word.as_pointer())
            before = builder.load(place)
            builder.store(given[1], place)
            return before

        return types.int64(types.int64, types.int64), generate

    @intrinsic
    def invoke(_context, function, argument):  # type: ignore[no-untyped-def]
        """Call ``int64 f(int64)``."""

        def generate(_codegen, builder, _signature, given):  # type: ignore[no-untyped-def]
            called = builder.inttoptr(given[0], ir.FunctionType(word, [word]).as_pointer())
            return builder.call(called, [given[1]])

        return types.int64(types.int64, types.int64), generate

    globals().update(
        _exchange=exchange,
        _invoke=invoke,
        _clock_gettime=types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp)),
    )


class Sealed(NamedTuple):
    """The columns of the seal job, in order of sending."""

    source_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    target_offset: NDArray[np.int64]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]
    socket: NDArray[np.int32]
    spare: NDArray[np.int32]


class Leaving(NamedTuple):
    """What :func:`depart` works on, allocated once."""

    departures: Departures
    spans: Spans
    sealed: Sealed
    batch: PacketBatch
    floors: NDArray[Any]
    encode_block: NDArray[np.int64]
    """Address and elements of each column of the job over ``spans``, in the order of its fields."""
    encode_lease: NDArray[np.int64]
    seal_block: NDArray[np.int64]
    """The same of the job over ``sealed``."""
    seal_part: NDArray[np.int64]
    """Of the part of it that is being sealed."""
    seal_lease: NDArray[np.int64]
    counters: NDArray[np.int64]
    """[3, 4] of the stages encode, schedule, seal."""
    clock: NDArray[np.int64]
    """[2] struct timespec."""


class Arriving(NamedTuple):
    """What :func:`arrive` works on, allocated once."""

    arrivals: Arrivals
    floors: NDArray[Any]
    block: NDArray[np.int64]
    lease: NDArray[np.int64]
    counters: NDArray[np.int64]
    """[2, 4] of the stages open, accept."""
    clock: NDArray[np.int64]


@kernel
def _ns(clock: NDArray[np.int64]) -> int:
    """Return the monotonic time, as Python's perf_counter_ns does."""
    _clock_gettime(_MONOTONIC, clock.ctypes.data)
    return int64(clock[0] * 1_000_000_000 + clock[1])


@kernel
def _count(line: NDArray[np.int64], packets: int, begun: int, ended: int) -> None:
    line[CALLS] += 1
    line[PACKETS] += packets
    line[NANOSECONDS] += ended - begun


@kernel
def _hire(lease: NDArray[np.int64], block: NDArray[np.int64], rows: int) -> bool:
    """Have the leased engine do a job of ``rows`` rows; False = there is none, or somebody has to look at this one."""
    if lease[FUNCTION] == 0 or lease[LEFT] <= rows:
        return False
    lease[LEFT] -= rows
    address = int64(block.ctypes.data)
    if lease[CONTEXT] == 0:
        _invoke(lease[FUNCTION], address)
    else:
        before = _exchange(lease[CONTEXT], address)
        _invoke(lease[FUNCTION], lease[CONTEXT])
        _exchange(lease[CONTEXT], before)
    return True


@kernel
def _all_judged(status: NDArray[np.int8], rows: int) -> bool:
    """Return whether every row has a verdict; an engine that gives none is sick."""
    for i in range(rows):  # noqa: SIM110 - numba has no all() over a generator
        if status[i] != _GOOD and status[i] != _REJECTED:
            return False
    return True


@kernel
def _arrange(d: Departures, s: Sealed, batch: PacketBatch, first: int) -> None:
    """Order what was planned by lane (stable) and lay it end to end: equal sizes of a lane make one GSO message.

    It goes to place ``first`` of the batch, behind what was sealed before.
    """
    count = d.planned[0]
    lanes = 0
    for i in range(count):
        lanes = max(lanes, int64(d.lane[i]) + 1)
    starts = np.zeros(lanes + 1, np.int64)
    for i in range(count):
        starts[d.lane[i] + 1] += 1
    for lane in range(lanes):
        starts[lane + 1] += starts[lane]
    order = np.empty(count, np.int64)
    for i in range(count):
        order[starts[d.lane[i]]] = i
        starts[d.lane[i]] += 1
    end = batch.offset[first - 1] + int64(batch.length[first - 1]) if first > 0 else 0
    for place in range(count):
        i = order[place]
        at = first + place
        s.source_offset[at] = d.source_offset[i]
        s.length[at] = d.length[i]
        s.target_offset[at] = end
        s.slot[at] = d.slot[i]
        s.number[at] = d.number[i]
        s.status[at] = 0
        s.socket[at] = d.socket[i]
        s.spare[at] = d.spare[i]
        batch.offset[at] = end
        batch.length[at] = d.length[i] + TAG_LENGTH
        batch.peer[at] = d.peer[i]
        batch.ecn[at] = d.ecn[i]
        end += int64(d.length[i]) + TAG_LENGTH


@kernel
def _behind(d: Departures, count: int) -> Departures:
    """Return what is left of the columns behind ``count`` packets."""
    return Departures(
        d.source_offset[count:],
        d.length[count:],
        d.slot[count:],
        d.number[count:],
        d.status[count:],
        d.lane[count:],
        d.socket[count:],
        d.peer[count:],
        d.ecn[count:],
        d.spare[count:],
        d.planned,
        d.now,
    )


@kernel
def _size_rows(block: NDArray[np.int64], rows: int) -> None:
    """Set the elements of the columns of an AEAD job that have one for each row."""
    for column in (1, 2, 4, 5, 6, 7):
        block[2 * column + 1] = rows


@kernel
def _encode(t: Tables, w: Leaving, now: float) -> bool:
    """Have the parity computed that blocks want; False = the FEC engine has to be asked for it."""
    begun = _ns(w.clock)
    spans, _, parity = collect_wanted(t, w.spans, now)
    if spans == 0:
        return True
    for column in range(5, 12):
        w.encode_block[2 * column + 1] = spans
    if not (_hire(w.encode_lease, w.encode_block, spans) and _all_judged(w.spans.status, spans)):
        return False
    _count(w.counters[0], parity, begun, _ns(w.clock))
    return True


@kernel
def _seal(t: Tables, w: Leaving, first: int, count: int) -> bool:
    """Seal packets ``first`` to ``count - 1``; False = the AEAD engine has to be asked for it."""
    begun = _ns(w.clock)
    part = w.seal_part
    part[:] = w.seal_block
    for column, size in ((1, 8), (2, 4), (4, 8), (5, 4), (6, 8), (7, 1)):
        part[2 * column] += first * size
    _size_rows(part, count - first)
    if not (_hire(w.seal_lease, part, count - first) and _all_judged(w.sealed.status[first:], count - first)):
        return False
    sealed(t, w, first, count)
    _count(w.counters[2], count - first, begun, _ns(w.clock))
    return True


@kernel
def depart(t: Tables, w: Leaving, count: int, now: float) -> tuple[int, int, int, float]:
    """Have parity computed, packets chosen, placed on lanes, numbered, framed and sealed.

    ``count`` packets were sealed by a call that asked for parity; else 0. What is planned is sealed before anything
    else is: its rows may be free already (their block is complete), and the next row taken would be one of them.

    Returns
    -------
    tuple[int, int, int, float]
        DONE, ASK_ENCODE (of ``spans.used[0]`` spans; then call again), or ASK (then :func:`sealed`); packets that are
        sealed; all packets; when to call again if nothing happens.
    """
    due = now
    for _ in range(_LOOKS):
        if not _encode(t, w, now):
            return ASK_ENCODE, count, count, due
        begun = _ns(w.clock)
        d = _behind(w.departures, count)
        more, due = plan(t, d, now)
        if more > 0:
            reserve_numbers(t, w.floors, d.lane, d.number, more)
        _count(w.counters[1], more, begun, _ns(w.clock))
        if more == 0:
            break
        _arrange(d, w.sealed, w.batch, count)
        count += more
        if not _seal(t, w, count - more, count):
            return ASK, count - more, count, due
        if count == w.departures.length.size:
            break
    return DONE, count, count, due


@kernel
def sealed(t: Tables, w: Leaving, first: int, count: int) -> None:
    """Free the rows that were only needed until packets ``first`` to ``count - 1`` were sealed."""
    t = head(t)
    for i in range(first, count):
        if w.sealed.spare[i] >= 0:
            release_row(t, int64(w.sealed.spare[i]))


@kernel
def arrive(t: Tables, w: Arriving, batch: PacketBatch, first: int, count: int, now: float) -> tuple[int, int, int]:
    """Open ``count`` packets of ``batch`` from ``first`` on, and take what the AEAD vouched for.

    Returns
    -------
    tuple[int, int, int]
        DONE or ASK (then :func:`opened`); packets of ours; packets of nobody, whose indexes are in ``arrivals.miss``.
    """
    begun = _ns(w.clock)
    a = w.arrivals
    ours, misses = sort_arrivals(t, a, batch, first, count)
    if ours > 0:
        w.block[0] = batch.memory.ctypes.data
        w.block[1] = batch.memory.size
        _size_rows(w.block, ours)
        if not (_hire(w.lease, w.block, ours) and _all_judged(a.status, ours)):
            return ASK, ours, misses
    _count(w.counters[0], ours, begun, _ns(w.clock))
    if ours > 0:
        opened(t, w, batch, ours, now)
    return DONE, ours, misses


@kernel
def opened(t: Tables, w: Arriving, batch: PacketBatch, ours: int, now: float) -> None:
    """Take the first ``ours`` packets of the arrivals through the replay window into the span store."""
    begun = _ns(w.clock)
    accept_arrivals(t, w.arrivals, batch.address, ours, now)
    note_received(t, w.floors, w.arrivals.lane, ours)
    _count(w.counters[1], ours, begun, _ns(w.clock))
