"""The UDP sockets of a worker when one is full, dead or gone; the kernel's refusals come from the verified fake."""

from __future__ import annotations

import errno
import math
import socket
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.batch import PacketBatch, packet_batch
from drivers.linux.address import pack
from drivers.linux.udp import UdpOptions
from drivers.linux.udp_bind import bind_udp
from tests.unit.drivers.linux.fake_calls import FakeCalls
from vantun.dataplane.poller import Poller
from vantun.dataplane.stages.depart import Outgoing
from vantun.dataplane.worker_sockets import WorkerSockets

SIZE = 100


class Bench:
    """Two sockets of a worker, numbers 0 and 1, the first behind a fake; and a socket that everything is sent to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.calls = FakeCalls()
        self.poller = Poller()
        self.received: list[tuple[int, bytes]] = []
        self.missed: list[tuple[int, list[tuple[bytes, str, int]]]] = []
        self.refused: list[tuple[int, int]] = []
        self.failures: list[tuple[int, str]] = []
        self.sockets = WorkerSockets(
            self.poller,
            self.receive,
            self.miss,
            lambda: self.now,
            self.refuse,
            lambda number, reason: self.failures.append((number, reason)),
        )
        self.target = bind_udp("127.0.0.1", 0)
        handed = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
        self.addresses = [sock.getsockname() for sock in handed]
        self.sockets.add(0, handed[0], UdpOptions(gso=False, calls=self.calls))
        self.sockets.add(1, handed[1])

    def receive(self, batch: PacketBatch, count: int, number: int) -> NDArray[np.int32]:
        for index in range(count):
            start = int(batch.offset[index])
            self.received.append((number, batch.memory[start : start + int(batch.length[index])].tobytes()))
        return np.arange(count, dtype=np.int32)

    def miss(self, number: int, datagrams: list[tuple[bytes, str, int]]) -> None:
        self.missed.append((number, datagrams))

    def refuse(self, row: int, size: int) -> None:
        self.refused.append((row, size))

    def outgoing(self, *numbers: int) -> Outgoing:
        """Return a sealed batch; packet i holds the byte i and leaves by ``numbers[i]``."""
        count = len(numbers)
        address = np.frombuffer(pack(*self.target.getsockname()), np.uint8).reshape(1, -1)
        batch = packet_batch(np.repeat(np.arange(count, dtype=np.uint8), SIZE), count, address.copy())
        batch.offset[:] = SIZE * np.arange(count)
        batch.length[:] = SIZE
        return Outgoing(batch, count, np.array(numbers, np.int32))

    def arrived(self) -> list[int]:
        """Return which packets have arrived, in order; loopback delivers before ``send`` returns."""
        found = []
        while True:
            try:
                found.append(self.target.recv(SIZE)[0])
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.sockets.close()
        self.target.close()
        self.poller.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_batch_leaves_by_the_sockets_it_names(bench: Bench) -> None:
    assert bench.sockets.send(bench.outgoing(0, 0, 1, 0, 1), bench.now)
    assert bench.arrived() == [0, 1, 2, 3, 4]
    assert [row["send"] for row in bench.sockets.snapshot()] == [
        {"calls": 2, "messages": 3, "packets": 3, "size": 300},
        {"calls": 2, "messages": 2, "packets": 2, "size": 200},
    ]


def test_a_full_socket_keeps_the_rest_until_it_is_writable(bench: Bench) -> None:
    bench.calls.send_script = deque([-2, errno.EAGAIN])
    assert not bench.sockets.send(bench.outgoing(0, 0, 0, 1), bench.now)
    assert bench.arrived() == [0, 1]
    assert bench.sockets.retry_at > bench.now
    bench.poller.wait(math.inf)  # the kernel's socket is writable
    assert bench.sockets.retry_at <= bench.now
    assert bench.sockets.resume(bench.now)
    assert bench.arrived() == [2, 3]
    assert not bench.sockets.blocked
    assert bench.sockets.retry_at == math.inf
    assert bench.poller.wait(0.0) == 0, "nobody waits for writability any more"


def test_a_full_device_queue_is_tried_again_after_a_moment(bench: Bench) -> None:
    bench.calls.send_script = deque([errno.ENOBUFS])
    assert not bench.sockets.send(bench.outgoing(0, 0), bench.now)
    assert bench.now < bench.sockets.retry_at <= bench.now + 0.001
    bench.now = bench.sockets.retry_at
    assert bench.sockets.resume(bench.now)
    assert bench.arrived() == [0, 1]


def test_a_socket_that_stays_full_holds_up_the_others_for_a_moment_only(bench: Bench) -> None:
    bench.calls.send_script = deque([errno.EAGAIN] * 2)
    assert not bench.sockets.send(bench.outgoing(0, 0, 1), bench.now)
    assert not bench.sockets.resume(bench.now)
    bench.now += 0.01
    assert bench.sockets.resume(bench.now)
    assert bench.arrived() == [2]
    assert bench.sockets.unsent == 2


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ENODEV, errno.EPERM])
def test_a_way_that_is_gone_loses_its_packets_and_nothing_else(bench: Bench, number: int) -> None:
    bench.calls.send_script = deque([number] * 2)
    assert bench.sockets.send(bench.outgoing(0, 0, 1), bench.now)
    assert bench.arrived() == [2]
    assert sum(bench.sockets.snapshot()[0]["dropped"].values()) == 2  # type: ignore[attr-defined] # a dict


def test_a_way_that_is_gone_is_told_now_and_then(bench: Bench) -> None:
    for _ in range(3):
        bench.calls.send_script = deque([errno.EADDRNOTAVAIL])
        assert bench.sockets.send(bench.outgoing(0, 1), bench.now)
    assert bench.failures == [(0, "EADDRNOTAVAIL")]
    bench.now += 1.5
    assert bench.sockets.send(bench.outgoing(0), bench.now)  # it came back
    bench.calls.send_script = deque([errno.EPERM])
    assert bench.sockets.send(bench.outgoing(0), bench.now)  # a firewall's rule is no lost way
    assert len(bench.failures) == 1
    bench.calls.send_script = deque([errno.ENETUNREACH])
    assert bench.sockets.send(bench.outgoing(0), bench.now)
    assert bench.failures == [(0, "EADDRNOTAVAIL"), (0, "ENETUNREACH")]


def test_a_socket_in_misuse_loses_its_packets_and_says_why(bench: Bench) -> None:
    bench.calls.send_script = deque([errno.EDESTADDRREQ])
    assert bench.sockets.send(bench.outgoing(0, 0, 1), bench.now)
    assert bench.arrived() == [2]
    assert bench.sockets.unsent == 2
    assert "sending packet 0" in str(bench.sockets.snapshot()[0]["last_error"])
    assert len(bench.failures) == 1


def test_a_packet_that_is_longer_than_the_interface_takes_is_reported(bench: Bench) -> None:
    bench.calls.send_script = deque([errno.EMSGSIZE])
    assert bench.sockets.send(bench.outgoing(0, 0), bench.now)
    assert bench.arrived() == [1]
    assert bench.refused == [(0, SIZE)]
    assert bench.sockets.send(bench.outgoing(0, 1), bench.now)
    assert bench.refused == [(0, SIZE)]


def test_packets_of_a_socket_that_was_taken_away_are_dropped(bench: Bench) -> None:
    bench.sockets.remove(0)
    bench.sockets.remove(0)
    assert bench.sockets.send(bench.outgoing(0, 1, 7), bench.now)
    assert bench.arrived() == [1]
    assert bench.sockets.unsent == 2


def test_what_waits_for_a_socket_that_is_taken_away_does_not_wait_for_ever(bench: Bench) -> None:
    bench.calls.send_script = deque([errno.EAGAIN])
    assert not bench.sockets.send(bench.outgoing(0, 1), bench.now)
    bench.sockets.remove(0)
    assert bench.sockets.resume(bench.now)
    assert bench.arrived() == [1]


def test_strangers_are_passed_on_with_their_address(bench: Bench) -> None:
    bench.target.sendto(b"hello", bench.addresses[1])
    bench.poller.wait(math.inf)
    assert bench.received == [(1, b"hello")]
    assert bench.missed == [(1, [(b"hello", *bench.target.getsockname())])]


def test_a_flood_of_strangers_is_cut_and_counted(bench: Bench) -> None:
    for _ in range(100):
        bench.target.sendto(b"x", bench.addresses[1])
    while len(bench.received) < 100:
        bench.poller.wait(math.inf)
    passed = sum(len(datagrams) for _, datagrams in bench.missed)
    assert passed + bench.sockets.misses_dropped == 100


def test_a_socket_that_cannot_receive_rests_and_is_tried_again(bench: Bench) -> None:
    bench.calls.receive_script = deque([errno.ENOTSOCK])
    bench.target.sendto(b"later", bench.addresses[0])
    bench.poller.wait(math.inf)
    assert bench.received == []
    assert bench.poller.wait(0.0) == 0, "it would come back at once, and for ever"
    assert bench.sockets.wake_at > bench.now
    bench.sockets.run(bench.now)
    assert bench.poller.wait(0.0) == 0
    bench.now = bench.sockets.wake_at
    bench.sockets.run(bench.now)
    bench.poller.wait(math.inf)
    assert bench.received == [(0, b"later")]
    assert bench.sockets.wake_at == math.inf


def test_a_resting_socket_that_is_full_gives_up_its_packets(bench: Bench) -> None:
    bench.calls.receive_script = deque([errno.ENOTSOCK])
    bench.target.sendto(b"x", bench.addresses[0])
    bench.poller.wait(math.inf)
    bench.calls.send_script = deque([errno.EAGAIN])
    assert not bench.sockets.send(bench.outgoing(0, 1), bench.now)
    bench.now = bench.sockets.retry_at
    assert bench.sockets.resume(bench.now)
    assert bench.arrived() == [1]


def test_fallbacks_are_listed(bench: Bench) -> None:
    bench.calls.batched = errno.ENOSYS
    assert bench.sockets.send(bench.outgoing(0), bench.now)
    assert [(row["socket"], row["what"], row["times"]) for row in bench.sockets.fallbacks()] == [(0, "sendmmsg", 1)]


def test_a_socket_is_replaced_under_its_number(bench: Bench) -> None:
    bench.sockets.add(0, bind_udp("127.0.0.1", 0))
    assert bench.sockets.send(bench.outgoing(0), bench.now)
    sender = bench.target.recvfrom(SIZE)[1]
    assert sender != bench.addresses[0]
    assert isinstance(bench.target, socket.socket)
