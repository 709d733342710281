"""Packets between a device and flows, with a pair of datagram sockets in the device's place."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.linux.tun import MAX_PACKET, VNET_HEADER
from tests.packets import PLAIN, UDP, packet, transport
from tests.property.invariants import check_tables
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.ports import flow_index
from vantun.dataplane.tun_pump import EMPTY, read_tun, write_tun
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import IN, MALFORMED, NO_ROUTE, OFFLOAD, OK, OUT, TRUNCATED
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.lab.packet_port import MemoryPacketPort

ONE, TWO = "10.8.0.2", "10.8.0.3"
OUTSIDE = "192.0.2.1"
LARGE = 30_000
TARGETS = ("tun:", "udp:")


def made(target: str, size: int, source: str = OUTSIDE) -> bytes:
    """Return an IP packet of ``size`` bytes that repeats nowhere."""
    random = np.random.default_rng(size)
    return packet(source, target, UDP, transport(UDP, payload=random.bytes(size - 28)))


class TunPort(MemoryPacketPort):
    """Writes what has come to the device."""

    def __init__(self, plane: Dataplane, sessions: TunSessions) -> None:
        super().__init__(plane)
        self.sessions = sessions

    def drain(self, flow_index: int, now: float) -> int:
        context = self._plane.context
        status, size = write_tun(context.tables.root, self.sessions.tables, 0, flow_index, context.address, now)
        assert status == EMPTY
        return int(size)


class Town:
    """A server's device and two clients, whose flows end at a plane that keeps what has come."""

    def __init__(self, *, plain: bool = False) -> None:
        self.far, self.device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.far, self.device):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.plain = plain
        self.network = Network(seed=3)
        self.network.add_path(1, LinkProfile(rate=1e9, delay=0.002, queue_bytes=1 << 22))
        self.plane = self.network.client.plane
        self.sessions = TunSessions()
        self.port = TunPort(self.plane, self.sessions)
        self.ports = [self.port, MemoryPacketPort(self.plane)]
        for port, target in zip(self.ports, TARGETS, strict=True):
            self.plane.open_flow(SESSION, target, port, self.network.clocks[0]())
        self.now = 0.0
        self.pass_time(0.3)
        offloads = 0 if plain else 0x7F
        self.sessions.use_device(self.device.fileno(), offloads, client=False, client_to_client=False, plain=plain)
        for number, address, port in zip((1, 2), (ONE, TWO), self.ports, strict=True):
            slot = self.sessions.hold(number)
            self.sessions.set_routes(number, (address,), ())
            self.sessions.connect(slot, flow_index(port.handle))
        self.state = self.sessions.tables.root[0]["state"][0]

    def close(self) -> None:
        self.far.close()
        self.device.close()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.network.run(self.now)

    def offer(self, *packets: bytes) -> None:
        """Have the device hold packets, and read them."""
        for each in packets:
            self.far.send(each if self.plain else PLAIN + each)
        assert read_tun(self.plane.context.tables.root, self.sessions.tables, self.now)[0] == EMPTY
        check_tables(self.plane)

    def count(self, way: int, reason: int) -> int:
        return int(self.sessions.tables.root[0]["count"][way, reason])

    def arrived(self, number: int) -> list[bytes]:
        """Let everything arrive; return what has come by a flow, without headers."""
        for port in self.ports:
            self.plane.readable(port.handle)
        self.pass_time(1.0)
        bodies = self.network.accepted_packets[TARGETS[number]].bodies
        assert all(body[:VNET_HEADER] == PLAIN for body in bodies)
        return [body[VNET_HEADER:] for body in bodies]


@pytest.fixture
def town() -> Iterator[Town]:
    there = Town()
    yield there
    there.close()


@pytest.fixture
def plain() -> Iterator[Town]:
    there = Town(plain=True)
    yield there
    there.close()


def test_behind_a_large_packet_the_next_is_read_into_rows_of_its_session(town: Town) -> None:
    sent = [made(ONE, LARGE), made(ONE, LARGE + 1), made(ONE, MAX_PACKET)]
    town.offer(*sent)
    assert town.state["bulk"] == 0
    assert town.arrived(0) == sent
    assert town.count(OUT, OK) == 3


def test_a_wrong_guess_about_the_session_harms_neither(town: Town) -> None:
    to_one = [made(ONE, LARGE), made(ONE, LARGE + 3)]
    to_two = [made(TWO, LARGE + 1), made(TWO, 100), made(TWO, LARGE + 2)]
    free = int(town.plane.context.tables.pool[0]["rows_free"])
    town.offer(to_one[0], to_two[0], to_one[1])  # rows of one, of two, of one: each guess is wrong
    assert town.state["bulk"] == 0
    town.offer(to_two[1])
    assert town.state["bulk"] == -1
    town.offer(to_two[2])
    assert town.state["bulk"] == 1
    assert town.arrived(0) == to_one
    assert sorted(town.arrived(1)) == sorted(to_two)
    assert town.count(OUT, OK) == 5
    assert int(town.plane.context.tables.pool[0]["rows_free"]) == free, "rows that were taken in vain come back"


def test_a_wrong_guess_about_the_size_harms_nothing(town: Town) -> None:
    sent = [made(ONE, LARGE), made(ONE, 60), made(ONE, 61)]
    town.offer(*sent)
    assert town.state["bulk"] == -1
    assert town.arrived(0) == sent


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(made("10.8.0.9", LARGE), NO_ROUTE), (b"\x45" + bytes(LARGE), MALFORMED), (b"", MALFORMED)],
    ids=["to nobody", "no packet", "nothing"],
)
def test_what_is_dropped_behind_a_large_packet_takes_no_rows_with_it(town: Town, wrong: bytes, reason: int) -> None:
    sent = [made(ONE, LARGE), made(ONE, LARGE + 1)]
    town.offer(sent[0], wrong)
    assert town.count(OUT, reason) == 1
    assert town.state["bulk"] == -1
    town.offer(sent[1])
    assert town.arrived(0) == sent


@pytest.mark.parametrize("large_before", [False, True])
@pytest.mark.parametrize("excess", [1, 2, 40_000])
def test_a_packet_that_was_cut_is_dropped_whatever_it_was_read_into(
    town: Town, *, large_before: bool, excess: int
) -> None:
    sent = [made(ONE, LARGE)] if large_before else []
    town.offer(*sent, made(ONE, MAX_PACKET) + bytes(excess))
    assert town.count(OUT, TRUNCATED) == 1
    assert town.state["bulk"] == -1
    sent.append(made(ONE, 500))
    town.offer(sent[-1])
    assert town.arrived(0) == sent


def test_a_device_without_headers_carries_packets_both_ways(plain: Town) -> None:
    sent = [made(ONE, 28), made(ONE, LARGE), made(ONE, LARGE + 1), made(ONE, MAX_PACKET)]
    plain.offer(*sent)
    assert plain.state["bulk"] == -1, "nothing is read into rows: there is a header to put before"
    assert plain.arrived(0) == sent
    plain.offer(made(ONE, MAX_PACKET) + b"x")
    assert plain.count(OUT, TRUNCATED) == 1
    answers = [made(OUTSIDE, size, source=ONE) for size in (28, 1400, LARGE)]
    plain.network.accepted_packets["tun:"].send(*(PLAIN + each for each in answers))
    plain.pass_time(1.0)
    assert [plain.far.recv(1 << 17) for _ in answers] == answers
    assert plain.count(IN, OK) == 3


def test_a_device_without_headers_is_given_nothing_unfinished(plain: Town) -> None:
    unfinished = bytes([1, 0, 0, 0, 0, 0, 20, 0, 6, 0])
    plain.network.accepted_packets["tun:"].send(unfinished + made(OUTSIDE, 100, source=ONE))
    plain.pass_time(1.0)
    assert plain.count(IN, OFFLOAD) == 1
    with pytest.raises(BlockingIOError):
        plain.far.recv(1)
