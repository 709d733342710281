"""Packet flows by example: what waits for how long, what is dropped, what ends a session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.peer import PACKETS, SMALL, Peer, body, data, open_record, packets, pair
from tests.property.invariants import check_tables
from vantun.dataplane.events import FlowClosed, FlowOpened
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.packet_port import MemoryPacketPort
from vantun.session.limits import Limits
from vantun.session.packets import MAX_PACKET, PACKET_PIECES, packet_room, put_packet

HOLD = 0.18
"""1.5 times the RTT that counts for an unknown one, and 30 ms."""
ROOMY = replace(SMALL, limits=Limits(sessions=2, flows=16, rows=4096, flows_per_session=16))


class End:
    """A server with one packet flow, number 0, whose shards are made by hand."""

    def __init__(self, target: bytes = b"tun:", *, roomy: bool = True, attach: bool = True) -> None:
        self.peer = Peer(ROOMY if roomy else SMALL)
        self.plane = self.peer.end.plane
        self.shards = 0
        self.port = MemoryPacketPort(self.plane)
        self.peer.send(data(0, 0, open_record(0, target)))
        event = self.peer.end.events[-1]
        assert isinstance(event, FlowOpened)
        self.handle = event.handle
        if attach:
            self.plane.attach_flow(self.handle, self.port, self.peer.now)
            self.peer.depart()

    def give(self, offset: int, first: int, content: bytes) -> None:
        number = self.shards // 128 * 128 + self.shards % 128
        self.peer.send(data(PACKETS, number, packets(0, offset, first, content)))
        self.shards += 1

    def wait(self, seconds: float) -> None:
        """Let time pass, as an owner does that calls when it is told to."""
        until = self.peer.now + seconds
        while self.peer.now < until:
            self.peer.depart()
            self.peer.now = max(min(self.plane.next_event(self.peer.now), until), self.peer.now + 1e-4)
        self.peer.depart()

    def counters(self) -> dict[str, int]:
        rows = self.plane.snapshot()["packets"]
        assert isinstance(rows, list)
        return {name: value for name, value in rows[0].items() if name != "session" and value}

    def end(self) -> None:
        check_tables(self.plane)
        assert self.peer.end_session() == self.peer.empty


A, B, C = body(b"first"), body(b"second, longer"), body(b"third")


@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
def test_a_packet_comes_out_when_its_last_byte_is_there(target: bytes) -> None:
    end = End(target)
    end.give(0, 0, A[:3])  # not even its length
    end.give(3, len(A) - 3, A[3:])
    assert end.port.bodies == [b"first"]
    assert end.counters() == {"packets_out": 1}
    end.end()


@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
def test_an_empty_packet_is_a_packet(target: bytes) -> None:
    end = End(target)
    end.give(0, 0, body(b"") + body(b"") + A)
    assert end.port.bodies == [b"", b"", b"first"]
    end.end()


def test_in_order_a_hole_is_waited_for_and_no_longer_than_the_hold() -> None:
    end = End()
    end.give(0, 0, A)
    start = end.peer.now
    end.give(len(A) + len(B), 0, C)
    end.wait(HOLD - 0.01)
    assert end.port.bodies == [b"first"]
    end.wait(0.02)
    assert end.port.bodies == [b"first", b"third"]
    assert end.port.received[-1][0] == pytest.approx(start + HOLD, abs=0.001)
    end.give(len(A), 0, B)  # too late
    end.wait(0.3)
    assert end.port.bodies == [b"first", b"third"]
    assert end.counters() == {"packets_out": 2, "holes": 1, "skipped": len(B), "dropped_late": 1}
    end.end()


def test_a_hole_is_as_old_as_the_first_thing_behind_it() -> None:
    """What comes between the hole and what told of it does not begin the wait anew."""
    end = End()
    start = end.peer.now
    end.give(len(A) + len(B), 0, C)
    end.wait(HOLD / 2)
    end.give(len(A), 0, B)
    end.wait(HOLD)
    assert end.port.bodies == [b"second, longer", b"third"]
    assert end.port.received[0][0] == pytest.approx(start + HOLD, abs=0.001)
    end.end()


def test_delivery_goes_on_at_the_next_packet_that_is_known_to_start() -> None:
    end = End()
    whole = A + B + C
    end.give(len(A) + 6, len(B) - 6, whole[len(A) + 6 :])  # the rest of B, and C
    end.give(0, 0, A)
    end.wait(HOLD + 0.01)
    assert end.port.bodies == [b"first", b"third"]
    assert end.counters()["skipped"] == len(B)
    end.end()


def test_the_rest_of_a_packet_that_was_given_up_holds_up_nobody() -> None:
    end = End()
    end.give(0, 0, A[:5])
    end.give(len(A), 0, B)
    end.wait(HOLD + 0.01)
    assert end.port.bodies == [b"second, longer"]
    end.give(len(A) + len(B), 3, b"xyz")  # of a packet whose beginning never was: it begins where nothing is missing
    end.give(len(A) + len(B) + 3, 0, C)
    assert end.port.bodies == [b"second, longer", b"third"]
    end.end()


def test_without_order_a_packet_waits_for_no_other() -> None:
    end = End(b"udp:")
    end.give(len(A) + 6, len(B) - 6, (A + B + C)[len(A) + 6 :])
    assert end.port.bodies == [b"third"]
    end.give(0, 0, A)
    assert end.port.bodies == [b"third", b"first"]
    end.give(len(A), 0, B[:6])
    assert end.port.bodies == [b"third", b"first", b"second, longer"]
    end.end()


def test_without_order_parts_are_freed_when_their_time_is_over() -> None:
    end = End(b"udp:")
    end.give(0, 0, A[:6])
    end.give(100, 3, b"xyz")
    assert end.counters() == {"waiting": 2}
    end.wait(HOLD + 0.01)
    assert end.counters() == {"holes": 2, "skipped": 9}
    end.end()


def test_packets_wait_for_their_port() -> None:
    """The OPEN has been answered with nothing yet: what has come stays, and time passes without a busy loop."""
    end = End(attach=False)
    end.give(0, 0, A)
    end.wait(1.0)
    end.plane.attach_flow(end.handle, end.port, end.peer.now)
    end.wait(0.001)
    assert end.port.bodies == [b"first"]
    end.end()


def test_more_than_may_wait_is_dropped_and_its_shard_accepted() -> None:
    end = End(roomy=False)
    end.port.open_for = 0
    limit = int(end.plane.context.tables.policy[0]["pieces_per_flow"])
    for i in range(limit + 5):
        end.give(i * len(A), 0, A)
    counted = end.counters()
    assert counted["waiting"] <= limit
    assert counted["dropped_bound"] >= 5
    assert end.peer.violations == []
    assert int(end.plane.context.tables.channel[PACKETS]["rx_shards"]) == limit + 5
    end.port.take(1000)
    end.peer.depart()
    assert len(end.port.bodies) == counted["waiting"]
    end.end()


def test_a_hole_is_not_waited_for_when_little_room_is_left() -> None:
    end = End(roomy=False)
    limit = int(end.plane.context.tables.policy[0]["pieces_per_flow"])
    for i in range(1, limit + 20):
        end.give(i * len(A), 0, A)
    assert len(end.port.bodies) == limit + 19
    assert end.counters()["holes"] == 1
    end.end()


@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
@pytest.mark.parametrize("length", [MAX_PACKET + 1, (1 << 32) - 1])
def test_an_absurd_length_ends_the_session(target: bytes, length: int) -> None:
    end = End(target)
    end.give(0, 0, length.to_bytes(4, "big"))
    end.wait(0.001)
    assert len(end.peer.violations) == 1
    assert "impossible length" in end.peer.violations[0]
    end.end()


def test_a_packet_in_too_many_pieces_is_dropped() -> None:
    end = End()
    large = body(bytes(PACKET_PIECES + 40))
    for place in range(len(large)):
        end.give(place, 0 if place == 0 else 1, large[place : place + 1])
    end.give(len(large), 0, A)
    assert end.port.bodies == [b"first"]
    assert end.counters()["dropped_bound"] == 1
    end.end()


def test_fin_delivers_what_still_comes_and_ends_the_flow() -> None:
    end = End()
    end.give(0, 0, A)
    end.peer.send(data(0, 1, pair(3, 0, len(A) + len(B))))
    assert len(end.plane.flows) == 1
    end.give(len(A), 0, B)
    assert end.port.bodies == [b"first", b"second, longer"]
    assert end.port.closed
    assert [event for event in end.peer.end.events if isinstance(event, FlowClosed)]
    end.end()


@pytest.mark.parametrize("target", [b"tun:", b"udp:"])
def test_fin_does_not_wait_for_ever(target: bytes) -> None:
    end = End(target)
    end.give(len(A), 0, B)
    end.peer.send(data(0, 1, pair(3, 0, 1 << 40)))
    end.wait(HOLD + 0.01)
    assert end.port.bodies == [b"second, longer"]
    assert end.port.closed
    end.end()


def test_reset_frees_what_waits() -> None:
    end = End()
    end.give(len(A), 0, B)
    end.peer.send(data(0, 1, pair(4, 0, 16)))
    assert end.port.was_reset
    end.give(0, 0, A)
    assert end.port.bodies == []
    end.end()


# --- sending


def test_a_packet_that_may_not_be_put_is_counted_and_nothing_of_it_is_sent() -> None:
    peer = Peer(ROOMY, client=True)
    plane = peer.end.plane
    port = MemoryPacketPort(plane)
    index = plane.open_flow(SESSION, "tun:", port, peer.now) & 0xFFFFFF
    root = plane.context.tables.root
    memory = np.zeros(MAX_PACKET + 2, np.uint8)
    for start, length in ((0, MAX_PACKET + 1), (0, -1), (-1, 5), (3, MAX_PACKET)):
        assert put_packet(root, index, memory, start, length, peer.now) == 0
    assert put_packet(root, index, memory, 1, MAX_PACKET, peer.now) == 1
    room = int(packet_room(root, index))
    while room >= MAX_PACKET + 4:
        assert put_packet(root, index, memory, 0, MAX_PACKET, peer.now) == 1
        assert int(packet_room(root, index)) < room
        room = int(packet_room(root, index))
    assert put_packet(root, index, memory, 0, MAX_PACKET, peer.now) == 0
    channel = plane.context.tables.channel[PACKETS]
    assert int(channel["dropped_full"]) == 5
    check_tables(plane)
    assert peer.end_session() == peer.empty


@pytest.mark.parametrize("size", [64, 576])
def test_few_packets_have_a_shard_each_and_many_are_packed(size: int) -> None:
    """What loses one of a few packets shall lose no other; a stream of small ones is worth the room in a shard."""
    peer = Peer(ROOMY, client=True)
    plane = peer.end.plane
    index = plane.open_flow(SESSION, "tun:", MemoryPacketPort(plane), peer.now) & 0xFFFFFF
    root = plane.context.tables.root
    channel = plane.context.tables.channel[PACKETS]
    memory = np.zeros(size, np.uint8)
    for count in range(10):
        assert int(channel["shards"]) == max(count - 1, 0)  # the last one's is open until the next plan
        assert put_packet(root, index, memory, 0, size, peer.now) == 1
    for _ in range(100):  # at once: more wait than are few, although not much came before
        assert put_packet(root, index, memory, 0, size, peer.now) == 1
    assert int(channel["shards"]) <= 16 + 100 * (size + 4) // 1000
    check_tables(plane)
    assert peer.end_session() == peer.empty


def test_a_session_with_much_to_send_packs_from_its_first_packet_on() -> None:
    peer = Peer(ROOMY, client=True)
    plane = peer.end.plane
    index = plane.open_flow(SESSION, "tun:", MemoryPacketPort(plane), peer.now) & 0xFFFFFF
    root = plane.context.tables.root
    channel = plane.context.tables.channel[PACKETS]
    channel["burst"], channel["burst_at"] = ROOMY.bulk_after, peer.now
    for _ in range(10):
        assert put_packet(root, index, np.zeros(64, np.uint8), 0, 64, peer.now) == 1
    assert int(channel["shards"]) == 0
    check_tables(plane)
    assert peer.end_session() == peer.empty


def test_what_cannot_be_sent_in_time_is_given_up_and_the_peer_told() -> None:
    network = Network(seed=3)
    network.add_path(1, LinkProfile(rate=1e6, delay=0.01, queue_bytes=20_000))
    port = network.open_packets("tun:")
    network.run(0.5)
    port.send(*[bytes(1000)] * 400)  # 3.2 s of the path
    network.run(5.0)
    near = network.client.plane.snapshot()["packets"]
    assert isinstance(near, list)
    assert near[0]["expired"] > 0
    # the peer has forgotten the blocks that were given up: the window is free again
    port.send(b"again")
    network.run(6.0)
    assert network.accepted_packets["tun:"].bodies[-1] == b"again"
    for end in (network.client, network.server):
        check_tables(end.plane)
