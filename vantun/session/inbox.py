"""Records that arrive: stream bytes go to their flows, control records to the tables, rare ones to Python as events.

A shard is taken whole or not at all: it is read twice, first to see that every record is well-formed and that there is
room for all of them, then to act. So a shard that is refused for want of room can simply come again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.flows import (
    PACKET_FLOW,
    STREAM_FLOW,
    UNKNOWN,
    begin_flow,
    drop_pieces,
    find_flow,
    received_end,
    take_piece,
    want_delivery,
)
from vantun.session.index import FLOW_IDS
from vantun.session.packets_in import BAD_PACKETS, NOW, ORDERED, take_packets
from vantun.session.pool import (
    EVENT_ABANDONED,
    EVENT_FLOW_ACCEPTED,
    EVENT_FLOW_CREDIT,
    EVENT_FLOW_OPENED,
    EVENT_FLOW_RESET,
    EVENT_FLOW_STOPPED,
    EVENT_VIOLATION,
    ROUTINE_EVENTS,
    push_event,
)
from vantun.session.streams import want_refill
from vantun.session.tables import Tables
from vantun.wire.integers import int64
from vantun.wire.records import (
    ABANDON,
    ACCEPT,
    CREDIT,
    END,
    FIN,
    OPEN,
    PACKETS,
    PACKETS_LENGTH,
    PATH,
    RECORD_FIELDS,
    RESET,
    STOP,
    STREAM,
    STREAM_LENGTH,
    get_record,
)

KEPT, NOT_NEEDED, REFUSED, MALFORMED = range(4)
"""Fate of a shard: its row is kept; it is accepted, but its row is free; it cannot be taken now; it is wrong."""

BAD_CREDIT, BAD_FLOW, BAD_FINAL, BAD_SHARD, BAD_RECEIPT, BAD_FRAME, BAD_RECORD = range(1, 8)
"""Why a session is ended: what the peer did; and BAD_PACKETS."""
TOO_MANY = 9
"""The same: more RECEIPTs in a packet than a session has lanes."""
_EFFORT_RATE, _EFFORT_MOST = 4e6, 1e6
"""What the records of a session may cost, in steps of some nanoseconds: so much a second, and so much at once."""
_EVENT_COST, _FLOW_COST = 1000, 50
"""Steps that Python takes for an event, and the tables for a new flow."""
_UDP, _TUN, _COLON = 0x756470, 0x74756E, 0x3A


@kernel
def deliver_area(t: Tables, session: int, row: int, start: int, size: int, now: float) -> int:
    """Act on the records in ``memory[start : start + size]`` of ``row``; return KEPT, REFUSED or MALFORMED.

    MALFORMED ends the session, because the shard would come again for ever.
    """
    end = start + size
    record = np.empty(RECORD_FIELDS, np.int64)
    position = start
    count = 0
    flows = 0
    while position < end:
        position = get_record(t.memory, position, end, record)
        if position < 0:
            violate(t, session, BAD_RECORD)
            return MALFORMED
        count += 2 if record[0] in (PACKETS, PACKETS_LENGTH) else 1
        if record[0] not in (END, PATH, ABANDON):
            flows = max(flows, _new_flows(t, session, record[1]))
    pool = t.pool[0]
    owner = t.session[session]
    earned = max(0.0, now - owner.effort_at) * _EFFORT_RATE
    owner.effort = min(owner.effort + earned, _EFFORT_MOST)
    owner.effort_at = now
    if owner.effort < 0.0 or owner.spans + count > pool.spans_free:
        pool.dropped_bound += 1
        return REFUSED
    owner.effort -= count + _FLOW_COST * flows
    if count > pool.spans_free or count > ROUTINE_EVENTS - pool.events or flows > pool.flows_free:
        return REFUSED
    position = start
    while position < end:
        position = get_record(t.memory, position, end, record)
        violation = _act(t, session, row, record, now)
        if violation:
            violate(t, session, violation)
            return MALFORMED
    return KEPT


@kernel
def violate(t: Tables, session: int, what: int) -> None:
    """Note that the peer broke the protocol; Python ends the session."""
    if not t.session[session].violation:
        t.session[session].violation = what
        push_event(t, EVENT_VIOLATION, session, 0, what, 0, 0)


@kernel
def _act(t: Tables, session: int, row: int, record: NDArray[np.int64], now: float) -> int:
    """Act on one record; return 0 or why the session is to be ended."""
    kind = record[0]
    if kind in (END, PATH):
        return 0
    if kind == ABANDON:
        t.session[session].effort -= _EVENT_COST
        push_event(t, EVENT_ABANDONED, session, 0, record[1], record[2], t.session[session].epoch)
        return 0
    flow = _reach(t, session, record[1], now)
    if flow == -2:
        return BAD_FLOW
    if flow < 0:
        return 0  # a flow that has ended: late records of it are expected
    entry = t.flow[flow]
    if kind in (PACKETS, PACKETS_LENGTH):
        if not is_kind(entry, PACKET_FLOW):
            return BAD_PACKETS
        take_packets(t, flow, record, row, now)
        return 0
    if kind in (STREAM, STREAM_LENGTH):
        if not is_kind(entry, STREAM_FLOW):
            return BAD_PACKETS
        final = entry.final
        if final >= 0 and record[2] + record[4] > final:
            return BAD_FINAL
        if not take_piece(t, flow, record[2], record[3], record[4], row):
            return BAD_CREDIT
        return 0
    return _signal(t, session, flow, record, row, now)


@kernel
def is_kind(flow: np.record, kind: int) -> bool:
    """Return whether a flow is, or from now on counts as, one of ``kind``."""
    if flow.kind == UNKNOWN:
        flow.kind = kind
    return bool(flow.kind == kind)


@kernel
def packet_mode(memory: NDArray[np.uint8], start: int, length: int) -> int:
    """Return the mode of the packet flow that an OPEN target asks for, 0 if it asks for a stream.

    ``udp:`` and ``tun:``, alone or with something behind them that has another colon: ``udp:53`` is a port of a host.
    """
    if length < 4 or memory[start + 3] != _COLON:
        return 0
    colons = 0
    for i in range(4, length):
        if memory[start + i] == _COLON:
            colons += 1
    if length > 4 and colons == 0:
        return 0
    name = (int64(memory[start]) << 16) | (int64(memory[start + 1]) << 8) | int64(memory[start + 2])
    if name == _TUN:
        return ORDERED
    return NOW if name == _UDP else 0


@kernel
def _open(t: Tables, session: int, flow: int, record: NDArray[np.int64], row: int) -> int:
    """Learn the target of a flow, and with it the flow's kind; return 0 or a violation."""
    entry = t.flow[flow]
    if entry.announced:
        return 0
    mode = packet_mode(t.memory, record[3], record[4])
    if not is_kind(entry, PACKET_FLOW if mode else STREAM_FLOW):
        return BAD_PACKETS
    if not mode and entry.final > entry.granted:  # a FIN that came before could not be judged
        return BAD_FINAL
    entry.mode = mode
    entry.announced = 1
    t.row_refs[row] += 1  # Python reads the target and drops it; the block may be complete before
    push_event(t, EVENT_FLOW_OPENED, session, flow, entry.generation, record[3], record[4])
    return 0


@kernel
def _final(t: Tables, flow: int, size: int, now: float) -> int:
    """Learn the final size of a flow; return 0 or a violation. That of packets is no promise: some may be lost."""
    entry = t.flow[flow]
    if entry.final >= 0 and entry.final != size:
        return BAD_FINAL
    if entry.kind != PACKET_FLOW:
        if size < entry.next or (entry.kind == STREAM_FLOW and size > entry.granted):
            return BAD_FINAL
        if entry.final < 0 and size < received_end(t, flow):
            return BAD_FINAL
    if entry.final < 0:
        entry.final = size
        entry.final_at = now
    want_delivery(t, flow)
    return 0


@kernel
def _signal(t: Tables, session: int, flow: int, record: NDArray[np.int64], row: int, now: float) -> int:
    """Act on a control record of a flow; return 0 or a violation. Every one may come twice."""
    entry = t.flow[flow]
    kind = record[0]
    if kind in (OPEN, ACCEPT, RESET, STOP) or entry.starved:
        t.session[session].effort -= _EVENT_COST
    if kind == OPEN:
        return _open(t, session, flow, record, row)
    if kind == FIN:
        return _final(t, flow, record[2], now)
    if kind == ACCEPT:
        push_event(t, EVENT_FLOW_ACCEPTED, session, flow, entry.generation, 0, 0)
    elif kind == CREDIT:
        if record[2] > entry.credit:
            entry.credit = record[2]
            if entry.starved:
                entry.starved = 0
                if entry.descriptor > 0:
                    want_refill(t, flow)
                else:
                    push_event(t, EVENT_FLOW_CREDIT, session, flow, entry.generation, 0, 0)
    elif kind == RESET:
        entry.discard = 1
        drop_pieces(t, flow)
        push_event(t, EVENT_FLOW_RESET, session, flow, entry.generation, record[2], 0)
    elif kind == STOP:
        push_event(t, EVENT_FLOW_STOPPED, session, flow, entry.generation, record[2], 0)
    return 0


@kernel
def _reach(t: Tables, session: int, flow: int, now: float) -> int:
    """Return the index of flow id ``flow``; -1 = it has ended, -2 = the peer may not use it.

    A record may overtake the OPEN of its flow, and of older flows: as in RFC 9000, section 2.1, an id opens all lower
    ones.
    """
    if flow >= FLOW_IDS:
        return -2
    index = find_flow(t, session, flow)
    if index >= 0:
        return index
    record = t.session[session]
    own = 0 if record.client else 1
    if (flow & 1) == own:
        return -1 if flow < record.next_flow else -2
    if flow <= record.peer_flow:
        return -1
    count = _new_flows(t, session, flow)
    if count == 0:
        return -2
    for number in range(flow - 2 * (count - 1), flow + 1, 2):
        index = begin_flow(t, session, number, now)
        if index < 0:
            return -2
        record.peer_flow = number
    return index


@kernel
def _new_flows(t: Tables, session: int, flow: int) -> int:
    """Return how many flows id ``flow`` opens: 0 if it opens none, or if it may not be used."""
    record = t.session[session]
    own = 0 if record.client else 1
    if flow <= record.peer_flow or flow >= FLOW_IDS or (flow & 1) == own:
        return 0
    first = int64(record.peer_flow)
    first = first + 2 if first >= 0 else 1 - own
    count = (flow - first) // 2 + 1
    return count if count + record.flows <= t.policy[0].flows_per_session else 0
