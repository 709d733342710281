"""The data plane of one worker: the stages in the order of a packet's journey, without a socket in sight.

``receive`` takes datagrams in, ``transmit`` gives datagrams out; whoever owns the sockets, a worker process or the
lab in virtual time, calls both with its own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.lease import FUNCTION
from drivers.arena import row_stride
from drivers.batch import PacketBatch
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.context import COUNTER_FIELDS, STAGES, Context, Engines
from vantun.dataplane.events import Event
from vantun.dataplane.flows import AnyPort, FlowBook
from vantun.dataplane.path_rates import PathRates
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.restarts import Restarts
from vantun.dataplane.sessions import SessionBook
from vantun.dataplane.shares import Shares
from vantun.dataplane.sizes import OPENED
from vantun.dataplane.snapshot import snapshot
from vantun.dataplane.stages.arrive import ArriveStages
from vantun.dataplane.stages.decode import DecodeStage
from vantun.dataplane.stages.deliver import DeliverStage
from vantun.dataplane.stages.depart import DepartStages, Outgoing
from vantun.dataplane.stages.refill import RefillStage
from vantun.dataplane.stream_kernels import rehearse_streams, stream_work
from vantun.dataplane.turn_kernels import Arriving, Leaving
from vantun.lanes import LaneSpec
from vantun.session import pool
from vantun.session.floors import private_floors
from vantun.session.layout import pool_dtype
from vantun.session.limits import PACKET_START, SHORT
from vantun.session.packets_in import wake_packets
from vantun.session.span_store import abandon_block
from vantun.session.tables import CHANNELS, make_tables

_NO_EVENTS: list[Event] = []
"""What nearly every turn tells; never changed."""
_NOBODY = np.zeros(0, np.int32)
_DECODES, _EVENTS, _HOLD_DUE, _REFILLS, _ROWS, _ROWS_FREE = map(
    (pool_dtype.names or ()).index, ("decodes", "events", "hold_due", "refills", "rows", "rows_free")
)
"""Words of the pool, all of whose fields are words."""
_FLOW_EVENTS = frozenset(
    (
        pool.EVENT_FLOW_OPENED,
        pool.EVENT_FLOW_ACCEPTED,
        pool.EVENT_FLOW_RESET,
        pool.EVENT_FLOW_STOPPED,
        pool.EVENT_FLOW_CREDIT,
        pool.EVENT_STREAM_ENDED,
        pool.EVENT_STREAM_TAKEN,
        pool.EVENT_STREAM_FAILED,
    )
)


class Dataplane:
    """All sessions, lanes, channels and flows of one worker."""

    def __init__(
        self,
        config: DataplaneConfig,
        engines: Engines,
        counters: NDArray[np.int64] | None = None,
        floors: NDArray[Any] | None = None,
        rates: NDArray[Any] | None = None,
    ) -> None:
        """Allocate everything at once.

        ``counters`` [shape=(len(STAGES), 4), dtype=int64] and ``floors`` [shape=(1,), dtype=floors_dtype] may lie in
        shared memory; a data plane with the floors of another one, which has ended, goes on with its lanes. ``rates``
        [shape=(SHARE_PLACES, SLICES), dtype=share_dtype] is where workers agree on shares of a path's rate.
        """
        self.config = config
        stride = row_stride(PACKET_START + config.max_mtu + 16)
        tables, self._arena = make_tables(config.limits, stride)
        config.apply(tables)
        if counters is None:
            counters = np.zeros((len(STAGES), len(COUNTER_FIELDS)), np.int64)
        address = int(tables.memory.ctypes.data)
        floors = private_floors() if floors is None else floors
        self.context = Context(tables, address, engines, counters, floors)
        self.sessions = SessionBook(self.context)
        self.flows = FlowBook(self.context)
        self._restarts = Restarts(self.context, self.sessions, self.flows)
        self._path_rates = PathRates(self.context, self.sessions, rates)
        self._shares = Shares(self.context, self.sessions.users)
        self._arrive = ArriveStages(self.context, OPENED)
        self._decode = DecodeStage(self.context)
        self.streams = stream_work()
        self._deliver = DeliverStage(self.context, self.flows, self.streams)
        self._refill = RefillStage(self.context, self.flows, self.streams)
        self._depart = DepartStages(self.context, self.sessions.peers, config.batch, row_stride(config.max_mtu + 64))
        pool_words = tables.pool.view(np.int64)
        # item access on a memoryview costs a third of numpy's
        self._counts, self._times = pool_words.data, pool_words.view(np.float64).data
        self._lenders = (engines.encode, engines.seal, engines.open)
        self._events: list[Event] = []
        self._due = 0.0

    def begin_handles(self, incarnation: int) -> None:
        """Give flows other handles than the data planes of ``incarnation`` 0 to ``incarnation`` - 1 gave."""
        # Not in the table: that would touch all of its pages.
        self.flows.first_generation = (incarnation & 0x7FFF) << 16

    def close(self) -> None:
        """Give back the memory of the tables; nothing else may be called any more."""
        self._arena.empty()
        self._arena.close()

    # --- what the control process asks for

    def add_lane(self, spec: LaneSpec, now: float) -> int:
        """Begin to speak on a lane, and begin its session with the first; return its row. Raises ResourceError."""
        self._due = now
        row = self.sessions.add_lane(spec, now)
        self._path_rates.add(row, spec)
        return row

    def close_lane(self, session: int, path: int, now: float) -> None:
        """Stop using a path; what it carried goes by the others."""
        self._due = now
        self.sessions.close_lane(session, path, now)

    def end_session(self, session: int, now: float) -> None:
        """Reset every flow of a session and forget it."""
        self._due = now
        row = self.sessions.row(session)
        if row is not None:
            self.flows.end_session(row)
            self.sessions.end_session(session)

    def open_flow(self, session: int, target: str, port: AnyPort, now: float) -> int:
        """Open a flow to ``target`` for ``port``; return its handle. Raises KeyError, ResourceError, ValueError.

        ``host:port`` is a stream and takes a StreamPort; ``udp:`` and ``tun:`` are packet flows and take a PacketPort.
        """
        row = self.sessions.row(session)
        if row is None:
            raise KeyError(f"session {session:x} is not open here")
        self._due = now
        return self.flows.open(row, target, port, now)

    def attach_flow(self, handle: int, port: AnyPort, now: float) -> None:
        """Answer FlowOpened with a connected port; a flow that has ended meanwhile resets it."""
        flow = self.flows.by_handle(handle)
        if flow is None:
            port.reset()
            return
        self._due = now
        self.flows.attach(flow, port, now)

    def refuse_flow(self, handle: int, code: RefusalCode, now: float) -> None:
        """Answer FlowOpened with a refusal."""
        flow = self.flows.by_handle(handle)
        if flow is not None:
            self._due = now
            self.flows.refuse(flow, code, now)

    def end_packets(self, handle: int, now: float) -> None:
        """End a packet flow at both ends, in peace: its port is closed, there and here."""
        flow = self.flows.by_handle(handle)
        if flow is not None and flow.packets is not None:
            self._due = now
            self.flows.finish_packets(flow, now)

    def readable(self, handle: int) -> None:
        """Note that the port of a flow may have bytes (edge-triggered)."""
        flow = self.flows.by_handle(handle)
        if flow is not None:
            self.flows.readable(flow)
            self._due = 0.0

    def writable(self, handle: int) -> None:
        """Note that the port of a flow may take bytes (edge-triggered)."""
        flow = self.flows.by_handle(handle)
        if flow is not None:
            self.flows.writable(flow)
            self._due = 0.0

    def broken(self, handle: int, now: float) -> None:
        """Note that the port of a flow was reset outside; a flow without credit would not find out by reading."""
        flow = self.flows.by_handle(handle)
        if flow is not None and flow.outside is not None:
            self.flows.port_failed(flow, now)
            self._due = 0.0

    def lend_stream(self, handle: int, descriptor: int) -> None:
        """Have compiled code read and write the TCP socket of a flow, until the flow ends, in place of its port.

        The flow is accepted, and its port holds nothing back.
        """
        flow = self.flows.by_handle(handle)
        if flow is not None and flow.port is not None:
            self.flows.lend(flow, descriptor)

    def refused_for_size(self, peer: int, size: int, now: float) -> None:
        """Note that the kernel refused a packet of ``size`` bytes to row ``peer`` of the addresses (EMSGSIZE)."""
        self.sessions.refused_for_size(peer, size, now)
        self._due = now

    def limit_users(self, rates: Mapping[str, tuple[float, float]], now: float) -> None:
        """Limit what users send and receive here, (sending, receiving) in bit/s; 0, or not named = no limit."""
        self.sessions.users.limit(rates, now)
        self._due = now

    def take_events(self) -> list[Event]:
        """Return what happened since the last call."""
        if not (self._events or self.sessions.events or self.flows.events):
            return _NO_EVENTS
        events = self._events + self.sessions.events + self.flows.events
        self._events = []
        self.sessions.events = []
        self.flows.events = []
        return events

    def snapshot(self) -> dict[str, object]:
        """Return counters and states, ready for JSON."""
        return snapshot(self)

    # --- packets

    def receive(self, batch: PacketBatch, count: int, socket: int, now: float) -> NDArray[np.int32]:
        """Take ``count`` datagrams that arrived on ``socket``; return the indexes of those that belong to no lane."""
        del socket  # a lane is known by its connection id alone; whether its peer has moved, the accept stage sees
        misses: list[NDArray[np.int32]] = []
        for first in range(0, count, OPENED):
            ours, others = self._arrive.run(batch, first, min(count - first, OPENED), now)
            if len(others):
                misses.append(others)
            if ours:
                self.resume(now)
        self._due = 0.0
        return _NOBODY if not misses else misses[0] if len(misses) == 1 else np.concatenate(misses)

    def received(
        self, found: tuple[int, int, int], batch: PacketBatch, part: tuple[int, int], now: float
    ) -> NDArray[np.int32]:
        """Go on where compiled code has left :meth:`receive`: ``found`` is what ``arrive`` returned.

        ``part`` is its first packet of the batch, and how many there are in all.
        """
        first, count = part
        _, others = self._arrive.finish(found, batch, now)
        self.resume(now)
        first += OPENED
        misses = [others]
        for start in range(first, count, OPENED):
            _, others = self._arrive.run(batch, start, min(count - start, OPENED), now)
            misses.append(others)
            self.resume(now)
        self._due = 0.0
        return np.concatenate(misses)

    def resume(self, now: float) -> None:
        """Do what the tables ask for: events, and what is to be delivered."""
        if self._counts[_EVENTS]:
            self._take_table_events(now)
        self._delivered(now)

    def _delivered(self, now: float) -> None:
        self._deliver.run(now)
        if self._counts[_EVENTS]:  # of lent streams
            self._take_table_events(now)

    def settle(self, now: float) -> None:
        """Rebuild what is missing, and deliver it; ``transmit`` begins with this.

        Once a turn, for all that has come: what one socket lacks, the next may have brought.
        """
        if self._counts[_DECODES]:
            self._decode.run(now)
            self._take_table_events(now)
        if self._times[_HOLD_DUE] <= now:
            wake_packets(self.context.tables.root, now)
        self._delivered(now)

    def transmit(self, now: float) -> Outgoing:
        """Return the packets to be sent now, at most one batch, valid until the next call; again if it has ``more``."""
        self._path_rates.run()
        self.flows.run_signals(now)
        self.sessions.run_late(now)
        excess = self._shares.look(now)
        if excess is not None:
            self._events.append(excess)
        self.settle(now)
        if self.flows.ready or self._counts[_REFILLS]:
            self._refill.run(now)
            if self._counts[_EVENTS]:
                self._take_table_events(now)
        return self._departed(self._depart.run(now), now)

    def departed(self, found: tuple[int, int, int, float], now: float) -> Outgoing:
        """Go on where compiled code has left :meth:`transmit`: ``found`` is what ``depart`` returned."""
        return self._departed(self._depart.finish(found, now), now)

    def sealed(self, count: int) -> Outgoing:
        """Return the ``count`` packets that compiled code has sealed last."""
        return self._depart.sealed(count)

    def _departed(self, found: tuple[Outgoing, float], now: float) -> Outgoing:
        outgoing, due = found
        if self._counts[_EVENTS]:
            self._take_table_events(now)
        if outgoing.packets and (
            outgoing.more or self.flows.ready or self._counts[_REFILLS]
        ):  # a port has more, and there was room
            self._due = now
            return outgoing._replace(more=True)
        self._due = min(due, self._times[_HOLD_DUE], self._deliver.due)
        return outgoing

    @property
    def work(self) -> tuple[Arriving, Leaving]:
        """What compiled code works on that takes packets in, and gives them out."""
        return self._arrive.work, self._depart.work

    def settled(self, now: float) -> float:
        """Return until when compiled code may make turns in place of :meth:`receive` and :meth:`transmit`.

        That is when something is due that it does not know of; ``now`` = at present it may not.
        """
        lent = all(serving.lease.view[FUNCTION] for serving in self._lenders)
        pool = self._counts
        busy = self._events or self.sessions.events or self.flows.events or pool[_EVENTS]
        if busy or self.flows.waiting or self._deliver.waiting or not lent or pool[_ROWS_FREE] * SHORT < pool[_ROWS]:
            return now
        return min(self._deliver.due, self.sessions.late_due(), self._path_rates.due(now))

    def go_on(self, due: float) -> None:
        """Go on after turns that compiled code has made; ``due`` is when the next is."""
        self._due = due
        self._depart.work.departures.now[1] = 0.0  # here nobody rests for long

    def rehearse(self, batch: PacketBatch, now: float) -> None:
        """Call the kernels that a turn calls now and then; nothing happens."""
        self._arrive.rehearse(batch, now)
        self._depart.rehearse()
        wake_packets(self.context.tables.root, now)
        rehearse_streams(self.context.tables.root, self.streams)

    def next_event(self, now: float) -> float:
        """Return when ``transmit`` has to be called next (inf = only when something arrives)."""
        return max(self._due, now)

    def _take_table_events(self, now: float) -> None:
        t = self.context.tables
        count = int(t.pool[0]["events"])
        if not count:
            return
        events = t.event[:count].copy()
        t.pool[0]["events"] = 0
        for event in events:
            kind = int(event[0])
            if kind in _FLOW_EVENTS:
                self.flows.on_event(event, now)
            elif kind == pool.EVENT_ABANDONED:
                session, channel = int(event[1]), int(event[3])
                if channel < CHANNELS and t.session[session]["used"] and t.session[session]["epoch"] == event[5]:
                    abandon_block(t.root, session * CHANNELS + channel, int(event[4]))
            else:
                follow = self._restarts if kind == pool.EVENT_RESTART else self.sessions
                told = follow.on_event(event, now)
                if told is not None:
                    self._events.append(told)
