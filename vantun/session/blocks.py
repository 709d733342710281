"""The sending half of a channel: shards get numbers, blocks close, lost shards are made good.

A shard is numbered when it enters and sent once. What is lost afterwards is repaired by new rows of the block's code
(type-II hybrid ARQ). When a block's rows run out, or FEC is off, the lost shard itself goes again under its own
number: the receiver needs no notice of it. ``live`` counts the shards of a block that are queued, wanted or in flight;
a block is short of shards when accepted + live < k.

The receiver learns k from parity, and from data that left after the block had closed. A block that closed by time may
have all its data accepted before any of those: it stays until one of them is acknowledged, else the receiver would
wait for more of it for ever and its window would fill.
"""

from __future__ import annotations

import numpy as np

from accel.kernels.crc32c import unit_crc
from drivers.kernel import kernel
from vantun.session.layout import BLOCK_SPAN
from vantun.session.parity import least_rows, standing_rows
from vantun.session.pool import ROW_UNIT, clear_bit, get_bit, own_row, release_row, set_bit
from vantun.session.tables import (
    BULK,
    CHANNELS,
    CONTROL,
    INTERACTIVE,
    PACKETS,
    SESSION_LANES,
    WINDOW,
    Tables,
    head,
)
from vantun.session.wheel import wake
from vantun.wire.frames import DATA, PARITY
from vantun.wire.integers import int64
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL

CLOSED_DATA = DATA | 0x40
"""Kind of a DATA shard whose header told k: it left after its block had closed."""
_LANE_ACTIVE = 2
"""recovery.ACTIVE, which imports this file."""
_UNKNOWN_RTT = 0.1


@kernel
def block_target(t: Tables, channel: int) -> int:
    """Return after how many shards a block of this channel is full."""
    policy = t.policy[0]
    kind = channel % CHANNELS
    if kind == CONTROL:
        return int64(policy.k_control)
    if kind == INTERACTIVE:
        return int64(policy.k_interactive)
    return int64(policy.k_bulk if kind == BULK else policy.k_packets)


@kernel
def _budget(t: Tables, kind: int) -> float:
    """Return how long after its first shard a block closes."""
    policy = t.policy[0]
    if kind == BULK:
        return np.inf
    if kind == PACKETS:
        return float(policy.budget_packets)
    return float(policy.budget_control if kind == CONTROL else policy.budget_interactive)


@kernel
def packet_hold(t: Tables, session: int) -> float:
    """Return how long packets wait for missing ones, and how long after its sending a block can still be repaired.

    A loss is noticed after a round trip, an eighth of one for reordering and another for the RECEIPT; the repair takes
    as long as the packet itself would have. Both ends reckon with the slowest lane in use.
    """
    policy = t.policy[0]
    rtt = 0.0
    for i in range(SESSION_LANES):
        lane = t.session_lane[session, i]
        if lane >= 0 and t.lane[lane].state == _LANE_ACTIVE:
            rtt = max(rtt, t.lane[lane].srtt)
    if rtt == 0.0:
        rtt = _UNKNOWN_RTT
    return float(min(max(1.5 * rtt + 0.03, policy.hold_min), policy.hold_max))


@kernel
def room(t: Tables, channel: int) -> int:
    """Return how many shards may be numbered now: the peer's credit and this end's window allow so many blocks."""
    t = head(t)
    ch = t.channel[channel]
    limit = min(ch.credit, ch.una_block + WINDOW)
    if ch.block >= limit:
        return 0
    target = block_target(t, channel)
    block = t.block[channel, ch.block & (WINDOW - 1)]
    begun = int64(block.n) if block.used and block.number == ch.block else 0
    return int64(target - begun + (limit - ch.block - 1) * target)


@kernel
def finish_unit(t: Tables, row: int, area: int) -> int:
    """Complete the unit in ``row``: length field, CRC-32C, zero padding to the end of the row; return its size.

    ``area`` bytes of records stand behind the length field.
    """
    stride = t.pool[0].stride
    start = row * stride + ROW_UNIT
    t.memory[start] = np.uint8(area >> 8)
    t.memory[start + 1] = np.uint8(area & 0xFF)
    body = UNIT_HEAD + area
    crc = int64(unit_crc(t.memory, start, body))
    for i in range(UNIT_TAIL):
        t.memory[start + body + i] = np.uint8((crc >> (8 * (3 - i))) & 0xFF)
    t.memory[start + body + UNIT_TAIL : (row + 1) * stride] = 0
    t.row_unit[row] = body + UNIT_TAIL
    return body + UNIT_TAIL


@kernel
def enter_shard(t: Tables, channel: int, row: int, now: float) -> None:
    """Give the finished unit in ``row`` a number; the channel owns the row until its block is released.

    Needs :func:`room`.
    """
    ch = t.channel[channel]
    block = t.block[channel, ch.block & (WINDOW - 1)]
    if not block.used or block.number != ch.block:
        _begin(block, ch.block)
    kind = channel % CHANNELS
    if block.n == 0:
        block.deadline = now + _budget(t, kind)
    if kind == PACKETS and block.acked_count >= block.n:  # nothing older waits for an answer
        set_expiry(t, channel, block, now + t.policy[0].hold_max)
    t.tx_row[channel, ch.block & (WINDOW - 1), block.n] = row
    block.length = max(block.length, t.row_unit[row])
    block.n += 1
    block.live += 1
    ch.queued += 1
    ch.shards += 1
    ch.bytes += t.row_unit[row]
    own_row(t, row, channel // CHANNELS)
    wake(t, channel // CHANNELS)
    if block.n >= block_target(t, channel):
        close_block(t, channel)


@kernel
def set_expiry(t: Tables, channel: int, block: np.record, due: float) -> None:
    """Let a block of packets live until ``due``.

    Before it is sent, that is as long as it may wait at all: a path that is just being measured is slower than it will
    be. Then it is :func:`packet_hold`: what repairs it must leave by then to arrive in time.
    """
    block.expires = due
    t.channel[channel].expiry = min(t.channel[channel].expiry, block.expires)


@kernel
def _begin(block: np.record, number: int) -> None:
    block.used = 1
    block.number = number
    for i in range(2):
        block.acked[i] = 0
        block.again[i] = 0
    block.n = 0
    block.k = 0
    block.sent = 0
    block.live = 0
    block.acked_count = 0
    block.rows_used = 0
    block.wanted = 0
    block.standing = 0
    block.length = 0
    block.told = 0


@kernel
def path_loss(t: Tables, session: int) -> float:
    """Return the loss that parity has to cover: the worst of the session's usable lanes."""
    worst = 0.0
    for i in range(SESSION_LANES):
        lane = t.session_lane[session, i]
        if lane >= 0 and t.lane[lane].state == _LANE_ACTIVE:
            worst = max(worst, t.lane[lane].loss_seen)
    return worst


@kernel
def _standing(t: Tables, channel: int, k: int) -> int:
    """Return how many rows a block of k shards gets as it closes: what loss asks for, at least what is configured."""
    policy = t.policy[0]
    wanted = standing_rows(k, path_loss(t, channel // CHANNELS), policy.residual)
    return max(int64(wanted), least_rows(k, policy.overhead))


@kernel
def close_block(t: Tables, channel: int) -> None:
    """Fix k of the open block, order its standing parity, and begin the next block with the next shard."""
    ch = t.channel[channel]
    block = t.block[channel, ch.block & (WINDOW - 1)]
    policy = t.policy[0]
    block.k = block.n
    wanted = 0
    if channel % CHANNELS != BULK and policy.max_rows > 0:
        wanted = min(_standing(t, channel, int64(block.k)), int64(policy.max_rows))
        block.live += wanted
        block.standing = wanted
        order_standing(ch, block)
    ch.last_k = block.k
    ch.last_m = wanted
    ch.block += 1
    make_good(t, channel, block)
    release_if_done(t, channel, block)


@kernel
def _want(ch: np.record, block: np.record, rows: int) -> None:
    block.wanted += rows
    block.live += rows
    ch.wanted += rows


@kernel
def _rows_taken(block: np.record) -> int:
    """Return how many rows of its code a block has used or will use."""
    return int64(block.rows_used + block.wanted + block.standing)


@kernel
def order_standing(ch: np.record, block: np.record) -> None:
    """Order the standing parity of a closed block once its data has left: ahead of it, it would be taken for a hole."""
    if block.sent >= block.k and block.standing > 0:
        block.wanted += block.standing
        ch.wanted += block.standing
        block.standing = 0


@kernel
def send_again(t: Tables, channel: int, block: np.record, column: int) -> None:
    """Mark a data shard to be sent again under its own number."""
    if get_bit(block.again, column) or get_bit(block.acked, column):
        return
    set_bit(block.again, column)
    block.live += 1
    t.channel[channel].repairs += 1


@kernel
def make_good(t: Tables, channel: int, block: np.record) -> None:
    """Order what a closed block is short of: new rows first, its own shards again when rows have run out."""
    need = int64(block.k) - block.acked_count - block.live
    if need <= 0 and not block.told and block.live == 0:
        need = 1
    if need <= 0:
        return
    rows = min(need, int64(t.policy[0].max_rows) - _rows_taken(block))
    if rows > 0:
        _want(t.channel[channel], block, rows)
        need -= rows
    column = 0
    while need > 0 and column < block.sent:
        before = block.live
        send_again(t, channel, block, column)
        need -= block.live - before
        column += 1
    if need > 0 and not block.told and block.live == 0:  # everything is there but k: any shard tells it
        set_bit(block.again, 0)
        block.live += 1
        t.channel[channel].repairs += 1


@kernel
def find_block(t: Tables, channel: int, seq: int) -> int:
    """Return the slot of the block that holds ``seq``, or -1 if it was released."""
    number = seq >> 7
    slot = number & (WINDOW - 1)
    block = t.block[channel, slot]
    if not block.used or block.number != number:
        return -1
    return slot


@kernel
def shard_acked(t: Tables, channel: int, kind: int, seq: int, was_live: bool) -> None:  # noqa: FBT001 - a fact, not a mode
    """Account for an accepted shard; ``was_live`` is False if it had been given up as lost before."""
    slot = find_block(t, channel, seq)
    if slot < 0:
        return
    block = t.block[channel, slot]
    if was_live:
        block.live -= 1
    if kind != DATA:
        block.told = 1
    if kind != PARITY:
        column = seq & (BLOCK_SPAN - 1)
        if not get_bit(block.acked, column):
            set_bit(block.acked, column)
            block.acked_count += 1
        if get_bit(block.again, column):
            clear_bit(block.again, column)
            block.live -= 1
            t.channel[channel].repairs -= 1
    else:
        block.acked_count += 1
    if block.k > 0:
        make_good(t, channel, block)
    release_if_done(t, channel, block)


@kernel
def shard_lost(t: Tables, channel: int, kind: int, seq: int) -> None:
    """Account for a shard given up as lost, and order its replacement."""
    t.channel[channel].lost += 1
    slot = find_block(t, channel, seq)
    if slot < 0:
        return
    block = t.block[channel, slot]
    block.live -= 1
    if block.k == 0:
        if t.policy[0].max_rows > 0:
            close_block(t, channel)
        elif kind != PARITY:
            send_again(t, channel, block, seq & (BLOCK_SPAN - 1))
        return
    no_rows = _rows_taken(block) >= t.policy[0].max_rows
    if kind != PARITY and no_rows and block.acked_count + block.live < block.k:
        send_again(t, channel, block, seq & (BLOCK_SPAN - 1))
    make_good(t, channel, block)


@kernel
def one_more(t: Tables, channel: int, block: np.record) -> bool:
    """Order one more row (or shard) for a block that is not acknowledged; return whether there was one to order.

    A probe timeout sends it.
    """
    if block.k == 0:
        if t.policy[0].max_rows > 0:
            close_block(t, channel)
        else:
            return _again_first(t, channel, block)
        if not block.used:
            return False
    if _rows_taken(block) < t.policy[0].max_rows:
        _want(t.channel[channel], block, 1)
        return True
    return _again_first(t, channel, block)


@kernel
def _again_first(t: Tables, channel: int, block: np.record) -> bool:
    for column in range(block.sent):
        if not get_bit(block.acked, column) and not get_bit(block.again, column):
            send_again(t, channel, block, column)
            return True
    return False


@kernel
def release_if_done(t: Tables, channel: int, block: np.record) -> None:
    """Free the rows of a block that the peer can complete and knows to be complete, and move the window."""
    if block.k == 0 or block.acked_count < block.k or block.sent < block.k or not block.told:
        return
    release_block(t, channel, block)


@kernel
def release_block(t: Tables, channel: int, block: np.record) -> None:
    """Free the rows of ``block`` and forget what it still wanted."""
    ch = t.channel[channel]
    slot = block.number & (WINDOW - 1)
    for column in range(block.n):
        release_row(t, t.tx_row[channel, slot, column])
        if get_bit(block.again, column):
            ch.repairs -= 1
    ch.wanted -= block.wanted
    ch.queued -= block.n - block.sent
    ch.released += 1
    block.used = 0
    while ch.una_block < ch.block and not t.block[channel, ch.una_block & (WINDOW - 1)].used:
        ch.una_block += 1


@kernel
def close_due(t: Tables, channel: int, now: float) -> float:
    """Close the open block if its time is over; return when it will be (inf = nothing open)."""
    ch = t.channel[channel]
    block = t.block[channel, ch.block & (WINDOW - 1)]
    if not block.used or block.number != ch.block or block.n == 0 or t.policy[0].max_rows == 0:
        return np.inf
    if now >= block.deadline:
        # a block that would get no parity stays open and goes on filling: closing it would only waste numbers
        if _standing(t, channel, int64(block.n)) == 0:
            block.deadline = np.inf
            return np.inf
        close_block(t, channel)
        return np.inf
    return np.float64(block.deadline)
