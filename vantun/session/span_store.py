"""The receiving half of a channel: shards are kept until their block is complete, so that holes can be computed.

The records of a shard are delivered when it arrives, whatever its neighbours do; its row stays for the decoder.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.inbox import BAD_SHARD, KEPT, MALFORMED, NOT_NEEDED, REFUSED, deliver_area, violate
from vantun.session.layout import BLOCK_SPAN
from vantun.session.pool import ROW_UNIT, get_bit, own_row, release_row, set_bit
from vantun.session.tables import CHANNELS, DECODES, WINDOW, Tables, head
from vantun.wire.frames import CHANNEL_BITS, CHANNEL_MASK, DATA
from vantun.wire.integers import int64, uint64
from vantun.wire.packet_number import expand_number
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL


@kernel
def take_shard(t: Tables, session: int, kind: int, row: int, size: int, now: float) -> int:
    """Take the shard frame at its place in ``row``; return its fate. ``size`` = bytes of the frame behind its header.

    A shard that contradicts those before it ends the session: one of them is wrong, and all may be acknowledged.
    """
    start = row * t.pool[0].stride + ROW_UNIT
    named = int64(t.memory[start - 7])
    kind_of_channel = named & CHANNEL_MASK
    if t.session[session].restart or (named ^ (t.session[session].epoch << CHANNEL_BITS)) & 0xF0:
        t.pool[0].dropped_epoch += 1
        return REFUSED
    if kind_of_channel >= CHANNELS or size < UNIT_HEAD + UNIT_TAIL:
        return MALFORMED
    channel = session * CHANNELS + kind_of_channel
    ch = t.channel[channel]
    low = 0
    for i in range(4):
        low = (low << 8) | int64(t.memory[start - 6 + i])
    seq = expand_number(low, int64(ch.largest_seq))
    span = int64(t.memory[start - 2])
    number = seq >> 7
    if seq < 0 or span > BLOCK_SPAN:
        return MALFORMED
    if number < ch.floor:
        t.pool[0].dropped_late += 1
        return NOT_NEEDED
    if number >= ch.floor + WINDOW:
        t.pool[0].dropped_window += 1
        return REFUSED
    own_row(t, row, session)
    if number > ch.floor and t.session[session].rows > t.pool[0].rows_free:
        # One session may hold as many rows as are free, two a third each, and so on: there is always something left.
        # The oldest block is an exception, because it frees others.
        t.pool[0].dropped_bound += 1
        return REFUSED
    block = t.rx_block[channel, number & (WINDOW - 1)]
    if not block.used or block.number != number:
        _begin(block, number)
    if block.complete:
        t.pool[0].dropped_late += 1
        return NOT_NEEDED
    ch.largest_seq = max(ch.largest_seq, seq)
    if kind == DATA:
        fate = _take_data(t, channel, block, seq & (BLOCK_SPAN - 1), row, size, now)
    else:
        fate = _take_parity(t, channel, block, seq & (BLOCK_SPAN - 1), span, row, size)
    if fate == MALFORMED:
        violate(t, session, BAD_SHARD)
    return fate


@kernel
def _begin(block: np.record, number: int) -> None:
    block.used = 1
    block.number = number
    block.got[0] = 0
    block.got[1] = 0
    block.length = 0
    block.parity_head = -1
    block.k = 0
    block.have = 0
    block.parity = 0
    block.complete = 0
    block.queued = 0


@kernel
def _take_data(t: Tables, channel: int, block: np.record, column: int, row: int, size: int, now: float) -> int:
    start = row * t.pool[0].stride + ROW_UNIT
    span = int64(t.memory[start - 2])
    area = (int64(t.memory[start]) << 8) | int64(t.memory[start + 1])
    unit = UNIT_HEAD + area + UNIT_TAIL
    k = span if span > 0 else int64(block.k)
    if unit > size or (k > 0 and column >= k) or (block.k > 0 and k != block.k) or not _fits(block, k):
        return MALFORMED
    if get_bit(block.got, column):
        t.pool[0].dropped_late += 1
        if span > 0 and block.k == 0:
            block.k = span
            settle(t, channel, block)
        return NOT_NEEDED
    if block.parity > 0 and unit > t.row_unit[block.parity_head]:
        return MALFORMED
    fate = deliver_area(t, channel // CHANNELS, row, start + UNIT_HEAD, area, now)
    if fate != KEPT:
        return fate
    t.memory[start + unit : (row + 1) * t.pool[0].stride] = 0
    set_bit(block.got, column)
    block.have += 1
    block.length = max(block.length, unit)
    if span > 0:
        block.k = span
    t.rx_row[channel, block.number & (WINDOW - 1), column] = row
    t.channel[channel].rx_shards += 1
    settle(t, channel, block)
    return KEPT


@kernel
def _fits(block: np.record, k: int) -> bool:
    """Return whether a block of ``k`` data shards (0 = not known) is no contradiction to those that have come."""
    if k == 0 or k >= BLOCK_SPAN:
        return True
    above = block.got[k >> 6] >> uint64(k & 63)
    return above == uint64(0) and (k >= 64 or block.got[1] == uint64(0))


@kernel
def _take_parity(t: Tables, channel: int, block: np.record, column: int, span: int, row: int, size: int) -> int:
    matrix_row = int64(t.memory[row * t.pool[0].stride + ROW_UNIT - 1])
    if column != 0 or span == 0 or matrix_row > 126 or (block.k > 0 and span != block.k) or size < block.length:
        return MALFORMED
    if not _fits(block, span):
        return MALFORMED
    if block.parity > 0 and size != t.row_unit[block.parity_head]:
        return MALFORMED
    block.k = span
    t.channel[channel].rx_parity += 1
    piece = int64(block.parity_head)
    while piece >= 0:
        if t.row_tag[piece] == matrix_row:
            return NOT_NEEDED
        piece = int64(t.row_next[piece])
    if block.have + block.parity >= block.k:
        settle(t, channel, block)
        return NOT_NEEDED
    t.row_tag[row] = matrix_row
    t.row_unit[row] = size
    t.row_next[row] = block.parity_head
    block.parity_head = row
    block.parity += 1
    settle(t, channel, block)
    return KEPT


@kernel
def settle(t: Tables, channel: int, block: np.record) -> None:
    """Finish a block that has all its data, or queue it for the decoder when it has enough shards."""
    if block.k == 0 or block.complete:
        return
    if block.have >= block.k:
        complete_block(t, channel, block)
        return
    pool = t.pool[0]
    if block.have + block.parity >= block.k and not block.queued and pool.decodes < DECODES:
        block.queued = 1
        t.decode[pool.decodes, 0] = channel
        t.decode[pool.decodes, 1] = block.number & (WINDOW - 1)
        pool.decodes += 1


@kernel
def complete_block(t: Tables, channel: int, block: np.record) -> None:
    """Release the rows of a block that needs no more shards, and move the floor: that is credit for the peer."""
    slot = block.number & (WINDOW - 1)
    for column in range(BLOCK_SPAN):
        if get_bit(block.got, column):
            release_row(t, int64(t.rx_row[channel, slot, column]))
    drop_parity(t, block)
    block.complete = 1
    block.queued = 0
    ch = t.channel[channel]
    ch.rx_blocks += 1
    while True:
        first = t.rx_block[channel, ch.floor & (WINDOW - 1)]
        if not first.used or first.number != ch.floor or not first.complete:
            break
        first.used = 0
        ch.floor += 1


@kernel
def drop_parity(t: Tables, block: np.record) -> None:
    """Free the parity rows of a block."""
    piece = int64(block.parity_head)
    while piece >= 0:
        following = int64(t.row_next[piece])
        release_row(t, piece)
        piece = following
    block.parity_head = -1
    block.parity = 0


@kernel
def abandon_block(t: Tables, channel: int, number: int) -> bool:
    """Forget a block that the sender gave up (its records came again elsewhere); False if it is beyond the window."""
    t = head(t)
    ch = t.channel[channel]
    if number < ch.floor:
        return True
    if number >= ch.floor + WINDOW:
        return False
    block = t.rx_block[channel, number & (WINDOW - 1)]
    if not block.used or block.number != number:
        _begin(block, number)
    if not block.complete:
        complete_block(t, channel, block)
    return True
