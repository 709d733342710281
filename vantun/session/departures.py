"""Packets that are about to leave: their columns, and the one way to enter a packet there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import ECT0, NOT_ECT
from drivers.kernel import kernel
from vantun.session.limits import PACKET_START
from vantun.session.pool import EVENT_REKEY_SENT, push_event
from vantun.session.recovery import IN_FLIGHT, probe_timeout
from vantun.session.tables import INFLIGHT, Tables
from vantun.wire.short_header import HEADER_LENGTH, TAG_LENGTH, put_header

FRAME_START = PACKET_START + HEADER_LENGTH
"""Where the first frame of a packet starts in its row."""


class Departures(NamedTuple):
    """Packets to be sealed and sent: the columns of a SealJob, and where they go."""

    source_offset: NDArray[np.int64]
    length: NDArray[np.int32]
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]
    lane: NDArray[np.int32]
    socket: NDArray[np.int32]
    peer: NDArray[np.int32]
    ecn: NDArray[np.uint8]
    spare: NDArray[np.int32]
    """Row to be freed once sealed, or -1."""
    planned: NDArray[np.int64]
    """[1] packets planned so far; at most the length of the columns."""
    now: NDArray[np.float64]
    """[2] the time of this plan, seconds; for how long the worker had rested before it, whatever there was to send."""


@kernel
def is_full(d: Departures) -> bool:
    """Return whether no further packet fits."""
    return bool(d.planned[0] >= len(d.length))


@kernel
def emit(t: Tables, d: Departures, lane: int, row: int, payload: int, number: int, spare: int) -> None:
    """Write the packet header and enter the packet in ``d``; ``payload`` = bytes of its frames."""
    record = t.lane[lane]
    count = d.planned[0]
    d.planned[0] += 1
    start = row * t.pool[0].stride + PACKET_START
    put_header(t.memory, start, record.send_cid, record.phase, number)
    d.source_offset[count] = start
    d.length[count] = HEADER_LENGTH + payload
    d.slot[count] = record.slot
    d.number[count] = number
    d.status[count] = 0
    d.lane[count] = lane
    d.socket[count] = record.socket
    d.peer[count] = record.peer
    d.spare[count] = spare
    entry = t.inflight[lane, number & (INFLIGHT - 1)]
    d.ecn[count] = entry.quiet & ECT0 if entry.state == IN_FLIGHT else NOT_ECT
    size = HEADER_LENGTH + payload + TAG_LENGTH
    record.sent += 1
    record.sent_bytes += size
    record.last_sent = d.now[0]
    user = t.user[t.session[record.session].user]
    user.sent_bytes += size
    if user.send_rate > 0.0:
        user.send_tokens -= size
    _turn_phase(t, lane, d.now[0])


@kernel
def _turn_phase(t: Tables, lane: int, now: float) -> None:
    """Start the next key phase when this is used up and acknowledged, and the peer had time (RFC 9001, 6.1, 6.5)."""
    record = t.lane[lane]
    if record.next_pn - record.phase_start < t.policy[0].rekey_after or record.phase_acked_at == 0.0:
        return
    if now - record.phase_acked_at < 3.0 * probe_timeout(record):
        return
    record.phase ^= 1
    record.phase_start = record.next_pn
    record.phase_acked_at = 0.0
    push_event(t, EVENT_REKEY_SENT, record.session, lane, record.phase, 0, 0)
