"""Flows and their ports: opening, relaying both ways, ending. Python runs per flow and batch here, never per packet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.dataplane.events import Event, FlowClosed, FlowOpened
from vantun.dataplane.ports import GENERATION_SHIFT, PacketPort, Port, RefusalCode, StreamPort, flow_index
from vantun.errors import ResourceError
from vantun.session import flows, pool, signals, streams
from vantun.session.floors import reserve_flow
from vantun.session.inbox import packet_mode
from vantun.session.tables import Tables
from vantun.wire.records import FIN, MAX_TARGET, OPEN, RESET

RESET_BY_PORT = 16
"""RESET code: the stream outside the tunnel was reset. Codes below are a :class:`RefusalCode`."""
_SIGNALS_TURN = 64
"""Sessions whose waiting records are tried in one turn."""
AnyPort = StreamPort | PacketPort


@dataclass
class Flow:
    """What Python keeps of a flow."""

    index: int
    handle: int
    session: int
    port: StreamPort | None = None
    packets: PacketPort | None = None
    """The port of a packet flow, which has no ``port``."""
    target: str = ""
    opened_here: bool = False
    accepted: bool = False
    finished_sending: bool = False
    finished_receiving: bool = False
    queued: bool = False
    large: bool = False
    """The last read of its port that had room for it was a large one."""
    lent: bool = False
    """Compiled code reads and writes its socket."""
    reopened: bool = False
    """Its port was told before that the far end is connected."""

    @property
    def outside(self) -> Port | None:
        """The port, whatever it carries."""
        return self.packets if self.packets is not None else self.port

    def connect(self, port: AnyPort, *, packets: bool) -> None:
        """Set the port."""
        if packets:
            self.packets = cast(PacketPort, port)
            self.packets.handle = self.handle
        else:
            self.port = cast(StreamPort, port)

    def disconnect(self) -> Port | None:
        """Take the port away and return it."""
        port = self.outside
        self.port = self.packets = None
        return port


class FlowBook:
    """All flows of a worker."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._t: Tables = context.tables
        self._flows: dict[int, Flow] = {}
        self._signals: dict[int, deque[Callable[[float], bool]]] = {}
        """Control records that wait, by session row: a peer that acknowledges nothing holds up nobody else."""
        self.ready: deque[Flow] = deque()
        """Flows whose port may have bytes to read."""
        self.events: list[Event] = []
        self.first_generation = 0
        """What handles have besides the table's generations: see Dataplane.begin_handles."""

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def streams(self) -> int:
        """Flows that are byte streams."""
        return sum(flow.packets is None for flow in self._flows.values())

    @property
    def rows(self) -> NDArray[np.int64]:
        """[shape=(flows,)] their rows of the flow table."""
        return np.array(list(self._flows), np.int64)

    def by_handle(self, handle: int) -> Flow | None:
        """Return the flow, or None if it has ended."""
        flow = self._flows.get(flow_index(handle))
        return flow if flow is not None and flow.handle == handle else None

    def by_index(self, index: int) -> Flow | None:
        """Return the flow in a row of the flow table."""
        return self._flows.get(index)

    def of_session(self, session: int) -> list[Flow]:
        """Return the flows of a session row."""
        return [flow for flow in self._flows.values() if flow.session == session]

    def _enter(self, index: int, session: int) -> Flow:
        generation = self.first_generation + int(self._t.flow[index]["generation"])
        flow = Flow(index=index, handle=(generation << GENERATION_SHIFT) | index, session=session)
        self._flows[index] = flow
        return flow

    # --- opening

    def open(self, session: int, target: str, port: AnyPort, now: float) -> int:
        """Open a flow to ``target`` and announce it; return its handle. Raises ResourceError, ValueError."""
        name = target.encode()
        if not name or len(name) > MAX_TARGET:
            raise ValueError(f"a target has 1 to {MAX_TARGET} bytes, {target!r} has {len(name)}")
        record = self._t.session[session]
        if record["flows"] >= self._t.policy[0]["flows_per_session"]:
            raise ResourceError(f"the session has {record['flows']} flows open already; close some, or raise the limit")
        number = int(record["next_flow"])
        index = int(flows.begin_flow(self._t.root, session, number, now))
        if index < 0:
            raise ResourceError("the worker's flow table is full; close flows, or raise limits.flows")
        record["next_flow"] = number + 2
        reserve_flow(self._context.floors, int(record["floor"]), number)
        data = np.frombuffer(name, np.uint8)
        mode = int(packet_mode(data, 0, len(data)))
        self._t.flow[index]["announced"] = 1
        self._t.flow[index]["kind"] = flows.PACKET_FLOW if mode else flows.STREAM_FLOW
        self._t.flow[index]["mode"] = mode
        flow = self._enter(index, session)
        flow.connect(port, packets=mode != 0)
        flow.opened_here, flow.target = True, target
        self._signal(session, lambda at: signals.signal_bytes(self._t.root, session, OPEN, number, data, at), now)
        self._widen(flow, now)
        self.readable(flow)
        return flow.handle

    def attach(self, flow: Flow, port: AnyPort, now: float) -> None:
        """Connect a flow that the peer opened to its target, and tell the peer."""
        record = self._t.flow[flow.index]
        flow.connect(port, packets=record["kind"] == flows.PACKET_FLOW)
        flow.accepted = True
        number = int(record["id"])
        self._signal(flow.session, lambda at: signals.signal_accept(self._t.root, flow.session, number, at), now)
        self._widen(flow, now)
        record["writable"] = 1
        flows.want_delivery(self._t.root, flow.index)
        self.readable(flow)

    def refuse(self, flow: Flow, code: RefusalCode, now: float) -> None:
        """Tell the peer that its flow cannot be connected."""
        self._reset_peer(flow, int(code), now)
        self._end(flow)

    def _widen(self, flow: Flow, now: float) -> None:
        """Give a flow more credit than the initial one, if the pool has it; without, it grows by use."""
        if flow.packets is None and flow.session not in self._signals:
            flows.widen_credit(self._t.root, flow.index, now)

    def _signal(self, session: int, write: Callable[[float], bool], now: float) -> None:
        """Write a control record now, or as soon as the channel has room; the order is kept."""
        if session in self._signals or not write(now):
            self._signals.setdefault(session, deque()).append(write)

    @property
    def waiting(self) -> bool:
        """Whether control records wait for room."""
        return bool(self._signals)

    def run_signals(self, now: float) -> None:
        """Write what had to wait."""
        for session in list(islice(self._signals, _SIGNALS_TURN)):
            waiting = self._signals[session]
            while waiting and waiting[0](now):
                waiting.popleft()
            del self._signals[session]
            if waiting:  # it is asked again when all others were
                self._signals[session] = waiting

    def _reset_peer(self, flow: Flow, code: int, now: float) -> None:
        number = int(self._t.flow[flow.index]["id"])
        session = flow.session
        self._signal(session, lambda at: signals.signal_pair(self._t.root, session, RESET, number, code, at), now)

    # --- ports

    def readable(self, flow: Flow) -> None:
        """Note that the port of a flow may have bytes."""
        if flow.lent:
            streams.want_refill(self._t.root, flow.index)
        elif not flow.queued and not flow.finished_sending:
            flow.queued = True
            self.ready.append(flow)

    def lend(self, flow: Flow, descriptor: int) -> None:
        """Have compiled code read and write a flow's socket."""
        flow.lent = bool(streams.lend_stream(self._t.root, flow.index, descriptor))
        self.readable(flow)
        flows.want_delivery(self._t.root, flow.index)

    def writable(self, flow: Flow) -> None:
        """Note that the port of a flow may take bytes."""
        if flow.packets is not None and flow.accepted:
            flows.want_delivery(self._t.root, flow.index)
        elif flow.accepted and not self._t.flow[flow.index]["writable"]:
            self._t.flow[flow.index]["writable"] = 1
            flows.want_delivery(self._t.root, flow.index)

    def port_failed(self, flow: Flow, now: float) -> None:
        """Reset the flow at both ends, because the stream outside was reset."""
        self._reset_peer(flow, RESET_BY_PORT, now)
        self._end(flow)

    def finish_sending(self, flow: Flow, now: float) -> None:
        """Announce the final size: the port has ended."""
        record = self._t.flow[flow.index]
        number, size, session = int(record["id"]), int(record["offset"]), flow.session
        self._signal(session, lambda at: signals.signal_pair(self._t.root, session, FIN, number, size, at), now)
        flow.finished_sending = True
        record["tx_open"] = 0
        self._end_if_done(flow)

    def finish_packets(self, flow: Flow, now: float) -> None:
        """End a packet flow at both ends. What has been put leaves; what comes from now on is in vain."""
        record = self._t.flow[flow.index]
        number, size, session = int(record["id"]), int(record["offset"]), flow.session
        self._signal(session, lambda at: signals.signal_pair(self._t.root, session, FIN, number, size, at), now)
        self.close(flow)

    def close(self, flow: Flow) -> None:
        """Close the port of a flow that has ended in both directions, and forget the flow."""
        port = flow.disconnect()
        if port is not None:
            port.close()
        self._end(flow)

    def finish_receiving(self, flow: Flow) -> None:
        """Everything the peer sent is with the port: half-close it."""
        if flow.finished_receiving or flow.port is None:
            return
        flow.finished_receiving = True
        flow.port.shutdown_write()
        self._end_if_done(flow)

    def _end_if_done(self, flow: Flow) -> None:
        if flow.finished_sending and flow.finished_receiving:
            self.close(flow)

    def _end(self, flow: Flow) -> None:
        if self._flows.pop(flow.index, None) is None:
            return
        flows.end_flow(self._t.root, flow.index)
        port = flow.disconnect()
        if port is not None:
            port.reset()
        self.events.append(FlowClosed(flow.handle, int(self._t.session[flow.session]["id"])))

    def end_session(self, session: int) -> None:
        """Reset every flow of a session row, those included whose OPEN never came."""
        for flow in self.of_session(session):
            self._end(flow)
        for index in np.flatnonzero((self._t.flow["used"] == 1) & (self._t.flow["session"] == session)):
            flows.end_flow(self._t.root, int(index))
        self._signals.pop(session, None)  # the next session in this row must not say what this one had to

    def end_epoch(self, session: int) -> list[Flow]:
        """End every flow of a session row, because its peer has lost them: streams are reset.

        Return the packet flows of this end, which still have their ports: :meth:`reopen` goes on with them.
        """
        kept = [flow for flow in self.of_session(session) if flow.opened_here and flow.packets is not None]
        for flow in kept:
            del self._flows[flow.index]
            flows.end_flow(self._t.root, flow.index)
        self.end_session(session)
        return kept

    def reopen(self, flow: Flow, now: float) -> None:
        """Open a packet flow again in the next epoch: for its port it is the same one, under another handle."""
        port = flow.disconnect()
        if port is None:
            return
        try:
            handle = self.open(flow.session, flow.target, cast(AnyPort, port), now)
        except ResourceError:
            port.reset()
            return
        again = self.by_handle(handle)
        if again is not None:
            again.reopened = flow.accepted or flow.reopened

    # --- events of the tables

    def on_event(self, event: NDArray[np.int64], now: float) -> None:
        """Act on a table event about a flow."""
        kind, session, index, generation, a, b = (int(value) for value in event)
        record = self._t.flow[index]
        target = b""
        if kind == pool.EVENT_FLOW_OPENED:
            target = self._t.memory[a : a + b].tobytes()
            pool.release_row(self._t.root, a // int(self._t.pool[0]["stride"]))
        if not record["used"] or int(record["generation"]) != generation:
            return
        if kind == pool.EVENT_FLOW_OPENED:
            flow = self._enter(index, session)
            identity = int(self._t.session[session]["id"])
            flow.target = target.decode("utf-8", "replace")
            self.events.append(FlowOpened(flow.handle, identity, flow.target))
            return
        flow_or_none = self._flows.get(index)
        if kind in (pool.EVENT_FLOW_RESET, pool.EVENT_FLOW_STOPPED):
            if flow_or_none is not None:
                self._stopped(flow_or_none, a)
            else:  # reset before its OPEN arrived: the OPEN, should it come, is late
                flows.end_flow(self._t.root, index)
        elif flow_or_none is None:
            return
        elif kind == pool.EVENT_FLOW_ACCEPTED:
            self._accepted(flow_or_none, now)
        elif kind == pool.EVENT_FLOW_CREDIT:
            self.readable(flow_or_none)
        else:
            self._of_lent(flow_or_none, kind, now)

    def _of_lent(self, flow: Flow, kind: int, now: float) -> None:
        """Act on what compiled code has met in a stream whose socket it was lent."""
        if kind == pool.EVENT_STREAM_FAILED:
            self.port_failed(flow, now)
        elif kind == pool.EVENT_STREAM_TAKEN:
            self.finish_receiving(flow)
        elif not flow.finished_sending:
            self.finish_sending(flow, now)

    def _accepted(self, flow: Flow, now: float) -> None:
        port = flow.outside
        if flow.accepted or not flow.opened_here or port is None:
            return
        flow.accepted = True
        try:
            if not flow.reopened:
                port.accepted()
        except ConnectionError:
            self.port_failed(flow, now)
            return
        self.writable(flow)

    def _stopped(self, flow: Flow, code: int) -> None:
        port = flow.disconnect()
        if port is not None:
            if flow.opened_here and not flow.accepted and 0 < code < RESET_BY_PORT:
                port.refused(code)
            else:
                port.reset()
        self._end(flow)
