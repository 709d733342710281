"""Bytes between the TCP sockets of lent streams and shard rows: one nopython call for all streams that have some.

What the stages refill and deliver do for a port in Python, in the same order and with the same bounds. Whatever is more
than bytes and credit becomes an event: the end of what a program sends, everything delivered, a stream that is broken.
Streams of users with a rate are left to the stage, which shares the rate out between them.
"""

from __future__ import annotations

from errno import EAGAIN, EINTR
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.stream_kernel import read_stream, write_stream
from vantun.session.blocks import room
from vantun.session.flows import (
    Reserved,
    commit,
    delivered,
    gather,
    grant_credit,
    note_burst,
    reserve,
    want_delivery,
)
from vantun.session.lane_frames import fastest_lane
from vantun.session.limits import MAX_FLOWS, MAX_SESSIONS
from vantun.session.pool import (
    EVENT_STREAM_ENDED,
    EVENT_STREAM_FAILED,
    EVENT_STREAM_TAKEN,
    ROUTINE_EVENTS,
    push_event,
)
from vantun.session.streams import forget_stream, lend_stream, want_refill
from vantun.session.tables import CHANNELS, SESSION_LANES, Tables, head
from vantun.wire.integers import int64

ROWS = 64
"""Rows a flow may fill before the next flow's turn."""
MOST_ROWS = 256
"""Rows of all flows together, if more, where reads are large: they share what a round of all flows, and of the stages
behind them, costs. With 64 a download took 1.6 times the processor time when that was in Python."""
LARGE = 65_536
"""Bytes of a read from which on the flow's next one is expected to be large, too: rows that nothing is read into are
prepared in vain."""
IOVECS = 256
_MIN_QUEUE = 96
_MAX_QUEUE = 4096
_QUEUE_SECONDS = 0.004
"""How much is read ahead of the pacer: more would only be latency for the requests behind it."""


class StreamWork(NamedTuple):
    """What :func:`fill_streams` and :func:`drain_streams` work on.

    Attributes
    ----------
    iov
        [shape=(IOVECS, 2), dtype=uint64] of a write.
    reserved
        Of a read.
    quota, asked
        [shape=(channels,), dtype=int64] shards that a channel may queue in the round that it was asked in.
    round
        [shape=(1,), dtype=int64] rounds so far.
    """

    iov: NDArray[np.uint64]
    reserved: Reserved
    quota: NDArray[np.int64]
    asked: NDArray[np.int64]
    round: NDArray[np.int64]


def stream_work() -> StreamWork:
    """Return one; memory that no channel needs is not touched."""
    channels = MAX_SESSIONS * CHANNELS
    return StreamWork(
        iov=np.zeros((IOVECS, 2), np.uint64),
        reserved=Reserved(iov=np.zeros((MOST_ROWS, 2), np.uint64), rows=np.zeros(MOST_ROWS, np.int32)),
        quota=np.zeros(channels, np.int64),
        asked=np.zeros(channels, np.int64),
        round=np.zeros(1, np.int64),
    )


@kernel
def queue_room(t: Tables, channel: int) -> int:
    """Return how many shards of a channel may be queued now."""
    t = head(t)
    session = channel // CHANNELS
    rate = 0.0
    for place in range(SESSION_LANES):
        lane = int64(t.session_lane[session, place])
        if lane >= 0:
            rate += t.lane[lane].pacing_rate
    limit = min(max(int64(rate * _QUEUE_SECONDS / 1200.0), _MIN_QUEUE), _MAX_QUEUE)
    # no session holds more rows than are free: two a third each, and so on
    share = int64(t.pool[0].rows_free) - int64(t.session[session].rows)
    return min(room(t, channel), limit - int64(t.channel[channel].queued), share)


@kernel
def _break(t: Tables, index: int, number: int) -> None:
    """Tell of a stream that was reset outside; compiled code leaves it alone from now on."""
    record = t.flow[index]
    forget_stream(t, index)
    push_event(t, EVENT_STREAM_FAILED, record.session, index, record.generation, number, 0)


@kernel
def _fill(t: Tables, w: StreamWork, index: int, base: int, most: int, now: float) -> int:
    """Give a stream its turn; return the bytes read."""
    record = t.flow[index]
    channel = note_burst(t, index, 0, now)
    if w.asked[channel] != w.round[0]:
        w.asked[channel] = w.round[0]
        w.quota[channel] = queue_room(t, channel)
    left = w.quota[channel]
    if left <= 0:
        want_refill(t, index)
        return 0
    count = reserve(t, index, base, min(left, most if record.large else ROWS), w.reserved)
    if count == 0:
        if not record.starved:
            want_refill(t, index)  # no row is free; a starved flow is woken by its credit instead
        return 0
    got = read_stream(int64(record.descriptor) - 1, w.reserved.iov, count)
    commit(t, index, channel, max(got, 0), count, w.reserved, now)
    if count >= ROWS:
        record.large = got >= LARGE
    if got > 0:
        note_burst(t, index, got, now)
        w.quota[channel] = left - count
        want_refill(t, index)
        return got
    if got == 0:
        push_event(t, EVENT_STREAM_ENDED, record.session, index, record.generation, 0, 0)
    elif got not in (-EAGAIN, -EINTR):
        _break(t, index, -got)
    return 0


@kernel
def fill_streams(t: Tables, w: StreamWork, base: int, now: float) -> int:
    """Read the sockets of the streams in the ring, each once; return the bytes. ``base``: the address of t.memory."""
    t = head(t)
    pool = t.pool[0]
    count = int64(pool.refills)
    if count == 0:
        return 0
    w.round[0] += 1
    most = max(ROWS, MOST_ROWS // count)
    total = 0
    for _ in range(count):
        if pool.events >= ROUTINE_EVENTS:
            break
        index = int64(t.refill[pool.refill_first & (MAX_FLOWS - 1)])
        pool.refill_first += 1
        pool.refills -= 1
        record = t.flow[index]
        record.refill = 0
        if record.used and record.descriptor > 0 and record.tx_open:
            total += _fill(t, w, index, base, most, now)
    return total


@kernel
def _drain(t: Tables, w: StreamWork, index: int, base: int, now: float) -> int:
    """Write until a socket is full or nothing is in order; return the bytes taken."""
    record = t.flow[index]
    total = 0
    while True:
        if record.final >= 0 and record.next >= record.final:
            push_event(t, EVENT_STREAM_TAKEN, record.session, index, record.generation, 0, 0)
            return total
        if not record.writable:
            break
        rows = gather(t, index, base, w.iov)
        if rows == 0:
            break
        taken = write_stream(int64(record.descriptor) - 1, w.iov, rows)
        if taken < 0:
            record.writable = 0
            if taken not in (-EAGAIN, -EINTR):
                _break(t, index, -taken)
                return total
            break
        delivered(t, index, taken)
        total += taken
    if total > 0 or record.owed:
        lane = fastest_lane(t, int64(record.session))
        granted = grant_credit(t, index, t.lane[lane].srtt if lane >= 0 else 0.1, now)
        record.owed = 0 if granted else 1
        if not granted:
            want_delivery(t, index)
    return total


@kernel
def drain_streams(t: Tables, w: StreamWork, base: int, now: float) -> int:
    """Write what waits for the sockets of lent streams; return the bytes. Other flows stay in the delivery list.

    So do streams whose users have a rate, and those whose credit could not be written.
    """
    t = head(t)
    pool = t.pool[0]
    count = int64(pool.delivers)
    pool.delivers = 0
    total = 0
    for i in range(count):  # the list grows behind what was looked at
        index = int64(t.deliver[i])
        record = t.flow[index]
        limited = t.user[t.session[record.session].user].receive_rate > 0.0
        record.deliver = 0
        if record.descriptor > 0 and not limited and pool.events < ROUTINE_EVENTS:
            total += _drain(t, w, index, base, now)
        elif record.used:
            want_delivery(t, index)
    return total


def rehearse_streams(root: Any, work: StreamWork) -> None:
    """Call every kernel that Python calls; ``root`` is tables that nobody uses any more."""
    lend_stream(root, 0, 0)
    want_refill(root, 0)
    forget_stream(root, 0)
    fill_streams(root, work, 0, 0.0)
    drain_streams(root, work, 0, 0.0)
