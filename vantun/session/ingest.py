"""From datagrams to shards: connection id to lane, row for the plaintext; once opened, replay window and frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import kernel
from vantun.session.ecn import note_mark, on_counts
from vantun.session.inbox import BAD_FRAME, BAD_RECEIPT, KEPT, MALFORMED, NOT_NEEDED, TOO_MANY, violate
from vantun.session.index import find
from vantun.session.layout import RESPONSES
from vantun.session.limits import PACKET_START
from vantun.session.pool import (
    EVENT_LANE_CLOSED,
    EVENT_REKEY_RECEIVED,
    ROUTINE_EVENTS,
    ROW_UNIT,
    push_event,
    release_row,
    take_row,
)
from vantun.session.rebind import address_key, note_source, trial_answered
from vantun.session.received import is_replay, note_number, note_range
from vantun.session.recovery import ACTIVE, VALIDATING, on_receipt, set_state
from vantun.session.restart import epoch_bits, read_restart
from vantun.session.span_store import take_shard
from vantun.session.tables import CHANNELS, SESSION_LANES, Tables, head
from vantun.session.wheel import wake
from vantun.wire.frames import (
    CHANNEL_MASK,
    CLOSE,
    DATA,
    MAX_CHANNELS,
    MAX_RANGES,
    PADDING,
    PARITY,
    PROBE,
    PROBE_DATA,
    PROBE_RESPONSE,
    RECEIPT,
    RESTART,
    RESTARTED,
    SHARD_HEADER,
    get_ranges,
)
from vantun.wire.integers import int64, uint64
from vantun.wire.records import UNIT_HEAD, UNIT_TAIL
from vantun.wire.short_header import HEADER_LENGTH, KEY_PHASE, LONG_HEADER, TAG_LENGTH, get_cid
from vantun.wire.varint import get_varint

assert PACKET_START == ROW_UNIT - SHARD_HEADER - HEADER_LENGTH
"""Where a packet's header starts in its row."""
_RECEIPT_PACKETS = 64
_STATUS_DONE = 1


class Arrivals(NamedTuple):
    """Packets of this worker in a received batch: the columns of an OpenJob, and where they belong."""

    source_offset: NDArray[np.int64]
    target_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]
    lane: NDArray[np.int32]
    row: NDArray[np.int32]
    source: NDArray[np.int32]
    """Row of the batch's addresses that says where the packet came from."""
    ecn: NDArray[np.uint8]
    miss: NDArray[np.int32]
    """Indexes of packets that belong to no lane."""


@kernel
def sort_arrivals(t: Tables, a: Arrivals, batch: PacketBatch, first: int, count: int) -> tuple[int, int]:
    """Find the lane of each packet of ``batch`` from ``first`` on, and a row for its plaintext.

    Return (packets of ours, packets of nobody).
    """
    t = head(t)
    memory = batch.memory
    ours = 0
    misses = 0
    stride = t.pool[0].stride
    for i in range(count):
        start = batch.offset[first + i]
        size = int64(batch.length[first + i])
        lane = -1
        if size >= HEADER_LENGTH + 4 + TAG_LENGTH and memory[start] & LONG_HEADER == 0:
            lane = find(t.lane_key, t.lane_value, get_cid(memory, start))
        if lane < 0:
            a.miss[misses] = first + i
            misses += 1
            continue
        if PACKET_START + size - TAG_LENGTH > stride:
            t.pool[0].dropped_malformed += 1
            continue
        row = take_row(t)
        if row < 0:
            t.pool[0].dropped_no_row += 1
            continue
        a.source_offset[ours] = start
        a.target_offset[ours] = row * stride + PACKET_START
        a.length[ours] = size
        a.slot[ours] = t.lane[lane].slot
        a.number[ours] = t.lane[lane].largest_rx
        a.status[ours] = 0
        a.lane[ours] = lane
        a.row[ours] = row
        a.source[ours] = batch.peer[first + i]
        a.ecn[ours] = batch.ecn[first + i]
        ours += 1
    return ours, misses


@kernel
def accept_arrivals(t: Tables, a: Arrivals, address: NDArray[np.uint8], count: int, now: float) -> None:
    """Take ``count`` opened packets: what failed authentication or came before is dropped and counted, the rest read.

    ``address`` are the socket addresses that ``a.source`` names. Nothing more is taken from a peer that broke the
    protocol; its session is about to be ended.
    """
    t = head(t)
    ranges = np.empty((MAX_RANGES, 2), np.int64)
    source = -1
    high, low, port = uint64(0), uint64(0), int64(0)
    for i in range(count):
        lane = int64(a.lane[i])
        row = int64(a.row[i])
        record = t.lane[lane]
        if a.status[i] != _STATUS_DONE:
            t.pool[0].dropped_bad += 1
            record.bad_tags += 1
            release_row(t, row)
            continue
        if t.session[record.session].violation:
            t.pool[0].dropped_malformed += 1
            release_row(t, row)
            continue
        number = a.number[i]
        if is_replay(t, lane, number):
            t.pool[0].dropped_replay += 1
            release_row(t, row)
            continue
        if a.source[i] != source:
            source = int64(a.source[i])
            high, low, port = address_key(address, source)
        elsewhere = port != record.peer_port or low != record.peer_low or high != record.peer_high
        if (elsewhere or record.trial) and port > 0 and not t.session[record.session].client:
            note_source(t, lane, address, source, number, int64(a.length[i]), now)
        _note_phase(t, lane, row, number, now)
        note_number(t, lane, number)
        record.received += 1
        record.received_bytes += a.length[i]
        t.user[t.session[record.session].user].received_bytes += a.length[i]
        wake(t, int64(record.session))
        record.largest_rx_at = now if number == record.largest_rx else record.largest_rx_at
        if record.state == VALIDATING and not t.session[record.session].client:
            set_state(t, lane, ACTIVE)
            record.last_heard = now
        fate, eliciting = _read_frames(t, lane, row, int64(a.length[i]) - TAG_LENGTH, ranges, now)
        if eliciting and fate in (KEPT, NOT_NEEDED):
            note_range(t, lane, number)
            note_mark(record, int64(a.ecn[i]))
            _owe_receipt(record, now)
        if fate == MALFORMED:
            t.pool[0].dropped_malformed += 1
        if fate != KEPT:
            release_row(t, row)


@kernel
def _note_phase(t: Tables, lane: int, row: int, number: int, now: float) -> None:
    """Follow the peer's key update (RFC 9001, section 6.2)."""
    record = t.lane[lane]
    first = t.memory[row * t.pool[0].stride + PACKET_START]
    phase = 1 if first & KEY_PHASE else 0
    if phase != record.rx_phase and number > record.largest_rx:
        record.rx_phase = phase
        record.rx_phase_at = now
        record.rx_phase_start = number
        push_event(t, EVENT_REKEY_RECEIVED, record.session, lane, phase, 0, 0)


@kernel
def _owe_receipt(record: np.record, now: float) -> None:
    """Schedule a RECEIPT: after 64 packets or an eighth of the RTT, at once while the lane is young."""
    unreported = int64(record.unreported) + 1
    record.unreported = unreported
    if unreported >= _RECEIPT_PACKETS or record.received < 32:
        record.receipt_due = now
    elif record.receipt_due == 0.0:
        rtt = record.srtt if record.srtt > 0.0 else 0.02
        record.receipt_due = now + min(max(rtt / 8.0, 0.001), 0.02)


@kernel
def _read_frames(t: Tables, lane: int, row: int, size: int, ranges: NDArray[np.int64], now: float) -> tuple[int, bool]:
    """Read the frames of one packet; return (fate of its row, whether it asks for acknowledgement)."""
    session = int64(t.lane[lane].session)
    base = row * t.pool[0].stride + PACKET_START
    end = base + size
    position = base + HEADER_LENGTH
    kind = int64(t.memory[position])
    shard = kind in (DATA, PARITY)
    if shard:
        room = end - (position + SHARD_HEADER)
        if room < UNIT_HEAD + UNIT_TAIL:
            return MALFORMED, False
        position = end
        if kind == DATA:
            start = base + HEADER_LENGTH + SHARD_HEADER
            area = (int64(t.memory[start]) << 8) | int64(t.memory[start + 1])
            position = min(end, start + UNIT_HEAD + area + UNIT_TAIL)
    eliciting = shard
    receipts = 0
    while position < end:
        frame = int64(t.memory[position])
        if frame == PADDING:
            position += 1
            continue
        if frame == RECEIPT:
            receipts += 1
            if receipts > SESSION_LANES:
                violate(t, session, TOO_MANY)
                return MALFORMED, False
        position = _read_frame(t, lane, frame, position + 1, end, ranges, now)
        if position < 0:
            return MALFORMED, False
        eliciting = eliciting or frame == PROBE
    if not shard:
        return NOT_NEEDED, eliciting
    return take_shard(t, session, kind, row, size - HEADER_LENGTH - SHARD_HEADER, now), True


@kernel
def _read_frame(
    t: Tables, lane: int, frame: int, position: int, end: int, ranges: NDArray[np.int64], now: float
) -> int:
    """Act on one frame that carries no shard; return the position behind it, or -1."""
    record = t.lane[lane]
    if frame in (PROBE, PROBE_RESPONSE):
        if end - position < PROBE_DATA:
            return -1
        value = uint64(0)
        for i in range(PROBE_DATA):
            value = (value << uint64(8)) | uint64(t.memory[position + i])
        if frame == PROBE:
            if record.response_due < RESPONSES:
                record.response_value[record.response_due] = value
                record.response_due += 1
        elif record.trial and trial_answered(t, lane, value, now):
            record.last_heard = now
        elif value == record.probe_value and record.probe_sent > 0.0:
            record.last_heard = now
            if record.state != ACTIVE:
                set_state(t, lane, ACTIVE)
        return position + PROBE_DATA
    if frame == RECEIPT:
        return _read_receipt(t, lane, position, end, ranges, now)
    if frame in (RESTART, RESTARTED):
        return read_restart(t, lane, frame, position, end)
    if frame == CLOSE:
        code, position = get_varint(t.memory, position, end)
        size, position = get_varint(t.memory, position, end)
        if position < 0 or size > end - position:
            return -1
        if t.pool[0].events < ROUTINE_EVENTS:
            push_event(t, EVENT_LANE_CLOSED, record.session, lane, code, 0, 0)
        return position + size
    violate(t, int64(record.session), BAD_FRAME)
    return -1


@kernel
def _read_receipt(t: Tables, lane: int, position: int, end: int, ranges: NDArray[np.int64], now: float) -> int:
    """Act on a RECEIPT: ranges for the lane that it names, credit for the session's channels."""
    session = int64(t.lane[lane].session)
    path, position = get_varint(t.memory, position, end)
    largest, position = get_varint(t.memory, position, end)
    delay, position = get_varint(t.memory, position, end)
    ect0, position = get_varint(t.memory, position, end)
    ect1, position = get_varint(t.memory, position, end)
    ce, position = get_varint(t.memory, position, end)
    if position < 0:
        return -1
    count, position = get_ranges(t.memory, position, end, largest, ranges)
    channels, position = get_varint(t.memory, position, end)
    if position < 0 or channels > MAX_CHANNELS:
        return -1
    for _ in range(channels):
        if position >= end:
            return -1
        named = int64(t.memory[position])
        limit, position = get_varint(t.memory, position + 1, end)
        if position < 0:
            return -1
        if named & CHANNEL_MASK < CHANNELS and named & ~CHANNEL_MASK == epoch_bits(t, session):
            ch = t.channel[session * CHANNELS + (named & CHANNEL_MASK)]
            ch.credit = max(ch.credit, limit)
    for i in range(SESSION_LANES):
        reported = int64(t.session_lane[session, i])
        if reported >= 0 and t.lane[reported].path == path:
            if not on_receipt(t, reported, ranges, count, delay * 1e-6, now):
                violate(t, session, BAD_RECEIPT)
                return -1
            on_counts(t, reported, largest, ect0, ect1, ce, now)
            break
    return position
