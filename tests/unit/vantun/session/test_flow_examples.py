"""Flows by example: credit, order, ends, and the room that a hostile peer does not get."""

from __future__ import annotations

from dataclasses import replace

from tests.peer import INTERACTIVE, SMALL, Peer, data, open_record, pair, stream
from tests.property.invariants import check_tables
from vantun.dataplane.events import FlowClosed, FlowOpened
from vantun.dataplane.ports import RefusalCode
from vantun.lab.endpoint import MemoryPort
from vantun.lab.network import SESSION


def accepted(peer: Peer, port: MemoryPort, flow: int = 0) -> int:
    """Open a flow from the peer's side and accept it; return its handle."""
    peer.send(data(0, 0, open_record(flow)))
    opened = next(event for event in peer.end.events if isinstance(event, FlowOpened))
    peer.end.plane.attach_flow(opened.handle, port, peer.now)
    return opened.handle


def records_sent(peer: Peer) -> bytes:
    """Return the control records of what the endpoint sends next."""
    return b"".join(frames[10:-4] for frames in peer.depart(0.01) if frames[:2] == b"\x08\x00")


def test_pieces_in_any_order_and_twice_come_out_once() -> None:
    peer, port = Peer(), MemoryPort()
    accepted(peer, port)
    pieces = [(6, b"ghi"), (3, b"def"), (3, b"de"), (0, b"abcd"), (0, b"abcdefgh"), (2, b"cdefghij")]
    seen = []
    for number, (offset, piece) in enumerate(pieces):
        peer.send(data(INTERACTIVE, number, stream(0, offset, piece)))
        seen.append(bytes(port.received))
    assert seen == [b"", b"", b"", b"abcdefghi", b"abcdefghi", b"abcdefghij"]
    check_tables(peer.end.plane)


def test_the_end_may_overtake_the_bytes() -> None:
    peer, port = Peer(), MemoryPort()
    handle = accepted(peer, port)
    peer.send(data(0, 1, pair(3, 0, 3)))
    ended = [port.ended]
    peer.send(data(INTERACTIVE, 0, stream(0, 0, b"abc")))
    ended.append(port.ended)
    assert ended == [False, True]
    port.finish()
    peer.end.plane.readable(handle)
    peer.depart(0.01)
    assert port.closed
    assert FlowClosed(handle, SESSION) in peer.end.events


def test_the_last_byte_of_the_credit_is_taken_and_not_one_more() -> None:
    peer = Peer()
    peer.send(data(INTERACTIVE, 0, stream(0, SMALL.window_initial - 1, b"x")))
    assert peer.violations == []
    peer.send(data(INTERACTIVE, 1, stream(0, SMALL.window_initial - 1, b"xy")))
    assert peer.violations == ["stream data beyond its credit"]


def test_credit_follows_the_reader() -> None:
    config = replace(SMALL, window_initial=1000, window_max=4000)
    peer, port = Peer(config), MemoryPort(limit=1500)
    accepted(peer, port)
    assert records_sent(peer) == b"\x02\x00" + pair(6, 0, 2000)  # ACCEPT, and half of the largest window at once
    peer.send(data(INTERACTIVE, 0, stream(0, 0, bytes(100))))
    assert records_sent(peer) == b""  # nearly all of the window is left
    peer.send(data(INTERACTIVE, 1, stream(0, 100, bytes(1100))))
    granted = int(peer.end.plane.context.tables.flow["granted"].max())
    assert records_sent(peer) == pair(6, 0, granted)
    assert 1200 + 2000 <= granted <= 1200 + 4000
    peer.send(*[data(INTERACTIVE, 2 + i, stream(0, 1200 + 300 * i, bytes(300))) for i in range(6)])
    assert len(port.received) == 1500  # the reader has stopped
    told = int(peer.end.plane.context.tables.flow["granted"].max())
    assert told <= 1500 + 4000
    assert records_sent(peer) in (b"", pair(6, 0, told))
    peer.send(data(INTERACTIVE, 9, stream(0, told - 1, b"x")))
    assert records_sent(peer) == b""
    assert peer.violations == []


def test_a_sender_stops_at_the_credit_and_goes_on_with_it() -> None:
    config = replace(SMALL, window_initial=1000)
    peer, port = Peer(config, client=True), MemoryPort()
    port.feed(bytes(1500))
    peer.end.plane.open_flow(SESSION, "a:1", port, peer.now)
    peer.depart(0.01)
    assert port.fed == 500
    peer.send(data(0, 0, pair(6, 0, 900)))  # less than before: nothing
    peer.depart(0.01)
    assert port.fed == 500
    peer.send(data(0, 1, pair(6, 0, 1200)))
    peer.depart(0.01)
    assert port.fed == 300


def test_a_refused_flow_answers_with_its_code() -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(0)))
    opened = next(event for event in peer.end.events if isinstance(event, FlowOpened))
    peer.end.plane.refuse_flow(opened.handle, RefusalCode.HOST_UNREACHABLE, peer.now)
    assert records_sent(peer) == pair(4, 0, 4)
    peer.send(data(0, 1, open_record(0)), data(INTERACTIVE, 0, stream(0, 0, b"late")))
    assert peer.violations == []
    assert len(peer.end.plane.flows) == 0


def test_a_reset_that_overtakes_its_open() -> None:
    peer = Peer()
    peer.send(data(0, 1, pair(4, 0, 16)))
    peer.send(data(0, 0, open_record(0)))
    assert not any(isinstance(event, FlowOpened) for event in peer.end.events)
    assert peer.pool().flows == peer.empty.flows


def test_every_control_record_acts_once() -> None:
    peer, port = Peer(), MemoryPort()
    twice = open_record(0) * 2 + pair(3, 0, 0) * 2 + pair(6, 0, 1 << 20) * 2
    peer.send(data(0, 0, twice), data(0, 1, twice))
    opened = [event for event in peer.end.events if isinstance(event, FlowOpened)]
    assert len(opened) == 1
    peer.end.plane.attach_flow(opened[0].handle, port, peer.now)
    peer.depart(0.01)
    assert port.ended
    assert peer.violations == []


def test_an_id_opens_all_lower_ones_of_its_side() -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(6)))
    assert peer.pool().flows == peer.empty.flows - 4
    peer.send(data(0, 1, open_record(2)))
    assert [event.target for event in peer.end.events if isinstance(event, FlowOpened)] == ["a:1", "a:1"]


def test_the_delivery_list_holds_a_row_once() -> None:
    """A flow that ends while it waits for delivery leaves its row in the list; the next flow there adds no second."""
    peer = Peer()
    plane = peer.end.plane
    t = plane.context.tables
    for round_ in range(3):
        peer.send(data(0, round_, open_record(2 * round_)))
        opened = [event for event in peer.end.events if isinstance(event, FlowOpened)][-1]
        plane.attach_flow(opened.handle, MemoryPort(), peer.now)
        plane.flows.end_session(0)
        peer.end.run(peer.now)
    listed = t.deliver[: int(t.pool[0]["delivers"])].tolist()
    assert len(listed) == len(set(listed))
