"""Flows in every state, fed with hand-made records in every order, against a model of bytes.

Their ports are memory, or the sockets of real connections, which Python or compiled code reads and writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.lent_port import LentPort
from tests.peer import BULK, SMALL, Peer, data, open_record, pair, stream, varint
from tests.property.invariants import check_tables
from vantun.dataplane.events import FlowClosed, FlowOpened
from vantun.dataplane.ports import RefusalCode
from vantun.lab.endpoint import MemoryPort
from vantun.lab.network import SESSION

CREDIT = SMALL.window_initial
LIMIT = SMALL.limits.flows_per_session
MINE = st.sampled_from([0, 2, 4, 6, 30])
"""Flow ids of the peer (the client); 30 opens the 16th flow at most."""
THEIRS = st.sampled_from([1, 3, 5])
CODES = st.one_of(st.integers(0, 20), st.integers(0, 1 << 61))
OFFSETS = st.one_of(st.integers(0, 200), st.integers(CREDIT - 100, CREDIT + 20), st.integers(0, 1 << 61))


def content(flow: int, start: int, size: int) -> bytes:
    """Return the bytes of a flow: each offset has its own."""
    return bytes((flow * 31 + offset * 7 + (offset >> 8)) & 0xFF for offset in range(start, start + size))


@dataclass
class Flow:
    """A flow as the endpoint under test should see it; ``accepted`` = its port is connected at the far end, too.

    ``known`` = it is known to be a stream: by its OPEN, or a STREAM record.
    """

    accepted: bool = False
    known: bool = False
    handle: int | None = None
    port: MemoryPort | LentPort | None = None
    here: set[int] = field(default_factory=set)
    final: int | None = None

    @property
    def contiguous(self) -> int:
        size = 0
        while size in self.here:
            size += 1
        return size


class FlowMachine(RuleBasedStateMachine):
    """One endpoint (server); rules are records of its peer, answers of its owner, and what its ports do."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        self.forsake()
        self.peer = Peer()
        self.plane = self.peer.end.plane
        self.flows: dict[int, Flow] = {}
        self.ended: set[int] = set()
        self.own = 0
        self.newest = -2
        self.shards = 0
        self.seen = 0
        self.expected: str | None = None

    def make_port(self, limit: int | None = None) -> MemoryPort | LentPort:
        return MemoryPort(limit)

    def forsake(self) -> None:
        """Close what was made with the last peer."""

    # --- model

    def reach(self, flow: int) -> Flow | None:
        """Return the flow that a record may reach; note the violation if it may not."""
        if flow & 1:
            if flow // 2 >= self.own:
                self.expected = "flow id"
            return self.flows.get(flow)
        if flow > self.newest:
            if len(self.flows) + (flow - self.newest) // 2 > LIMIT:
                self.expected = "flow id"
                return None
            for number in range(self.newest + 2, flow + 1, 2):
                self.flows[number] = Flow()
            self.newest = flow
        return self.flows.get(flow)

    def records(self, *records: bytes) -> None:
        """Send records in one shard of the bulk channel, and follow what the owner is told."""
        self.peer.send(data(BULK, self.shards, b"".join(records)))
        self.shards += 1
        if self.expected is None:
            self.follow()
            assert self.peer.violations == []
            return
        assert len(self.peer.violations) == 1
        assert self.expected in self.peer.violations[0]
        before = self.peer.pool()
        self.peer.send(data(BULK, self.shards, open_record(0) + stream(0, 0, b"late")))
        assert self.peer.pool() == before
        assert self.peer.end_session() == self.peer.empty
        self.begin()

    def follow(self) -> None:
        events = self.peer.end.events
        for event in events[self.seen :]:
            if isinstance(event, FlowOpened):
                flow = int(event.target.removesuffix(".example:1"))
                assert self.flows[flow].handle is None, "a flow was opened twice"
                self.flows[flow].handle = event.handle
            elif isinstance(event, FlowClosed):
                for number, flow_ in list(self.flows.items()):
                    if flow_.handle == event.handle:
                        self.ended.add(number)
                        del self.flows[number]
        self.seen = len(events)

    # --- what the peer sends

    @rule(flow=MINE)
    def send_open(self, flow: int) -> None:
        state = self.reach(flow)
        if state is not None:
            if state.handle is None and state.final is not None and state.final > self.granted(flow):
                self.expected = "final"  # a FIN that came before could have been one of a packet flow
            state.known = True
        self.records(open_record(flow, b"%d.example:1" % flow))

    @rule(
        flow=st.one_of(MINE, THEIRS),
        pieces=st.lists(st.tuples(OFFSETS, st.integers(0, 120), st.booleans()), min_size=1, max_size=5),
    )
    def send_stream(self, flow: int, pieces: list[tuple[int, int, bool]]) -> None:
        records = []
        for offset, size, _ in pieces:
            records.append(stream(flow, offset, content(flow, offset, size)))
            if self.expected is not None:
                continue
            state = self.reach(flow)
            if state is None:
                continue
            state.known = True
            if state.final is not None and offset + size > state.final:
                self.expected = "final"
            elif offset + size > self.granted(flow):
                self.expected = "credit"
            else:
                state.here.update(range(offset, offset + size))
        self.records(*records)

    def granted(self, flow: int) -> int:
        t = self.plane.context.tables
        for record in t.flow[t.flow["used"] == 1]:
            if int(record["id"]) == flow:
                return int(record["granted"])
        return CREDIT

    @rule(flow=st.one_of(MINE, THEIRS), final=st.one_of(st.integers(0, 300), st.just(CREDIT + (64 << 20)), st.none()))
    def send_fin(self, flow: int, final: int | None) -> None:
        state = self.reach(flow)
        if final is None:
            final = max(state.here, default=-1) + 1 if state is not None else 7
        if state is not None:
            wrong = (state.known and final > self.granted(flow)) or final < max(state.here, default=-1) + 1
            if wrong or state.final not in (None, final):
                self.expected = "final"
            else:
                state.final = final
        self.records(pair(3, flow, final))

    @rule(
        flow=st.one_of(MINE, THEIRS),
        kind=st.sampled_from([4, 5]),
        code=st.one_of(st.integers(0, 20), st.integers(0, 1 << 61)),
    )
    def send_reset_or_stop(self, flow: int, kind: int, code: int) -> None:
        state = self.reach(flow)
        self.records(pair(kind, flow, code))
        if state is not None:
            self.flows.pop(flow, None)
            self.ended.add(flow)
            if state.port is not None:
                assert state.port.was_reset or state.port.refusal == code
                assert state.port.was_reset or not state.accepted

    @rule(flow=st.one_of(MINE, THEIRS), limit=st.integers(0, (1 << 62) - 1))
    def send_credit(self, flow: int, limit: int) -> None:
        self.reach(flow)
        self.records(pair(6, flow, limit))

    @rule(flow=st.one_of(MINE, THEIRS))
    def send_accept(self, flow: int) -> None:
        state = self.reach(flow)
        if state is not None and flow & 1:
            state.accepted = True
        self.records(b"\x02" + varint(flow))
        if state is not None and state.port is not None:
            assert state.port.opened == (state.accepted and flow & 1 == 1)

    @rule()
    def send_what_means_nothing(self) -> None:
        self.records(b"\x07\x01\x01\x00ab")

    # --- what the owner and its ports do

    @precondition(lambda self: self.own < 3 and len(self.flows) < LIMIT)
    @rule()
    def open_own(self) -> None:
        flow, port = 2 * self.own + 1, self.make_port()
        port.feed(content(flow, 0, 300))
        handle = self.plane.open_flow(SESSION, "far.example:1", port, self.peer.now)
        if isinstance(port, LentPort):
            port.handle = handle
        self.flows[flow] = Flow(known=True, handle=handle, port=port)
        self.own += 1

    @rule(flow=MINE, limit=st.one_of(st.none(), st.integers(1, 50)))
    def attach(self, flow: int, limit: int | None) -> None:
        state = self.flows.get(flow)
        if state is not None and state.handle is not None and state.port is None:
            state.port = self.make_port(limit)
            state.accepted = True
            if isinstance(state.port, LentPort):
                state.port.attached(state.handle, self.peer.now)
            else:
                self.plane.attach_flow(state.handle, state.port, self.peer.now)

    @rule(flow=MINE)
    def refuse(self, flow: int) -> None:
        state = self.flows.get(flow)
        if state is not None and state.handle is not None and state.port is None:
            self.plane.refuse_flow(state.handle, RefusalCode.REFUSED, self.peer.now)
            self.peer.end.run(self.peer.now)
            self.follow()
            assert flow in self.ended

    @rule(flow=st.one_of(MINE, THEIRS), action=st.sampled_from(["drain", "finish", "break"]))
    def use_port(self, flow: int, action: str) -> None:
        state = self.flows.get(flow)
        if state is None or state.port is None or state.handle is None:
            return
        if action == "drain":
            state.port.drain()
            self.plane.writable(state.handle)
        elif action == "finish":
            state.port.finish()
            self.plane.readable(state.handle)
        else:
            state.port.break_stream()
            self.plane.readable(state.handle)

    @rule(wait=st.floats(0.0, 0.2))
    def pass_time(self, wait: float) -> None:
        for frames in self.peer.depart(wait):
            assert frames
        self.follow()

    # --- what holds

    @invariant()
    def bytes_are_in_order_and_only_once(self) -> None:
        for number, flow in self.flows.items():
            if flow.port is None:
                continue
            got = bytes(flow.port.received)
            assert got == content(number, 0, len(got))
            assert len(got) <= flow.contiguous
            if flow.port.ended:
                assert len(got) == flow.final

    @invariant()
    def tables_add_up(self) -> None:
        check_tables(self.plane)

    def teardown(self) -> None:
        self.peer.depart(0.01)
        self.follow()
        for flow in self.flows.values():  # whatever a port without limit could take, it has
            if flow.port is not None and not flow.port.limited:
                assert len(flow.port.received) == (flow.contiguous if flow.accepted else 0)
        assert self.peer.end_session() == self.peer.empty
        for flow in self.flows.values():
            if flow.port is not None:
                assert flow.port.was_reset or flow.port.closed


TestFlows = pytest.mark.slow(FlowMachine.TestCase)


class LentMachine(FlowMachine):
    """The same with real sockets that compiled code reads and writes."""

    lends = True

    def make_port(self, limit: int | None = None) -> LentPort:
        self.ports.append(LentPort(self.plane, limit, lends=self.lends))
        return self.ports[-1]

    def begin(self) -> None:
        super().begin()
        self.ports: list[LentPort] = []

    def forsake(self) -> None:
        for port in getattr(self, "ports", []):
            port.forsake()

    def teardown(self) -> None:
        super().teardown()
        self.forsake()


class SocketMachine(LentMachine):
    """The same with Python in compiled code's place."""

    lends = False


TestLentFlows = pytest.mark.slow(LentMachine.TestCase)
TestSocketFlows = pytest.mark.slow(SocketMachine.TestCase)
