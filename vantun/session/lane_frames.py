"""What belongs to a lane itself and to no channel: RECEIPT, PROBE and PROBE_RESPONSE."""

from __future__ import annotations

import numpy as np
from numba import njit

from vantun.session.departures import FRAME_START, Departures, emit, is_full
from vantun.session.pool import take_row
from vantun.session.recovery import ACTIVE, register_sent, register_silent
from vantun.session.tables import CHANNELS, SESSION_LANES, WINDOW, Tables, head
from vantun.wire.frames import (
    MAX_RANGES,
    PROBE,
    PROBE_DATA,
    PROBE_RESPONSE,
    put_ranges,
    put_receipt_head,
)
from vantun.wire.integers import int64, uint64
from vantun.wire.short_header import HEADER_LENGTH, TAG_LENGTH
from vantun.wire.varint import put_varint


@njit(cache=True)
def plan_lane(t: Tables, d: Departures, lane: int) -> float:
    """Send what belongs to the lane itself: RECEIPT, PROBE_RESPONSE, PROBE; return when its next RECEIPT is due."""
    record = t.lane[lane]
    if record.receipt_due > 0.0 and d.now[0] >= record.receipt_due and not is_full(d):
        _send_receipt(t, d, lane)
    if record.response_due and not is_full(d):
        _send_response(t, d, lane)
    if record.probe_due and not is_full(d):
        _send_probe(t, d, lane)
    return np.float64(record.receipt_due) if record.receipt_due > 0.0 else np.inf


@njit(cache=True)
def _probe_frame(t: Tables, row: int, kind: int, value: int) -> None:
    start = row * t.pool[0].stride + FRAME_START
    t.memory[start] = np.uint8(kind)
    for i in range(PROBE_DATA):
        t.memory[start + 1 + i] = np.uint8((value >> np.uint64(56 - 8 * i)) & np.uint64(0xFF))


@njit(cache=True)
def _send_response(t: Tables, d: Departures, lane: int) -> None:
    record = t.lane[lane]
    row = take_row(t)
    if row < 0:
        return
    _probe_frame(t, row, PROBE_RESPONSE, uint64(record.response_value))
    record.response_due = 0
    emit(t, d, lane, row, 1 + PROBE_DATA, register_silent(t, lane), row)


@njit(cache=True)
def _send_probe(t: Tables, d: Departures, lane: int) -> None:
    record = t.lane[lane]
    row = take_row(t)
    if row < 0:
        return
    # an LCG from a secret start (Knuth, MMIX): only whoever opened the packet can answer, which the AEAD ensures anyway
    record.probe_value = record.probe_value * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    _probe_frame(t, row, PROBE, uint64(record.probe_value))
    record.probe_sent = d.now[0]
    record.probe_due = 0
    size = HEADER_LENGTH + 1 + PROBE_DATA + TAG_LENGTH
    emit(t, d, lane, row, 1 + PROBE_DATA, register_sent(t, lane, PROBE, 0, 0, size, d.now[0]), row)


@njit(cache=True)
def _send_receipt(t: Tables, d: Departures, lane: int) -> None:
    """Report what ``lane`` received, on the lane itself, or on the best other one while it is in doubt."""
    record = t.lane[lane]
    if record.rx_ranges == 0:
        record.receipt_due = 0.0
        return
    row = take_row(t)
    if row < 0:
        return
    session = int64(record.session)
    start = row * t.pool[0].stride + FRAME_START
    delay = int64(max(0.0, d.now[0] - record.largest_rx_at) * 1e6)
    ranges = t.rx_range[lane, : record.rx_ranges]
    largest = ranges[len(ranges) - 1, 1]
    end = put_receipt_head(t.memory, start, int64(record.path), largest, delay, 0)
    end = put_ranges(t.memory, end, ranges, min(len(ranges), MAX_RANGES))
    end = put_varint(t.memory, end, CHANNELS)
    for kind in range(CHANNELS):
        ch = t.channel[session * CHANNELS + kind]
        t.memory[end] = np.uint8(kind)
        end = put_varint(t.memory, end + 1, ch.floor + WINDOW)
    record.receipt_due = 0.0
    record.unreported = 0
    way = lane
    if record.state != ACTIVE:
        other = fastest_lane(t, session)
        way = other if other >= 0 else lane
    emit(t, d, way, row, end - start, register_silent(t, way), row)


@njit(cache=True)
def fastest_lane(t: Tables, session: int) -> int:
    """Return the active lane with the smallest RTT, or -1."""
    t = head(t)
    best = -1
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane >= 0 and t.lane[lane].state == ACTIVE and (best < 0 or t.lane[lane].srtt < t.lane[best].srtt):
            best = lane
    return best
