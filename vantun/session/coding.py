"""Between the tables and the FEC engine: which parity rows are wanted, which blocks can be rebuilt, what came of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.kernels.crc32c import unit_crc
from drivers.kernel import kernel
from vantun.session.inbox import BAD_SHARD, KEPT, deliver_area, violate
from vantun.session.layout import BLOCK_SPAN
from vantun.session.limits import MAX_SESSIONS
from vantun.session.pool import ROW_UNIT, get_bit, own_row, release_row, set_bit, take_row
from vantun.session.span_store import complete_block, settle
from vantun.session.tables import CHANNELS, WINDOW, Tables, head
from vantun.session.wheel import wake_due
from vantun.wire.integers import int64
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL


class Spans(NamedTuple):
    """The columns of a SpanJob, and the block each span belongs to."""

    data: NDArray[np.int64]
    parity: NDArray[np.int64]
    row: NDArray[np.uint8]
    lost: NDArray[np.uint8]
    data_start: NDArray[np.int32]
    parity_start: NDArray[np.int32]
    k: NDArray[np.int32]
    m: NDArray[np.int32]
    column: NDArray[np.int32]
    length: NDArray[np.int32]
    status: NDArray[np.int8]
    channel: NDArray[np.int32]
    slot: NDArray[np.int32]
    used: NDArray[np.int64]
    """[3] spans, data units and parity units described so far."""


def make_spans(spans: int, units: int) -> Spans:
    """Return room for ``spans`` spans of together ``units`` data and as many parity units."""
    return Spans(
        data=np.zeros(units, np.int64),
        parity=np.zeros(units, np.int64),
        row=np.zeros(units, np.uint8),
        lost=np.zeros(units, np.uint8),
        data_start=np.zeros(spans, np.int32),
        parity_start=np.zeros(spans, np.int32),
        k=np.zeros(spans, np.int32),
        m=np.zeros(spans, np.int32),
        column=np.zeros(spans, np.int32),
        length=np.zeros(spans, np.int32),
        status=np.zeros(spans, np.int8),
        channel=np.zeros(spans, np.int32),
        slot=np.zeros(spans, np.int32),
        used=np.zeros(3, np.int64),
    )


@kernel
def collect_wanted(t: Tables, s: Spans, now: float) -> tuple[int, int, int]:
    """Describe the parity rows that blocks want, and queue them for sending; return (spans, data units, parity units).

    The rows are taken from the pool here; the engine fills them before anything is planned. A session with blocks that
    want rows is active, or due very soon.
    """
    t = head(t)
    wake_due(t, now)
    s.used[:] = 0
    for i in range(t.pool[0].actives):
        session = int64(t.active[(t.pool[0].active_first + i) & (MAX_SESSIONS - 1)])
        for channel in range(session * CHANNELS, session * CHANNELS + CHANNELS):
            if t.channel[channel].wanted > 0 and not _collect_channel(t, channel, s):
                return s.used[0], s.used[1], s.used[2]
    return s.used[0], s.used[1], s.used[2]


@kernel
def _collect_channel(t: Tables, channel: int, s: Spans) -> bool:
    """Describe what the blocks of a channel want; False if there was no room for all of it."""
    ch = t.channel[channel]
    for number in range(ch.una_block, ch.block):
        block = t.block[channel, number & (WINDOW - 1)]
        if not block.used or block.number != number or block.wanted == 0 or block.k == 0:
            continue
        if not _has_room(s, int64(block.k), int64(block.wanted)):
            return False
        rows = _queue_rows(t, ch, block, s)
        if rows == 0:
            return False
        first = s.used[1]
        for column in range(block.k):
            s.data[first + column] = t.tx_row[channel, number & (WINDOW - 1), column] * t.pool[0].stride + ROW_UNIT
        _enter(s, channel, block, rows, int64(block.length))
    return True


@kernel
def _has_room(s: Spans, k: int, m: int) -> bool:
    """Return whether one more span fits."""
    return bool(s.used[0] < len(s.k) and s.used[1] + k <= len(s.data) and s.used[2] + m <= len(s.parity))


@kernel
def _enter(s: Spans, channel: int, block: np.record, m: int, length: int) -> None:
    """Enter a block as the next span; its units are described already."""
    span = s.used[0]
    s.data_start[span] = s.used[1]
    s.parity_start[span] = s.used[2]
    s.k[span] = block.k
    s.m[span] = m
    s.column[span] = 0
    s.length[span] = length
    s.status[span] = 0
    s.channel[span] = channel
    s.slot[span] = block.number & (WINDOW - 1)
    s.used[0] += 1
    s.used[1] += block.k
    s.used[2] += m


@kernel
def _queue_rows(t: Tables, ch: np.record, block: np.record, s: Spans) -> int:
    """Take the rows a block wants and append them to the channel's parity queue; return how many the pool gave."""
    stride = t.pool[0].stride
    first = s.used[2]
    count = 0
    while count < block.wanted:
        row = take_row(t)
        if row < 0:
            break
        t.row_tag[row] = block.rows_used
        t.row_seq[row] = block.number * BLOCK_SPAN
        t.row_unit[row] = block.length
        if ch.parity_head < 0:
            ch.parity_head = row
        else:
            t.row_next[ch.parity_tail] = row
        ch.parity_tail = row
        s.parity[first + count] = row * stride + ROW_UNIT
        s.row[first + count] = block.rows_used
        block.rows_used += 1
        count += 1
    block.wanted -= count
    ch.wanted -= count
    return count


@kernel
def collect_holes(t: Tables, s: Spans) -> tuple[int, int, int]:
    """Describe the blocks that can be rebuilt, with a fresh row for each lost shard.

    Return (spans, data units, parity units). Blocks that find no room stay on the list. A block may stand there twice
    (it was completed by its data, and another block came into its place), so ``queued`` ends when it is described.
    """
    t = head(t)
    pool = t.pool[0]
    s.used[:] = 0
    kept = 0
    for i in range(pool.decodes):
        channel = int64(t.decode[i, 0])
        slot = int64(t.decode[i, 1])
        block = t.rx_block[channel, slot]
        if not block.used or not block.queued or block.complete:
            continue
        m = int64(block.k) - block.have
        beyond = t.session[channel // CHANNELS].spans + m > pool.spans_free  # it would be refused, and computed again
        if not _has_room(s, int64(block.k), m) or pool.rows_free < m or beyond:
            t.decode[kept, 0] = channel
            t.decode[kept, 1] = slot
            kept += 1
            continue
        block.queued = 0
        _describe_holes(t, s, channel, block, m)
    pool.decodes = kept
    return s.used[0], s.used[1], s.used[2]


@kernel
def _describe_holes(t: Tables, s: Spans, channel: int, block: np.record, m: int) -> None:
    stride = t.pool[0].stride
    slot = block.number & (WINDOW - 1)
    data, parity = s.used[1], s.used[2]
    hole = parity
    for column in range(block.k):
        if not get_bit(block.got, column):
            t.rx_row[channel, slot, column] = take_row(t)
            s.lost[hole] = column
            hole += 1
        s.data[data + column] = t.rx_row[channel, slot, column] * stride + ROW_UNIT
    row = int64(block.parity_head)
    length = int64(t.row_unit[row])
    for i in range(m):
        s.parity[parity + i] = row * stride + ROW_UNIT
        s.row[parity + i] = t.row_tag[row]
        row = int64(t.row_next[row])
    _enter(s, channel, block, m, length)


@kernel
def check_rebuilt(t: Tables, s: Spans, span: int) -> bool:
    """Return whether every rebuilt unit of a span has a sound length and CRC-32C: a sick engine is found here."""
    t = head(t)
    for i in range(s.m[span]):
        start = s.data[s.data_start[span] + s.lost[s.parity_start[span] + i]]
        area = (int64(t.memory[start]) << 8) | int64(t.memory[start + 1])
        body = UNIT_HEAD + area
        if body + UNIT_TAIL > s.length[span]:
            return False
        crc = 0
        for byte in range(UNIT_TAIL):
            crc = (crc << 8) | int64(t.memory[start + body + byte])
        if crc != int64(unit_crc(t.memory, start, body)):
            return False
    return True


@kernel
def accept_rebuilt(t: Tables, s: Spans, span: int, now: float) -> bool:
    """Deliver the rebuilt shards of a checked span and finish its block; False if their records could not be taken now.

    Shards that could not be taken keep the block on the decoder's list; their rows are returned and computed again.
    """
    t = head(t)
    channel = int64(s.channel[span])
    block = t.rx_block[channel, int64(s.slot[span])]
    stride = t.pool[0].stride
    whole = True
    for i in range(s.m[span]):
        column = int64(s.lost[s.parity_start[span] + i])
        row = int64(t.rx_row[channel, s.slot[span], column])
        start = row * stride + ROW_UNIT
        area = (int64(t.memory[start]) << 8) | int64(t.memory[start + 1])
        own_row(t, row, channel // CHANNELS)
        fate = deliver_area(t, channel // CHANNELS, row, start + UNIT_HEAD, area, now) if not block.complete else KEPT
        if fate != KEPT:
            release_row(t, row)
            whole = False
            continue
        set_bit(block.got, column)
        block.have += 1
        t.channel[channel].rx_recovered += 1
    if whole:
        complete_block(t, channel, block)
        return True
    settle(t, channel, block)
    return False


@kernel
def discard_rebuilt(t: Tables, s: Spans, span: int) -> None:
    """Give back the rows of a span that came out wrong; the session is ended, because its shards were acknowledged."""
    t = head(t)
    channel = int64(s.channel[span])
    for i in range(s.m[span]):
        column = int64(s.lost[s.parity_start[span] + i])
        release_row(t, int64(t.rx_row[channel, s.slot[span], column]))
        t.pool[0].dropped_crc += 1
    violate(t, channel // CHANNELS, BAD_SHARD)
