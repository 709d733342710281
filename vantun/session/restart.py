"""Restart of a session: what was under way between the ends is forgotten by both, and numbering begins anew.

An end whose worker died has lost its channels and flows, not its lanes. It raises the session's **epoch** and sends
RESTART on every lane until it is answered by RESTARTED; its peer resets channels and flows, too. Shards and credits
carry the low bits of the epoch, and count only within their own (docs/protocol.md, "Restart").
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.inbox import BAD_FLOW, violate
from vantun.session.index import FLOW_IDS
from vantun.session.pool import EVENT_RESTART, ROUTINE_EVENTS, push_event
from vantun.session.recovery import EMPTY, LOOK_BACK, probe_timeout
from vantun.session.tables import INFLIGHT, SESSION_LANES, Tables, head
from vantun.wire.frames import CHANNEL_BITS, RESTART, RESTARTED
from vantun.wire.integers import int64
from vantun.wire.varint import get_varint, put_varint

_SHORTEST = 4
_MOST_PATIENCE = 0.25
"""Seconds between two RESTARTs on a lane, at most."""


@kernel
def epoch_bits(t: Tables, session: int) -> int:
    """Return the low bits of a session's epoch as they stand in a channel byte."""
    return int64((t.session[session].epoch << CHANNEL_BITS) & 0xFF)


@kernel
def owed_restart(t: Tables, lane: int, now: float) -> int:
    """Return RESTART or RESTARTED if a lane has to send one now, else 0."""
    record = t.lane[lane]
    if record.restarted_due:
        return RESTARTED
    if t.session[record.session].restart and now >= record.restart_at:
        return RESTART
    return 0


@kernel
def restart_due(t: Tables, lane: int) -> float:
    """Return when a lane has to send its next RESTART (inf = not at all)."""
    record = t.lane[lane]
    if record.restarted_due:
        return 0.0
    return float(record.restart_at) if t.session[record.session].restart else np.inf


@kernel
def put_restart(t: Tables, lane: int, kind: int, start: int, now: float) -> int:
    """Write a RESTART or RESTARTED frame at ``start`` of the memory; return its size."""
    record = t.lane[lane]
    session = t.session[record.session]
    t.memory[start] = np.uint8(kind)
    end = put_varint(t.memory, start + 1, int64(session.epoch))
    end = put_varint(t.memory, end, int64(session.restart_flow))
    while end - start < _SHORTEST:  # a packet has four bytes of frames at least; PADDING is 0
        t.memory[end] = np.uint8(0)
        end += 1
    if kind == RESTARTED:
        record.restarted_due = 0
    else:
        record.restart_at = now + min(probe_timeout(record), _MOST_PATIENCE)
    return int64(end - start)


@kernel
def read_restart(t: Tables, lane: int, kind: int, position: int, end: int) -> int:
    """Read a RESTART or RESTARTED frame and tell Python; return the position behind it, or -1."""
    record = t.lane[lane]
    epoch, position = get_varint(t.memory, position, end)
    flow, position = get_varint(t.memory, position, end)
    if position < 0:
        return -1
    peers = 1 if t.session[record.session].client else 0
    if flow >= FLOW_IDS or (flow & 1) != peers:
        violate(t, int64(record.session), BAD_FLOW)
        return -1
    if t.pool[0].events < ROUTINE_EVENTS:
        push_event(t, EVENT_RESTART, record.session, lane, epoch, flow, kind)
    return position


@kernel
def forget_in_flight(t: Tables, session: int) -> None:
    """Forget what is under way on every lane of a session: neither delivered nor lost, since its shards are no more."""
    t = head(t)
    for i in range(SESSION_LANES):
        lane = int64(t.session_lane[session, i])
        if lane < 0:
            continue
        record = t.lane[lane]
        for number in range(max(0, record.una - LOOK_BACK, record.next_pn - INFLIGHT), record.next_pn):
            t.inflight[lane, number & (INFLIGHT - 1)].state = EMPTY
        record.una = record.next_pn
        record.in_flight = 0
        record.in_flight_packets = 0
        record.pto_count = 0
