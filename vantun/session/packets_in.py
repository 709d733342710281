"""The receiving half of packet flows: pieces wait in order of offset until a packet is whole or too late.

A record is kept as at most two pieces: the rest of a packet that began in an earlier shard, and what follows, which
*begins* a packet. So delivery can go on at any piece that begins one. A piece knows since when something at or behind
its place has been here: for so long the hole before it has been noticed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.blocks import packet_hold
from vantun.session.flows import PACKET_FLOW, drop_pieces, want_delivery
from vantun.session.packets_out import LENGTH_SIZE, MAX_PACKET
from vantun.session.pool import EVENT_VIOLATION, push_event, release_span, take_span
from vantun.session.tables import CHANNELS, PACKETS, Tables, head
from vantun.session.users import may_receive, take_received
from vantun.wire.integers import int64

ORDERED, NOW = 1, 2
"""Modes of a packet flow: in order until the deadline (``tun:``), or each packet as soon as it is whole (``udp:``)."""
PACKET_PIECES = 256
"""Rows of ``iov`` that next_packet() wants: a packet in more pieces than that is dropped and counted."""
_INCOMPLETE, _ABSURD = -1, -2
BAD_PACKETS = 8
"""Why a session is ended; the other reasons are in inbox.py, which imports this file."""


@kernel
def take_packets(t: Tables, index: int, fields: NDArray[np.int64], row: int, now: float) -> None:
    """Keep the bytes of a PACKETS record, as get_record() reads it into ``fields``, that lies in ``row``.

    What is beyond the bounds, or too late, is dropped and counted. The caller has checked that two pieces are free.
    """
    record = t.flow[index]
    policy = t.policy[0]
    session = t.session[record.session]
    ch = t.channel[record.session * CHANNELS + PACKETS]
    offset, start, size, first = fields[2], fields[3], fields[4], fields[5]
    if record.discard or size == 0:
        return
    if record.pieces + 2 > policy.pieces_per_flow or session.pieces + 2 > policy.pieces_per_session:
        ch.dropped_bound += 1
    else:
        if first > 0:
            _keep(t, index, _piece(t, int64(record.session), row, offset, start, first), 0, now)
        if first < size:
            _keep(t, index, _piece(t, int64(record.session), row, offset + first, start + first, size - first), 1, now)
    want_delivery(t, index)


@kernel
def _piece(t: Tables, session: int, row: int, offset: int, start: int, length: int) -> int:
    piece = take_span(t, session)
    entry = t.span[piece]
    entry.offset = offset
    entry.start = start
    entry.length = length
    entry.row = row
    t.row_refs[row] += 1
    return piece


@kernel
def _keep(t: Tables, index: int, piece: int, begins: int, now: float) -> None:
    """Put a piece in its place in order of offset, or drop it: it is there already, or delivery has gone on."""
    record = t.flow[index]
    entry = t.span[piece]
    entry.begins = begins
    before = -1
    after = int64(record.head)
    tail = int64(record.tail)
    appended = tail >= 0 and t.span[tail].offset <= entry.offset
    if appended:
        before, after = tail, -1
    else:
        hint = int64(record.hint)
        if hint >= 0 and t.span[hint].offset <= entry.offset:
            before, after = hint, int64(t.span[hint].next)
        steps = 0
        while after >= 0 and t.span[after].offset <= entry.offset:
            before, after = after, int64(t.span[after].next)
            steps += 1
        t.session[record.session].effort -= steps
    late = record.mode != NOW and entry.offset < record.next
    if late or (before >= 0 and t.span[before].offset + t.span[before].length >= entry.offset + entry.length):
        t.channel[record.session * CHANNELS + PACKETS].dropped_late += 1
        release_span(t, piece)
        return
    entry.at = now if after < 0 else min(now, t.span[after].at)
    entry.next = after
    if before >= 0:
        t.span[before].next = piece
    else:
        record.head = piece
    if after < 0:
        record.tail = piece
    if not appended:
        record.hint = piece
    record.scan = -1
    record.ready = -1
    record.pending += entry.length
    record.pieces += 1
    t.session[record.session].pieces += 1


@kernel
def _drop(t: Tables, record: np.record, before: int) -> int:
    """Free the piece behind ``before`` (-1 = the first); return the one that follows it."""
    piece = int64(record.head) if before < 0 else int64(t.span[before].next)
    entry = t.span[piece]
    following = int64(entry.next)
    if before < 0:
        record.head = following
    else:
        t.span[before].next = following
    if following < 0:
        record.tail = before
    if record.hint == piece:
        record.hint = before
    record.pending -= entry.length
    record.pieces -= 1
    t.session[record.session].pieces -= 1
    release_span(t, piece)
    return following


@kernel
def _whole(t: Tables, piece: int) -> tuple[int, float]:
    """Look at the packet that ``piece`` begins; return (bytes of its body, since when what follows it has been here).

    Instead of the bytes _INCOMPLETE, or _ABSURD for a length that no packet has.
    """
    expected = int64(t.span[piece].offset)
    value = 0
    got = 0
    end = -1
    since = 0.0
    while piece >= 0:
        entry = t.span[piece]
        since = float(entry.at)
        if entry.offset > expected:
            return _INCOMPLETE, since
        skip = expected - entry.offset
        while got < LENGTH_SIZE and skip < entry.length:
            value = (value << 8) | int64(t.memory[entry.start + skip])
            skip += 1
            got += 1
            expected += 1
        if got == LENGTH_SIZE and end < 0:
            if value > MAX_PACKET:
                return _ABSURD, since
            end = expected + value
        expected = max(expected, int64(entry.offset + entry.length))
        if 0 <= end <= expected:
            return value, since
        piece = int64(entry.next)
    return _INCOMPLETE, since


@kernel
def _describe(t: Tables, piece: int, size: int, base: int, iov: NDArray[np.uint64]) -> int:
    """Fill ``iov`` with the body of the whole packet that ``piece`` begins; return its rows, or -1 for too many."""
    expected = int64(t.span[piece].offset) + LENGTH_SIZE
    end = expected + size
    count = 0
    while count == 0 or expected < end:
        entry = t.span[piece]
        skip = expected - entry.offset
        part = min(int64(entry.length) - skip, end - expected)
        if part > 0 or (size == 0 and skip <= entry.length):
            if count == len(iov):
                return -1
            iov[count, 0] = np.uint64(base + entry.start + skip)
            iov[count, 1] = np.uint64(part)
            count += 1
            expected += part
        piece = int64(entry.next)
    return count


@kernel
def next_packet(t: Tables, flow_index: int, base: int, iov: NDArray[np.uint64], now: float) -> tuple[int, int]:
    """Find the next deliverable packet; return (rows of ``iov`` that describe its body, bytes of the body).

    ``iov`` [shape=(PACKET_PIECES, 2), dtype=uint64] receives (address, length) with addresses from ``base``, that of
    ``t.memory``. (0, 0) = nothing now. An empty packet has one row of length 0. What the rows point at stays until
    :func:`packet_done`; without it, the same packet comes again.
    """
    t = head(t)
    record = t.flow[flow_index]
    if not record.used or record.kind != PACKET_FLOW:
        return 0, 0
    policy = t.policy[0]
    session = t.session[record.session]
    hold = packet_hold(t, int64(record.session))
    if record.pieces > policy.pieces_per_flow // 4 * 3 or session.pieces > policy.pieces_per_session // 4 * 3:
        hold = 0.0  # better to go on than to drop what arrives
    while True:
        size = _find_now(t, flow_index, hold, now) if record.mode == NOW else _find_next(t, flow_index, hold, now)
        if size < 0:
            return 0, 0
        count = _describe(t, int64(record.ready), size, base, iov)
        if count > 0 and may_receive(t, int64(record.session), now):
            return count, size
        if count > 0:  # whole, not by the record: a packet begins in one and ends in the next, a third was lost so
            t.user[session.user].dropped_rate += 1
            t.pool[0].dropped_rate += 1
        else:
            t.channel[record.session * CHANNELS + PACKETS].dropped_bound += 1
        _free_ready(t, record)


@kernel
def _find_next(t: Tables, index: int, hold: float, now: float) -> int:
    """Find the packet at the flow's place, or behind a hole that has been there for ``hold``; -1 = none."""
    record = t.flow[index]
    record.ready = -1
    while record.head >= 0:
        entry = t.span[record.head]
        since = float(entry.at)
        here = entry.offset == record.next
        if here and entry.begins:
            size, since = _whole(t, int64(record.head))
            if size >= 0:
                record.ready = record.head
                record.ready_end = entry.offset + LENGTH_SIZE + size
                return size
            if size == _ABSURD:
                _break(t, index)
                return -1
        lost = here and not entry.begins  # its beginning was given up
        if not lost and now < since + hold:
            _hold_until(t, index, since + hold)
            return -1
        _give_up(t, index)
    return -1


@kernel
def _give_up(t: Tables, index: int) -> None:
    """Go on at the next piece behind the flow's place that begins a packet."""
    record = t.flow[index]
    ch = t.channel[record.session * CHANNELS + PACKETS]
    start = int64(record.next)
    piece = int64(record.head)
    if not t.span[piece].begins or t.span[piece].offset == start:
        end = start
        while piece >= 0:
            end = max(end, int64(t.span[piece].offset + t.span[piece].length))
            piece = _drop(t, record, -1)
            if piece >= 0 and t.span[piece].begins:
                break
        record.next = end
    if piece >= 0:
        record.next = t.span[piece].offset
    ch.holes += 1
    ch.skipped += max(0, record.next - start)


@kernel
def _find_now(t: Tables, index: int, hold: float, now: float) -> int:
    """Find any whole packet, and free what can no longer become one; -1 = none."""
    record = t.flow[index]
    ch = t.channel[record.session * CHANNELS + PACKETS]
    record.ready = -1
    before = int64(record.scan)
    piece = int64(record.head) if before < 0 else int64(t.span[before].next)
    due = np.inf
    while piece >= 0:
        entry = t.span[piece]
        since = float(entry.at)
        if entry.begins:
            size, since = _whole(t, piece)
            if size >= 0:
                record.scan = before
                record.ready = piece
                record.ready_end = entry.offset + LENGTH_SIZE + size
                _hold_until(t, index, due)
                return size
            if size == _ABSURD:
                _break(t, index)
                return -1
        if now >= since + hold:
            ch.holes += 1
            ch.skipped += entry.length
            piece = _drop(t, record, before)
            continue
        due = min(due, since + hold)
        before = piece
        piece = int64(entry.next)
    record.scan = before
    _hold_until(t, index, due)
    return -1


@kernel
def packet_done(t: Tables, flow_index: int) -> None:
    """Free the packet that next_packet() gave last; nothing happens if there was none."""
    t = head(t)
    record = t.flow[flow_index]
    if record.used and record.ready >= 0:
        take_received(t, int64(record.session), int64(record.ready_end - t.span[record.ready].offset))
        _free_ready(t, record)
        t.channel[record.session * CHANNELS + PACKETS].packets_out += 1


@kernel
def _free_ready(t: Tables, record: np.record) -> None:
    """Free the pieces of the packet that was found last, or their part of it, and move on behind it."""
    end = int64(record.ready_end)
    start = int64(t.span[record.ready].offset)
    before = int64(record.scan) if record.mode == NOW else -1
    piece = int64(record.head) if before < 0 else int64(t.span[before].next)
    while piece >= 0 and t.span[piece].offset < end:
        entry = t.span[piece]
        over = int64(entry.offset + entry.length) - end
        if over <= 0:
            piece = _drop(t, record, before)
            continue
        record.pending -= entry.length - over
        entry.start += entry.length - over
        entry.offset = end
        entry.length = over
        before = piece
        piece = int64(entry.next)
    record.ready = -1
    # in order this is a place in the stream; else it counts bytes, to know when all have come
    record.next = record.next + end - start if record.mode == NOW else end


@kernel
def _break(t: Tables, index: int) -> None:
    """End the session of a flow whose packets cannot be told apart any more."""
    record = t.flow[index]
    record.discard = 1
    drop_pieces(t, index)
    if not t.session[record.session].violation:
        t.session[record.session].violation = BAD_PACKETS
        push_event(t, EVENT_VIOLATION, int64(record.session), 0, BAD_PACKETS, 0, 0)


@kernel
def _hold_until(t: Tables, index: int, due: float) -> None:
    """Have the flow delivered again at ``due``, whatever arrives until then."""
    if due == np.inf:
        return
    record = t.flow[index]
    pool = t.pool[0]
    if not record.holding:
        record.holding = 1
        t.holding[pool.holdings] = index
        pool.holdings += 1
    record.hold_at = min(record.hold_at, due)
    pool.hold_due = min(pool.hold_due, due)


@kernel
def wake_packets(t: Tables, now: float) -> float:
    """Put the flows whose time is over on the delivery list; return when to call again (inf = none waits)."""
    t = head(t)
    pool = t.pool[0]
    if now < pool.hold_due:
        return float(pool.hold_due)
    kept = 0
    due = np.inf
    for i in range(pool.holdings):
        index = int64(t.holding[i])
        record = t.flow[index]
        if record.used and record.kind == PACKET_FLOW and now < record.hold_at < np.inf:
            t.holding[kept] = index
            kept += 1
            due = min(due, float(record.hold_at))
            continue
        record.holding = 0
        record.hold_at = np.inf
        if record.used and record.kind == PACKET_FLOW:
            record.scan = -1
            want_delivery(t, index)
    pool.holdings = kept
    pool.hold_due = due
    return due


@kernel
def packets_over(t: Tables, index: int, now: float) -> bool:
    """Return whether everything before the peer's FIN has been delivered, or given up."""
    t = head(t)
    record = t.flow[index]
    if record.final < 0:
        return False
    if record.next >= record.final:
        return True
    due = float(record.final_at) + packet_hold(t, int64(record.session))
    if now < due:
        _hold_until(t, index, due)
        return False
    return True
