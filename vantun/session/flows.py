"""Flows: byte streams by absolute offset, in both directions, under absolute credit (RFC 9000, sections 2-4).

Received bytes stay in the rows of their shards, as pieces chained in order of offset, until the port has taken them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.blocks import enter_shard, finish_unit
from vantun.session.index import find, flow_key, insert, remove
from vantun.session.pool import ROW_UNIT, release_row, release_span, stack_up, stacked, take_row, take_span
from vantun.session.signals import signal_pair
from vantun.session.streams import forget_stream
from vantun.session.tables import CHANNELS, PACKETS, Tables, head
from vantun.session.users import most_window
from vantun.wire.integers import int64
from vantun.wire.records import CREDIT, UNIT_HEAD, UNIT_TAIL, put_stream_head, stream_head_size

UNKNOWN, STREAM_FLOW, PACKET_FLOW = range(3)
"""Kind of a flow: a record may overtake the OPEN that tells it."""


@kernel
def find_flow(t: Tables, session: int, flow: int) -> int:
    """Return the index of flow id ``flow``, or -1."""
    return find(t.flow_key, t.flow_value, flow_key(session, flow))


@kernel
def begin_flow(t: Tables, session: int, flow: int, now: float) -> int:
    """Enter a flow; return its index, or -1 when the table is full."""
    t = head(t)
    pool = t.pool[0]
    if pool.flows_free == 0:
        return -1
    index = stacked(t.free_flow, pool.flows, pool.flows_free)
    pool.flows_free -= 1
    record = t.flow[index]
    policy = t.policy[0]
    record.used = 1
    record.session = session
    record.id = flow
    record.generation += 1
    record.tx_open = 1
    record.large = 0
    record.descriptor = 0
    record.starved = 0
    record.offset = 0
    record.credit = policy.window_initial
    record.burst = 0.0
    record.burst_at = now
    record.bulk = 0
    record.writable = 0
    record.announced = 0
    record.discard = 0
    record.next = 0
    record.final = -1
    record.granted = policy.window_initial
    record.window = policy.window_initial
    record.window_at = now
    record.owed = 0
    record.head = -1
    record.tail = -1
    record.pending = 0
    record.kind = UNKNOWN
    record.mode = 0
    record.pieces = 0
    record.hint = -1
    record.scan = -1
    record.ready = -1
    record.final_at = np.inf
    record.hold_at = np.inf
    # ``deliver``, ``refill`` and ``holding`` stay: the flow that had this row may still stand in these lists
    t.session[session].flows += 1
    insert(t.flow_key, t.flow_value, flow_key(session, flow), index)
    return index


@kernel
def end_flow(t: Tables, index: int) -> None:
    """Forget a flow and free what it held."""
    t = head(t)
    record = t.flow[index]
    drop_pieces(t, index)
    forget_stream(t, index)
    packets = t.channel[record.session * CHANNELS + PACKETS]
    if packets.open_flow == index:
        packets.open_flow = -1
    remove(t.flow_key, t.flow_value, flow_key(record.session, record.id))
    t.session[record.session].flows -= 1
    record.used = 0
    pool = t.pool[0]
    stack_up(t.free_flow, pool.flows, pool.flows_free, index)
    pool.flows_free += 1


@kernel
def drop_pieces(t: Tables, index: int) -> None:
    """Free everything received and not delivered."""
    record = t.flow[index]
    piece = int64(record.head)
    while piece >= 0:
        following = int64(t.span[piece].next)
        release_span(t, piece)
        piece = following
    record.head = -1
    record.tail = -1
    record.pending = 0
    t.session[record.session].pieces -= record.pieces
    record.pieces = 0
    record.hint = -1
    record.scan = -1
    record.ready = -1


# --- receiving


@kernel
def take_piece(t: Tables, index: int, offset: int, start: int, length: int, row: int) -> bool:
    """Accept ``length`` bytes at stream ``offset``, lying at ``start`` in ``row``; False if they exceed the credit.

    The caller has checked that pieces are free, and that nothing lies beyond the final size. What was delivered, or is
    covered by the piece before it, is dropped.
    """
    record = t.flow[index]
    if offset + length > record.granted:
        return False
    if length == 0 or record.discard or offset + length <= record.next:
        return True
    before = -1
    after = int64(record.head)
    tail = int64(record.tail)
    appended = tail >= 0 and t.span[tail].offset <= offset
    if appended:
        before, after = tail, -1
    else:
        hint = int64(record.hint)
        if hint >= 0 and t.span[hint].offset <= offset:
            before, after = hint, int64(t.span[hint].next)
        steps = 0
        while after >= 0 and t.span[after].offset <= offset:
            before, after = after, int64(t.span[after].next)
            steps += 1
        t.session[record.session].effort -= steps
    if before >= 0 and t.span[before].offset + t.span[before].length >= offset + length:
        return True
    piece = take_span(t, int64(record.session))
    entry = t.span[piece]
    entry.offset = offset
    entry.start = start
    entry.length = length
    entry.row = row
    entry.next = after
    t.row_refs[row] += 1
    record.pending += length
    if before >= 0:
        t.span[before].next = piece
    else:
        record.head = piece
    if after < 0:
        record.tail = piece
    if not appended:
        record.hint = piece
    if t.span[record.head].offset <= record.next:
        want_delivery(t, index)
    return True


@kernel
def received_end(t: Tables, index: int) -> int:
    """Return the end of the last byte that has come: a final size may not be smaller."""
    record = t.flow[index]
    end = int64(record.next)
    piece = int64(record.head)
    while piece >= 0:
        end = max(end, t.span[piece].offset + t.span[piece].length)
        piece = int64(t.span[piece].next)
    return end


@kernel
def want_delivery(t: Tables, index: int) -> None:
    """Put a flow on the delivery list, once."""
    t = head(t)
    record = t.flow[index]
    if record.deliver:
        return
    record.deliver = 1
    pool = t.pool[0]
    t.deliver[pool.delivers] = index
    pool.delivers += 1


@kernel
def gather(t: Tables, index: int, base: int, iov: NDArray[np.uint64]) -> int:
    """Fill ``iov`` (address, length) with the next bytes in order; return the rows used.

    ``base`` is the address of ``t.memory``.
    """
    t = head(t)
    record = t.flow[index]
    expected = record.next
    piece = int64(record.head)
    count = 0
    while piece >= 0 and count < len(iov):
        entry = t.span[piece]
        if entry.offset > expected:
            break
        skip = expected - entry.offset
        if skip < entry.length:
            iov[count, 0] = np.uint64(base + entry.start + skip)
            iov[count, 1] = np.uint64(entry.length - skip)
            count += 1
            expected = entry.offset + entry.length
        piece = int64(entry.next)
    return count


@kernel
def delivered(t: Tables, index: int, size: int) -> bool:
    """Move on by ``size`` delivered bytes; return whether everything up to the final size is delivered."""
    t = head(t)
    record = t.flow[index]
    record.next += size
    while record.head >= 0:
        entry = t.span[record.head]
        if entry.offset + entry.length > record.next:
            break
        following = int64(entry.next)
        record.pending -= entry.length
        if record.hint == record.head:
            record.hint = -1
        release_span(t, int64(record.head))
        record.head = following
    if record.head < 0:
        record.tail = -1
    return bool(record.final >= 0 and record.next >= record.final)


@kernel
def widen_credit(t: Tables, index: int, now: float) -> bool:
    """Grant a new flow its share of the pool at once: half of what is free, over the flows that are open.

    Between the initial credit (what both ends assume) and the policy's largest window. False if there was no room for
    the record.
    """
    t = head(t)
    record = t.flow[index]
    policy = t.policy[0]
    open_flows = 4 + t.session[record.session].flows
    window = t.pool[0].rows_free * 512 // open_flows
    window = max(policy.window_initial, min(window, most_window(t, record.session) // 2))
    if window <= record.window:
        return True
    if not signal_pair(t, record.session, CREDIT, record.id, record.next + window, now):
        return False
    record.window = window
    record.granted = record.next + window
    return True


@kernel
def grant_credit(t: Tables, index: int, rtt: float, now: float) -> bool:
    """Raise the credit when an eighth of the window is used, and widen a window that is used up within two RTT.

    Return False if the record could not be written now.
    """
    t = head(t)
    record = t.flow[index]
    # An eighth: with half, repairs on a lossy path (three round trips at 15 %) met an empty window: 12 % less goodput.
    if record.final >= 0 or record.granted - record.next > record.window - record.window // 8:
        return True
    window = record.window
    if now - record.window_at < 0.5 * max(rtt, 0.002) + 0.005:
        window = min(window * 2, min(most_window(t, record.session), t.pool[0].rows_free * 256))
        window = max(window, record.window)
    if not signal_pair(t, record.session, CREDIT, record.id, record.next + window, now):
        return False
    record.window = window
    record.window_at = now
    record.granted = max(record.granted, record.next + window)
    return True


# --- sending


class Reserved(NamedTuple):
    """Rows that wait for a flow's next bytes."""

    iov: NDArray[np.uint64]
    """[n, 2] (address, length) of the space in each row, as ``struct iovec``."""
    rows: NDArray[np.int32]


@kernel
def reserve(t: Tables, index: int, base: int, limit: int, into: Reserved) -> int:
    """Prepare up to ``limit`` rows for the flow's next bytes; return how many.

    Each gets a STREAM head; ``into.iov`` points at the space behind it (addresses from ``base``, that of ``t.memory``),
    as far as the credit goes.
    """
    t = head(t)
    record = t.flow[index]
    area = t.session[record.session].unit - UNIT_HEAD - UNIT_TAIL
    offset = int64(record.offset)
    stride = t.pool[0].stride
    count = 0
    while count < limit and offset < record.credit:
        row = take_row(t)
        if row < 0:
            break
        start = row * stride + ROW_UNIT + UNIT_HEAD
        data = put_stream_head(t.memory, start, record.id, offset)
        size = min(area - (data - start), record.credit - offset)
        into.rows[count] = row
        into.iov[count, 0] = np.uint64(base + data)
        into.iov[count, 1] = np.uint64(size)
        offset += size
        count += 1
    if count == 0 and offset >= record.credit:
        record.starved = 1
    return count


@kernel
def commit(t: Tables, index: int, channel: int, size: int, count: int, reserved: Reserved, now: float) -> None:
    """Give numbers to the rows that ``size`` bytes were read into, and free the others of ``count`` reserved ones."""
    t = head(t)
    record = t.flow[index]
    for i in range(count):
        row = int64(reserved.rows[i])
        if size <= 0:
            release_row(t, row)
            continue
        taken = min(size, int64(reserved.iov[i, 1]))
        finish_unit(t, row, stream_head_size(record.id, record.offset) + taken)
        record.offset += taken
        size -= taken
        enter_shard(t, channel, row, now)


@kernel
def note_burst(t: Tables, index: int, size: int, now: float) -> int:
    """Class the flow by how much it sends at a stretch; return its channel."""
    t = head(t)
    record = t.flow[index]
    policy = t.policy[0]
    record.burst *= 0.5 ** ((now - record.burst_at) / 0.25)
    record.burst_at = now
    record.burst += size
    if record.burst > policy.bulk_after:
        record.bulk = 1
    elif record.burst < policy.bulk_after / 4:
        record.bulk = 0
    return int64(record.session * CHANNELS + (2 if record.bulk else 1))
