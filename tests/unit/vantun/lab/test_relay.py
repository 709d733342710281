from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from drivers.batch import SOCKADDR_SIZE, PacketBatch, packet_batch
from vantun.errors import VantunError
from vantun.lab.link import Link, LinkProfile, link_dtype
from vantun.lab.relay import Relay
from vantun.lab.relay_kernel import FOREVER, Flight, admit, departure, find_clients, flight, release
from vantun.lab.relay_loop import SLOT, RelayLoop

PATIENCE = 5.0
SIZE = 128


def received(size: int, seed: int) -> PacketBatch:
    """Return a batch of 64 random packets of one message, as a socket would have filled it."""
    memory = np.random.default_rng(seed).integers(0, 256, 64 * size, np.uint8)
    batch = packet_batch(memory, 64, np.zeros((1, SOCKADDR_SIZE), np.uint8))
    batch.offset[:] = np.arange(64) * size
    batch.length[:] = size
    return batch


def small_flight(slots: int = 4096) -> Flight:
    return flight(np.zeros(slots * SIZE, np.uint8), slots, 2, 3)


def drain(way: Flight, now: float, sockets: int = 4) -> list[tuple[int, list[bytes]]]:
    """Release what is due; return (socket, packets) of each group."""
    out = packet_batch(way.memory.reshape(-1), 512, np.zeros((4, SOCKADDR_SIZE), np.uint8))
    leaving = departure(512, sockets)
    groups = release(way, leaving, out, now)
    result = []
    for group in range(groups):
        first, count = int(leaving.first[group]), int(leaving.packets[group])
        packets = [
            out.memory[out.offset[at] : out.offset[at] + out.length[at]].tobytes() for at in range(first, first + count)
        ]
        result.append((int(leaving.socket[group]), packets))
    return result


LOSSY = LinkProfile(rate=50e6, delay=0.02, loss=0.1, burst=3, jitter=0.004, reorder=True, duplicate=0.05)


@pytest.mark.parametrize("profile", [LOSSY, LinkProfile(rate=2e6, loss=0.05, queue_bytes=9000, delay=0.01)])
def test_the_fate_of_a_packet_is_that_of_virtual_time(profile: LinkProfile) -> None:
    virtual, real = Link(profile, 5, 0), Link(profile, 5, 0)
    states = np.zeros(2, link_dtype)
    states[0] = real.state[0]
    way = small_flight()
    whose = np.zeros((1, 2), np.int64)
    expected: list[tuple[float, bytes]] = []
    for burst in range(20):
        batch = received(SIZE, burst)
        now = burst * 2e-3
        admit(batch, 64, 0, whose, states, way, now)
        for index in range(64):
            content = batch.memory[index * SIZE : (index + 1) * SIZE].tobytes()
            expected += [(due, content) for due in virtual.send(now, SIZE)]
    expected.sort(key=lambda item: item[0])
    arrived: list[tuple[float, bytes]] = []
    while way.next[0] < FOREVER:
        due = float(way.next[0])
        arrived += [(due, packet) for _, packets in drain(way, due) for packet in packets]
    assert arrived == expected
    assert [int(states[0][name]) for name in virtual.counters()] == list(virtual.counters().values())
    assert way.state.tolist()[:2] == [0, 4096]


def test_packets_leave_grouped_by_socket_and_in_order() -> None:
    states = np.zeros(2, link_dtype)
    for row in range(2):
        states[row] = Link(LinkProfile(), 1, row).state[0]
    way = small_flight()
    sent: dict[int, list[bytes]] = {}
    for turn, (row, client) in enumerate([(0, 0), (0, 1), (1, 0), (0, 0), (1, 1)]):
        batch = received(SIZE, turn)
        admit(batch, 2, row, np.array([[client, 0]]), states, way, 0.0)
        socket_number = 0 if row else 1 + client
        sent.setdefault(socket_number, []).extend(batch.memory[:256].tobytes()[at : at + SIZE] for at in (0, SIZE))
    assert dict(drain(way, 1.0)) == sent
    assert way.tally["out"].tolist() == [6, 4]
    assert way.tally["bytes_out"].tolist() == [6 * SIZE, 4 * SIZE]


def test_a_full_flight_counts_what_it_cannot_hold() -> None:
    states = np.zeros(2, link_dtype)
    states[0] = Link(LinkProfile(delay=1.0), 1, 0).state[0]
    way = small_flight(slots=10)
    admit(received(SIZE, 0), 64, 0, np.zeros((1, 2), np.int64), states, way, 0.0)
    assert int(way.tally[0]["overflow"]) == 54
    assert sum(len(packets) for _, packets in drain(way, 2.0)) == 10


def test_packets_of_a_client_that_has_left_are_dropped() -> None:
    states = np.zeros(2, link_dtype)
    states[0] = Link(LinkProfile(delay=1.0), 1, 0).state[0]
    way = small_flight()
    admit(received(SIZE, 0), 3, 0, np.array([[1, 0]]), states, way, 0.0)
    way.epochs[1] += 1
    admit(received(SIZE, 1), 1, 0, np.array([[1, 1]]), states, way, 0.0)
    assert [len(packets) for _, packets in drain(way, 2.0)] == [1]
    assert int(way.tally[0]["orphaned"]) == 3
    assert int(way.state[1]) == 4096


def test_a_client_is_found_by_address_and_path() -> None:
    table = np.arange(4 * SOCKADDR_SIZE, dtype=np.uint8).reshape(4, SOCKADDR_SIZE)
    batch = packet_batch(np.zeros(64, np.uint8), 8, table[[2, 0, 1]].copy())
    batch.peer[:4] = [0, 1, 1, 2]
    found = np.zeros(4, np.int64)
    assert find_clients(batch, 4, 1, table, np.array([0, 1, 1]), found) == 3
    assert found[:3].tolist() == [2, -1, 1]


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(PATIENCE)
    return sock


@contextmanager
def running(*profiles: LinkProfile) -> Iterator[tuple[RelayLoop, socket.socket]]:
    """Yield a relay loop in this process, and the server's socket."""
    with bound() as server:
        loop = RelayLoop([(profile, profile) for profile in profiles], server.getsockname(), 1)
        try:
            yield loop, server
        finally:
            loop.close()


def step_until_readable(loop: RelayLoop, sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    for _ in range(20_000):
        loop.step()
        if select.select([sock], [], [], 0)[0]:
            found: tuple[bytes, tuple[str, int]] = sock.recvfrom(4096)
            return found
    raise AssertionError(f"nothing arrived: {loop.counters()}")


def test_both_directions_of_two_paths() -> None:
    with running(LinkProfile(delay=0.001), LinkProfile()) as (loop, server), bound() as client:
        for path, port in enumerate(loop.ports):
            client.sendto(b"ask", ("127.0.0.1", port))
            data, peer = step_until_readable(loop, server)
            assert data == b"ask"
            server.sendto(b"answer", peer)
            assert step_until_readable(loop, client) == (b"answer", ("127.0.0.1", port))
            forward, back = loop.counters()["paths"][path]  # type: ignore[index]
            assert (forward["in"], forward["out"], forward["bytes_out"]) == (1, 1, 3)
            assert (back["in"], back["out"], back["bytes_out"]) == (1, 1, 6)


def test_every_client_address_has_its_own_upstream_and_the_oldest_goes_first() -> None:
    with running(LinkProfile()) as (loop, server):
        upstreams = []
        clients = [bound() for _ in range(66)]
        try:
            for client in clients:
                client.sendto(b"?", ("127.0.0.1", loop.ports[0]))
                upstreams.append(step_until_readable(loop, server)[1])
            assert len(set(upstreams)) == 66
            assert loop.counters()["clients"] == 64
            assert loop.counters()["clients_replaced"] == 2
            server.sendto(b"!", upstreams[2])
            assert step_until_readable(loop, clients[2])[0] == b"!"
        finally:
            for client in clients:
                client.close()


def test_a_profile_that_no_slot_can_hold_is_refused() -> None:
    with running(LinkProfile()) as (loop, _), pytest.raises(ValueError, match="2048"):
        loop.set_profile(0, LinkProfile(mtu=SLOT + 1))


@pytest.mark.slow
def test_the_process_forwards_is_cut_and_restored() -> None:
    with bound() as server, bound() as client:
        with Relay.start([LinkProfile(delay=0.002), (LinkProfile(), LinkProfile())], server.getsockname()) as relay:
            assert len(set(relay.ports)) == 2
            client.connect(("127.0.0.1", relay.ports[0]))
            client.send(b"one")
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
            assert client.recv(100) == b"one"
            relay.cut(0)
            client.send(b"two")
            relay.counters()  # a request is answered after the packets that came before it
            while relay.counters()["paths"][0][0]["lost"] == 0:
                pass
            relay.restore(0)
            client.send(b"three")
            assert server.recv(100) == b"three"
            counters = relay.counters()
            assert counters["paths"][0][0]["in"] == 3
            assert counters["on_way"] == 0
            assert isinstance(counters["valid"], bool)
            assert "SCHED_FIFO" in counters["priority"]
            with pytest.raises(VantunError, match="refused profile"):
                relay.set_profile(1, LinkProfile(mtu=9000))
        with pytest.raises(VantunError):
            relay.counters()


@pytest.mark.slow
def test_a_profile_that_is_refused_ends_the_start() -> None:
    with pytest.raises(VantunError, match="refused start"):
        Relay.start([LinkProfile(mtu=9000)], ("127.0.0.1", 9))


@pytest.mark.slow
def test_a_parent_that_dies_ends_the_child() -> None:
    script = """
import os, sys
from vantun.lab.link import LinkProfile
from vantun.lab.relay import Relay
relay = Relay.start([LinkProfile()], ("127.0.0.1", 9))
print(relay.pid, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            assert select.select([child], [], [], PATIENCE)[0], "the relay outlives its parent"
        finally:
            os.close(child)
