"""What belongs to a lane itself and to no channel: RECEIPT, PROBE_RESPONSE, PROBEs of every kind, RESTART."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.batch import CE, ECT0, ECT1
from drivers.kernel import kernel
from vantun.session.departures import FRAME_START, Departures, emit, is_full
from vantun.session.lane_probes import CHALLENGE, HOME, LARGE, SMALL, register_probe
from vantun.session.mtu import due_probe
from vantun.session.pool import take_row
from vantun.session.rebind import OTHER, home_value, may_send, probes_home, run_trial
from vantun.session.recovery import ACTIVE, register_sent, register_silent
from vantun.session.restart import epoch_bits, owed_restart, put_restart, restart_due
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
from vantun.wire.varint import put_varint, varint_size

_SHORT = 1 + PROBE_DATA
_PROBE_SIZE = HEADER_LENGTH + _SHORT + TAG_LENGTH
_FAR = 1e6
"""Seconds: farther away than any lane is."""
_FEW_RANGES = 32
"""What every RECEIPT reports of the ranges that there are."""
_RANGE_BYTES = 768
"""Most bytes of ranges: a RECEIPT fits the smallest packet that every path carries."""


@kernel
def plan_lane(t: Tables, d: Departures, lane: int) -> float:
    """Send what belongs to the lane itself; return when it is to be asked again."""
    record = t.lane[lane]
    if record.trial and run_trial(t, lane, d.now[0]):
        _send_challenge(t, d, lane)
    if record.receipt_due > 0.0 and d.now[0] >= record.receipt_due and not is_full(d):
        _send_receipt(t, d, lane)
    while record.response_due and not is_full(d):
        if not _send_response(t, d, lane):
            break
    if record.probe_due and not is_full(d):
        _send_probe(t, d, lane)
    due = np.float64(record.receipt_due) if record.receipt_due > 0.0 else np.inf
    if record.trial:
        due = min(due, record.trial_due)
    size = due_probe(t, lane, d.now[0])
    if size > 0:
        if record.hole_round > 0:
            _ask(t, d, lane, SMALL, _PROBE_SIZE)
        record.padding += size - _PROBE_SIZE
        _ask(t, d, lane, LARGE, size)
    if record.mtu_state > 0 or record.hole_round > 0:
        due = min(due, record.mtu_due)
    _send_restart(t, d, lane)
    return min(due, restart_due(t, lane))


@kernel
def _send_restart(t: Tables, d: Departures, lane: int) -> None:
    restart = owed_restart(t, lane, d.now[0])
    row = take_row(t) if restart and not is_full(d) else -1
    if row >= 0:
        size = put_restart(t, lane, restart, row * t.pool[0].stride + FRAME_START, d.now[0])
        emit(t, d, lane, row, size, register_silent(t, lane), row)


@kernel
def _probe_frame(t: Tables, row: int, kind: int, value: int) -> None:
    start = row * t.pool[0].stride + FRAME_START
    t.memory[start] = np.uint8(kind)
    for i in range(PROBE_DATA):
        t.memory[start + 1 + i] = np.uint8((value >> np.uint64(56 - 8 * i)) & np.uint64(0xFF))


@kernel
def _send_response(t: Tables, d: Departures, lane: int) -> bool:
    """Answer the last PROBE, where the lane leads and where it may come from; False = no row is free."""
    record = t.lane[lane]
    row = take_row(t)
    if row < 0:
        return False
    record.response_due -= 1
    value = uint64(record.response_value[record.response_due])
    _probe_frame(t, row, PROBE_RESPONSE, value)
    emit(t, d, lane, row, _SHORT, register_silent(t, lane), row)
    if may_send(record, _PROBE_SIZE + _spare(record)) and not is_full(d):
        row = take_row(t)
        if row >= 0:
            _probe_frame(t, row, PROBE_RESPONSE, value)
            _emit_elsewhere(t, d, lane, row, _SHORT, register_silent(t, lane))
    return True


@kernel
def _spare(record: np.record) -> int:
    """Return how many bytes a copy must leave over: of three times a short packet, a lost challenge may need them."""
    return 0 if record.other_answered else _PROBE_SIZE


@kernel
def _emit_elsewhere(t: Tables, d: Departures, lane: int, row: int, payload: int, number: int) -> None:
    """Send a packet to the address on trial."""
    t.lane[lane].other_sent += HEADER_LENGTH + payload + TAG_LENGTH
    emit(t, d, lane, row, payload, number, row)
    d.peer[d.planned[0] - 1] = OTHER + lane


@kernel
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
    number = register_sent(t, lane, PROBE, 0, 0, _PROBE_SIZE, d.now[0])
    emit(t, d, lane, row, _SHORT, number, row)


@kernel
def _send_challenge(t: Tables, d: Departures, lane: int) -> None:
    """Probe the address on trial and, in the first rounds, the one in use; each with a value of its own."""
    record = t.lane[lane]
    if may_send(record, _PROBE_SIZE) and not is_full(d):
        row = take_row(t)
        if row >= 0:
            _probe_frame(t, row, PROBE, uint64(record.trial_value))
            _emit_elsewhere(t, d, lane, row, _SHORT, register_probe(t, lane, CHALLENGE, _PROBE_SIZE))
    if probes_home(record) and not is_full(d):
        row = take_row(t)
        if row >= 0:
            _probe_frame(t, row, PROBE, uint64(home_value(record)))
            emit(t, d, lane, row, _SHORT, register_probe(t, lane, HOME, _PROBE_SIZE), row)


@kernel
def _ask(t: Tables, d: Departures, lane: int, kind: int, size: int) -> None:
    """Send a PROBE that is filled up to ``size`` bytes of UDP payload; its acknowledgement is the answer."""
    row = -1 if is_full(d) else take_row(t)
    if row < 0:
        return
    number = register_probe(t, lane, kind, size)
    _probe_frame(t, row, PROBE, uint64(number))
    start = row * t.pool[0].stride + FRAME_START
    payload = size - HEADER_LENGTH - TAG_LENGTH
    t.memory[start + _SHORT : start + payload] = 0
    emit(t, d, lane, row, payload, number, row)


@kernel
def _send_receipt(t: Tables, d: Departures, lane: int) -> None:
    """Report what ``lane`` received, on the lane itself, or on the best other one while it is in doubt."""
    record = t.lane[lane]
    if record.rx_ranges == 0:
        record.receipt_due = 0.0
        return
    row = take_row(t)
    if row < 0:
        return
    size = _write_receipt(t, lane, row, d.now[0])
    record.receipt_due = 0.0
    record.unreported = 0
    way = lane
    if record.state != ACTIVE:
        other = fastest_lane(t, int64(record.session))
        way = other if other >= 0 else lane
    emit(t, d, way, row, size, register_silent(t, way), row)
    if may_send(record, HEADER_LENGTH + size + TAG_LENGTH + _spare(record)) and not is_full(d):
        row = take_row(t)
        if row >= 0:
            size = _write_receipt(t, lane, row, d.now[0])
            _emit_elsewhere(t, d, lane, row, size, register_silent(t, lane))
    record.reported[1] = record.reported[0]
    record.reported[0] = record.largest_rx


@kernel
def _ranges_to_tell(ranges: NDArray[np.int64], told: int) -> int:
    """Return how many of ``ranges``, the newest of them, a RECEIPT reports: _FEW_RANGES, or all above ``told``.

    So every number is in three RECEIPTs, however many packets a turn took in: 32 ranges are 1600 packets at 2 % of
    loss, fewer than a burst at line rate, and what none reports counts as lost (18 % were, which parity then covered).
    """
    last = len(ranges) - 1
    size = 0
    for i in range(min(len(ranges), MAX_RANGES)):
        low, high = ranges[last - i, 0], ranges[last - i, 1]
        if i > 0:
            size += varint_size(ranges[last - i + 1, 0] - high - 2)
        size += varint_size(high - low)
        if size > _RANGE_BYTES or (i >= _FEW_RANGES and high <= told):
            return i
    return min(len(ranges), MAX_RANGES)


@kernel
def _write_receipt(t: Tables, lane: int, row: int, now: float) -> int:
    """Write the RECEIPT for a lane to ``row``; return its size."""
    record = t.lane[lane]
    session = int64(record.session)
    start = row * t.pool[0].stride + FRAME_START
    delay = int64(max(0.0, now - record.largest_rx_at) * 1e6)
    ranges = t.rx_range[lane, : record.rx_ranges]
    largest = ranges[len(ranges) - 1, 1]
    end = put_receipt_head(t.memory, start, int64(record.path), largest, delay)
    for mark in (ECT0, ECT1, CE):
        end = put_varint(t.memory, end, int64(record.rx_ecn[mark]))
    end = put_ranges(t.memory, end, ranges, _ranges_to_tell(ranges, int64(record.reported[1])))
    end = put_varint(t.memory, end, CHANNELS)
    for kind in range(CHANNELS):
        ch = t.channel[session * CHANNELS + kind]
        t.memory[end] = np.uint8(epoch_bits(t, session) | kind)
        end = put_varint(t.memory, end + 1, ch.floor + WINDOW)
    return int64(end - start)


@kernel
def fastest_lane(t: Tables, session: int) -> int:
    """Return the active lane with the smallest RTT, a backup only if there is no other; or -1."""
    t = head(t)
    best = -1
    smallest = np.inf
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane < 0 or t.lane[lane].state != ACTIVE:
            continue
        rtt = t.lane[lane].srtt + _FAR * t.lane[lane].backup
        if rtt < smallest:
            best, smallest = lane, rtt
    return best
