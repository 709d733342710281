"""What leaves next, and on which lane.

Order within a session: RECEIPTs and probes, then channel by channel (control, interactive, packets, bulk) what has to
be made good before what is new; new packets and new bulk take turns. Interactive shards take the fastest lane that has
room; bulk takes the lane with the most credit in time, which spreads it over the lanes in proportion to their rates.
Packets go as interactive shards while they are few, and are spread when many wait.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.blocks import (
    CLOSED_DATA,
    close_due,
    find_block,
    order_standing,
    packet_hold,
    release_block,
    set_expiry,
)
from vantun.session.deadlines import expire_blocks
from vantun.session.departures import FRAME_START, Departures, emit, is_full
from vantun.session.lane_frames import plan_lane
from vantun.session.layout import BLOCK_SPAN
from vantun.session.packets_out import flush_packets
from vantun.session.pool import clear_bit, get_bit, release_row
from vantun.session.rate import HELD_BY_PACER, HELD_BY_WINDOW, QUANTUM_MOST, QUANTUM_SECONDS, refill_tokens
from vantun.session.recovery import ACTIVE, register_sent, run_timers
from vantun.session.restart import epoch_bits
from vantun.session.signals import flush_signals
from vantun.session.tables import (
    BULK,
    CHANNELS,
    CONTROL,
    INFLIGHT,
    INTERACTIVE,
    PACKETS,
    SESSION_LANES,
    WINDOW,
    Tables,
    head,
)
from vantun.session.users import may_send, send_wait
from vantun.session.wheel import hold, next_active, next_due, set_due, wake, wake_due
from vantun.wire.frames import (
    DATA,
    PARITY,
    SHARD_HEADER,
    put_shard_header,
)
from vantun.wire.integers import int64
from vantun.wire.short_header import HEADER_LENGTH, TAG_LENGTH

_FRESH, _REPAIR = range(2)
"""Urgency of a shard: repairs take the fastest lane, because a whole block waits for them."""
_ALL = 1 << 30
_TURN = 16
"""New shards that packets, then bulk, may send until it is the other's turn: each gets half while both have enough."""
_MANY_PACKETS = 32
"""Shards of packets that wait when they are spread; below, they fill one lane after the other, and stay in order."""
_RUN = 32
"""Shards that are spread go by one lane until so many have: what reaches the other end together, a packet of a TUN or
a message of receive offload, is then mostly whole."""
_ENCODE_SOON, _ENCODE_LATER = 1e-4, 5e-3


@kernel
def plan(t: Tables, d: Departures, now: float) -> tuple[int, float]:
    """Fill ``d`` from the sessions that are active or due; return (packets, when to call again if nothing arrives).

    Call it until it returns no packets: a session that has sent something is looked at once more.
    """
    t = head(t)
    d.planned[0] = 0
    d.now[0] = now
    wake_due(t, now)
    for _ in range(t.pool[0].actives):
        if is_full(d):
            break
        session = next_active(t)
        t.pool[0].planned_sessions += 1
        before = d.planned[0]
        due = _plan_session(t, d, session, now)
        t.session[session].active = 0
        if due <= now or d.planned[0] > before:
            wake(t, session)
        else:
            set_due(t, session, due)
    return int64(d.planned[0]), next_due(t, now)


@kernel
def _plan_session(t: Tables, d: Departures, session: int, now: float) -> float:
    """Run the timers of a session and send what it may; return when to look at it again."""
    due = np.inf
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane >= 0:
            refill_tokens(t.lane[lane], now, d.now[1])
            due = min(due, run_timers(t, lane, now))
            due = min(due, plan_lane(t, d, lane))
    due = min(due, expire_blocks(t, session, now))
    flush_signals(t, session, now)
    flush_packets(t, session, now)
    for kind in range(CHANNELS):
        due = min(due, close_due(t, session * CHANNELS + kind, now))
    due = min(due, _plan_channels(t, d, session))
    for kind in range(CHANNELS):
        if t.channel[session * CHANNELS + kind].wanted > 0:  # rows of blocks that closed just now: encode, and again
            due = min(due, now + (_ENCODE_SOON if t.pool[0].rows_free > 0 else _ENCODE_LATER))
    return due


@kernel
def _has_room(t: Tables, lane: int, size: int, patience: float) -> bool:
    """Return whether a lane may send ``size`` bytes now; ``patience`` = bytes it may go over its pacing and window."""
    record = t.lane[lane]
    if record.state != ACTIVE or record.standby or size > record.mtu or record.next_pn - record.una >= INFLIGHT - 1:
        return False
    if record.in_flight + size > record.cwnd + patience:
        record.limited = HELD_BY_WINDOW
        return False
    if record.tokens + patience <= 0.0:
        record.limited = HELD_BY_PACER
        return False
    return True


@kernel
def choose_lane(t: Tables, session: int, kind: int, size: int, urgency: int) -> int:
    """Return the lane for a shard of ``size`` bytes (UDP payload) of a channel class, or -1 when none has room."""
    packets = t.channel[session * CHANNELS + PACKETS]
    light = kind != BULK and (kind != PACKETS or packets.burst <= t.policy[0].bulk_after)
    spread = urgency == _FRESH and (kind == BULK or (kind == PACKETS and not light and packets.queued > _MANY_PACKETS))
    owner = t.session[session]
    if spread and owner.run > 0:
        lane = int64(t.session_lane[session, owner.run_lane])
        if lane >= 0 and _has_room(t, lane, size, 0.0):
            owner.run -= 1
            return lane
    best = -1
    best_score = -np.inf
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane < 0:
            continue
        record = t.lane[lane]
        patience = 0.0
        if light:
            patience = 16.0 * 1228.0
        if urgency == _REPAIR and record.pto_count > 0:
            patience = np.inf
        if not _has_room(t, lane, size, patience):
            continue
        score = record.tokens / max(record.pacing_rate, 1.0) if spread else -record.srtt
        if score > best_score:
            best, best_score = lane, score
            if spread:
                owner.run, owner.run_lane = _RUN - 1, i
    return best


@kernel
def _settle_standby(t: Tables, session: int) -> None:
    """Have backup lanes rest while a primary one is active; what they are probed with goes on."""
    primary = False
    for i in range(SESSION_LANES):
        if t.session_lane[session, i] >= 0:
            record = t.lane[t.session_lane[session, i]]
            record.limited = 0
            primary |= record.state == ACTIVE and not record.backup
    for i in range(SESSION_LANES):
        if t.session_lane[session, i] >= 0:
            record = t.lane[t.session_lane[session, i]]
            record.standby = 1 if primary and record.backup else 0


@kernel
def _plan_channels(t: Tables, d: Departures, session: int) -> float:
    _settle_standby(t, session)
    hold(t, session, 0)
    if t.session[session].restart:  # the peer has not forgotten the shards of the former epoch yet
        return np.inf
    waiting = False
    for kind in (CONTROL, INTERACTIVE, PACKETS, BULK):
        channel = session * CHANNELS + kind
        waiting |= not _send_again(t, d, channel)
        waiting |= not _send_parity(t, d, channel)
        if kind in (CONTROL, INTERACTIVE):
            waiting |= not _send_new(t, d, channel, _ALL)
    waiting |= not _send_in_turns(t, d, session)
    if is_full(d):
        return np.float64(d.now[0])
    hold(t, session, 1 if waiting else 0)
    return _next_send(t, session, waiting, d.now[0])


@kernel
def _next_send(t: Tables, session: int, waiting: bool, now: float) -> float:  # noqa: FBT001 - a fact, not a mode
    """Return when pacing allows the next packet; mark lanes that had nothing to send as application-limited."""
    due = np.inf
    held = send_wait(t, session)
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane < 0 or t.lane[lane].state != ACTIVE:
            continue
        record = t.lane[lane]
        if record.standby or ((not waiting or held > 0.0) and not record.limited):
            record.app_limited = record.delivered + max(record.in_flight, 1)
        if (
            waiting
            and not record.standby
            and record.in_flight < record.cwnd
            and record.next_pn - record.una < INFLIGHT - 1
        ):
            quantum = min(max(record.pacing_rate * QUANTUM_SECONDS, 1228.0), QUANTUM_MOST)
            due = min(due, now + max(quantum - record.tokens, 0.0) / max(record.pacing_rate, 1.0))
    return max(due, now + held)


@kernel
def _send_again(t: Tables, d: Departures, channel: int) -> bool:
    """Send marked shards again; return whether none had to wait."""
    ch = t.channel[channel]
    number = int64(ch.una_block)
    while ch.repairs > 0 and number <= ch.block:
        slot = number & (WINDOW - 1)
        block = t.block[channel, slot]
        number += 1
        if not block.used or block.number != number - 1 or (block.again[0] == 0 and block.again[1] == 0):
            continue
        for column in range(block.n):
            if not get_bit(block.again, column):
                continue
            if not _send_data(t, d, channel, block, column, _REPAIR):
                return False
            clear_bit(block.again, column)
            ch.repairs -= 1
            ch.resent += 1
            ch.resent_bytes += t.row_unit[t.tx_row[channel, slot, column]]
    return True


@kernel
def _send_data(t: Tables, d: Departures, channel: int, block: np.record, column: int, urgency: int) -> bool:
    """Send one data shard if a lane has room for it; return whether it was sent."""
    row = int64(t.tx_row[channel, block.number & (WINDOW - 1), column])
    unit = int64(t.row_unit[row])
    size = HEADER_LENGTH + SHARD_HEADER + unit + TAG_LENGTH
    if is_full(d):
        return False
    lane = choose_lane(t, channel // CHANNELS, channel % CHANNELS, size, urgency)
    if lane < 0:
        return False
    seq = block.number * BLOCK_SPAN + column
    start = row * t.pool[0].stride + FRAME_START
    named = epoch_bits(t, channel // CHANNELS) | (channel % CHANNELS)
    put_shard_header(t.memory, start, DATA, named, seq, int64(block.k), 0)
    kind = CLOSED_DATA if block.k > 0 else DATA
    number = register_sent(t, lane, kind, channel, seq, size, d.now[0])
    emit(t, d, lane, row, SHARD_HEADER + unit, number, -1)
    return True


@kernel
def _send_parity(t: Tables, d: Departures, channel: int) -> bool:
    """Send computed rows, oldest first, and drop those of released blocks; return whether none had to wait."""
    ch = t.channel[channel]
    while ch.parity_head >= 0:
        row = int64(ch.parity_head)
        slot = find_block(t, channel, t.row_seq[row])
        if slot >= 0:
            if not _send_row(t, d, channel, int64(t.block[channel, slot].k), row):
                return False
            ch.parity += 1
        ch.parity_head = t.row_next[row]
        if ch.parity_head < 0:
            ch.parity_tail = -1
        if slot < 0:
            release_row(t, row)
    return True


@kernel
def _send_row(t: Tables, d: Departures, channel: int, k: int, row: int) -> bool:
    """Send one parity row if a lane has room for it; return whether it was sent. The row is freed once sealed."""
    unit = int64(t.row_unit[row])
    size = HEADER_LENGTH + SHARD_HEADER + unit + TAG_LENGTH
    if is_full(d):
        return False
    lane = choose_lane(t, channel // CHANNELS, channel % CHANNELS, size, _REPAIR)
    if lane < 0:
        return False
    seq = t.row_seq[row]
    start = row * t.pool[0].stride + FRAME_START
    named = epoch_bits(t, channel // CHANNELS) | (channel % CHANNELS)
    put_shard_header(t.memory, start, PARITY, named, seq, k, int64(t.row_tag[row]))
    t.channel[channel].parity_bytes += unit
    number = register_sent(t, lane, PARITY, channel, seq, size, d.now[0])
    emit(t, d, lane, row, SHARD_HEADER + unit, number, row)
    return True


@kernel
def _send_new(t: Tables, d: Departures, channel: int, most: int) -> bool:
    """Send up to ``most`` shards that were never sent, in order; return whether none had to wait."""
    ch = t.channel[channel]
    due = d.now[0] + (packet_hold(t, channel // CHANNELS) if channel % CHANNELS == PACKETS else 0.0)
    while ch.queued > 0 and most > 0:
        if channel % CHANNELS != CONTROL and not may_send(t, channel // CHANNELS, d.now[0]):
            return False
        block = t.block[channel, ch.send_block & (WINDOW - 1)]
        if not block.used or block.number != ch.send_block or ch.send_column >= block.n:
            if ch.send_block >= ch.block:
                break
            ch.send_block += 1
            ch.send_column = 0
            continue
        if block.k > 0 and block.told and block.acked_count >= block.k:
            # The peer has all of it already. What is planned may not be released: another packet of this plan would
            # be written into its row before it is sealed.
            release_block(t, channel, block)
            continue
        if not _send_data(t, d, channel, block, int64(ch.send_column), _FRESH):
            return False
        if channel % CHANNELS == PACKETS:
            set_expiry(t, channel, block, due)
        ch.send_column += 1
        ch.queued -= 1
        block.sent += 1
        if block.k > 0:
            order_standing(ch, block)
        most -= 1
    return True


@kernel
def _send_in_turns(t: Tables, d: Departures, session: int) -> bool:
    """Send new packets and new bulk in turns of _TURN shards; return whether none had to wait."""
    record = t.session[session]
    packets, bulk = session * CHANNELS + PACKETS, session * CHANNELS + BULK
    while t.channel[packets].queued > 0 or t.channel[bulk].queued > 0:
        mine = packets if record.turn < _TURN else bulk
        left = _TURN - record.turn % _TURN
        queued = int64(t.channel[mine].queued)
        if queued > 0 and not _send_new(t, d, mine, left):
            record.turn = (record.turn + queued - t.channel[mine].queued) % (2 * _TURN)
            if mine == bulk:
                _send_new(t, d, packets, _TURN)  # a few packets may go where bulk has to wait
            return False
        # a turn that is not used up is over
        record.turn = _TURN if mine == packets else 0
    return True
