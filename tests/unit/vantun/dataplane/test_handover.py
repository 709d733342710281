"""Datagrams of another worker: they arrive there with their source, in order, or are counted as dropped."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.batch import PacketBatch, packet_batch
from drivers.linux import reuseport
from drivers.linux.address import pack, unpack
from drivers.linux.reuseport import bind_group, probe_steering
from drivers.linux.udp_bind import bind_udp
from vantun.control.crew_mesh import inbox
from vantun.dataplane.handover import DATAGRAMS, MESSAGE, Handover
from vantun.dataplane.poller import Poller
from vantun.dataplane.worker_sockets import Receive, WorkerSockets

Datagram = tuple[bytes, str, int]


@dataclass
class Mesh:
    """Workers of a mesh, and what each was given: (socket number, data, host, port)."""

    poller: Poller = field(default_factory=Poller)
    workers: list[Handover] = field(default_factory=list)
    got: list[list[tuple[int, bytes, str, int]]] = field(default_factory=list)
    boxes: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def grow(self, count: int) -> None:
        for number in range(count):
            self.got.append([])
            self.workers.append(Handover(self.poller, self._taker(number)))
            self.boxes.append(inbox())
        for number, worker in enumerate(self.workers):
            worker.join(number, self.boxes[number][0].dup())
            for other in range(count):
                if other != number:
                    worker.connect(other, self.boxes[other][1].dup())

    def _taker(self, number: int):  # type: ignore[no-untyped-def]
        def take(batch: PacketBatch, count: int, sock: int) -> None:
            self.got[number] += [(sock, *each) for each in contents(batch, count)]

        return take

    def settle(self) -> None:
        while self.poller.wait(0.0):
            pass

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        for pair in self.boxes:
            for sock in pair:
                sock.close()
        self.poller.close()


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    made = Mesh()
    made.grow(3)
    yield made
    made.close()


def contents(batch: PacketBatch, count: int) -> list[Datagram]:
    found = []
    for index in range(count):
        start, size = int(batch.offset[index]), int(batch.length[index])
        found.append((batch.memory[start : start + size].tobytes(), *unpack(batch.address[batch.peer[index]])))
    return found


def batch_of(datagrams: list[Datagram]) -> PacketBatch:
    address = np.frombuffer(b"".join(pack(host, port) for _, host, port in datagrams), np.uint8).reshape(-1, 28)
    memory = np.frombuffer(b"".join(data for data, _, _ in datagrams) + bytes(8), np.uint8)
    batch = packet_batch(memory, len(datagrams), address)
    batch.length[:] = [len(data) for data, _, _ in datagrams]
    batch.offset[:] = np.cumsum(batch.length) - batch.length
    batch.peer[:] = np.arange(len(datagrams))
    return batch


def everything(count: int) -> NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=3).flatmap(lambda head: st.just(head) | st.just(b"\x41\x01" + head)),
            st.sampled_from(["10.0.0.1", "192.0.2.7", "2001:db8::5"]),
            st.integers(1, 65_535),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_each_datagram_goes_to_its_worker_or_stays(datagrams: list[Datagram]) -> None:
    mesh = Mesh()
    mesh.grow(3)
    try:
        rest = mesh.workers[0].pass_on(7, batch_of(datagrams), everything(len(datagrams)))
        mesh.settle()
        owners = [
            data[1] if len(data) > 1 and data[0] & 0xC0 == 0x40 and data[1] in (1, 2) else 0 for data, _, _ in datagrams
        ]
        assert rest.tolist() == [index for index, owner in enumerate(owners) if owner == 0]
        for worker in (1, 2):
            assert mesh.got[worker] == [
                (7, *each) for each, owner in zip(datagrams, owners, strict=True) if owner == worker
            ]
        assert mesh.workers[0].handed_over == len(datagrams) - len(rest)
        assert mesh.workers[0].dropped == 0
    finally:
        mesh.close()


def test_many_long_datagrams_take_several_messages(mesh: Mesh) -> None:
    datagrams = [(b"\x40\x02" + bytes([index % 256]) * 1400, "10.0.0.1", 1 + index) for index in range(200)]
    assert not len(mesh.workers[0].pass_on(1, batch_of(datagrams), everything(200)))
    mesh.settle()
    assert mesh.got[2] == [(1, *each) for each in datagrams]
    assert mesh.workers[2].snapshot() == {"handed_over": 0, "hand_over_dropped": 0, "taken_over": 200}


def test_small_ones_are_as_many_as_a_message_may_have_pieces(mesh: Mesh) -> None:
    count = 2 * DATAGRAMS + 1
    datagrams = [(b"\x40\x01", "10.0.0.1", 1 + index) for index in range(count)]
    assert not len(mesh.workers[2].pass_on(1, batch_of(datagrams), everything(count)))
    mesh.settle()
    assert [port for _, _, _, port in mesh.got[1]] == list(range(1, count + 1))


def test_a_worker_that_does_not_read_is_not_waited_for(mesh: Mesh) -> None:
    datagrams = [(b"\x40\x01" + bytes(1400), "10.0.0.1", 9)] * 40
    batch = batch_of(datagrams)
    sent = 0
    while not mesh.workers[0].dropped:
        mesh.workers[0].pass_on(1, batch, everything(40))
        sent += 40
        assert sent < 1_000_000, "an inbox without a bound"
    assert mesh.workers[0].handed_over + mesh.workers[0].dropped == sent
    mesh.settle()
    assert len(mesh.got[1]) == mesh.workers[0].handed_over
    assert len(mesh.workers[0].pass_on(1, batch, everything(40))) == 0
    mesh.settle()
    assert mesh.got[1][-1] == (1, *datagrams[-1])


def test_what_no_message_can_hold_is_dropped(mesh: Mesh) -> None:
    datagrams = [(b"\x40\x01" + bytes(size), "10.0.0.1", 9) for size in (10, MESSAGE, 20)]
    assert not len(mesh.workers[0].pass_on(1, batch_of(datagrams), everything(3)))
    mesh.settle()
    assert [len(data) for _, data, _, _ in mesh.got[1]] == [12, 22]
    assert mesh.workers[0].dropped == 1


def test_an_inbox_outlives_its_worker(mesh: Mesh) -> None:
    mesh.workers[1].close()
    datagrams = [(b"\x40\x01abc", "10.0.0.1", 9)]
    mesh.workers[0].pass_on(1, batch_of(datagrams), everything(1))
    mesh.workers[1].join(1, mesh.boxes[1][0].dup())
    mesh.settle()
    assert mesh.got[1] == [(1, *datagrams[0])]


@pytest.mark.parametrize("message", [b"", b"short", bytes(12), b"\xff" * 60, b"\0" * 8 + b"\1\0\0\0" + b"\xff" * 40])
def test_what_is_no_message_is_left_alone(mesh: Mesh, message: bytes) -> None:
    mesh.boxes[1][1].send(message)
    mesh.settle()
    assert mesh.got[1] == []


def test_without_a_mesh_everything_stays() -> None:
    poller = Poller()
    alone = Handover(poller, lambda _batch, _count, _number: None)
    assert len(alone.pass_on(1, batch_of([(b"\x40\x01", "10.0.0.1", 9)]), everything(1))) == 1
    alone.close()
    poller.close()


def test_sockets_hand_over_before_the_control_process_is_told_and_never_twice() -> None:
    poller, missed = Poller(), list[tuple[int, list[Datagram]]]()
    ours, theirs = inbox(), inbox()

    def receive(_batch: PacketBatch, count: int, _number: int) -> NDArray[np.int32]:
        return everything(count)

    sockets = WorkerSockets(poller, receive, lambda number, found: missed.append((number, found)), lambda: 0.0)
    sockets.handover.join(0, ours[0])
    sockets.handover.connect(1, theirs[1])
    bound = bind_udp("127.0.0.1", 0)
    target = bound.getsockname()
    sockets.add(3, bound)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        for data in (b"\x40\x01theirs", b"\xc0\x01long", b"\x40\x00ours"):
            sender.sendto(data, target)
        source = sender.getsockname()
        while not missed:
            poller.wait(1.0)
    found = [data for _, each in missed for data, _, _ in each]
    assert found == [b"\xc0\x01long", b"\x40\x00ours"]
    message = theirs[0].recv(1 << 16)
    assert message.endswith(b"\x40\x01theirs")
    missed.clear()
    ours[1].send(message)  # as if the other had handed it to us: it is nobody's here
    while not missed:
        poller.wait(1.0)
    assert missed == [(3, [(b"\x40\x01theirs", *source)])]
    sockets.close()
    for sock in (ours[1], theirs[0]):
        sock.close()
    poller.close()


@pytest.mark.skipif(bool(probe_steering()), reason=probe_steering() or "-")
def test_a_superpacket_for_two_workers_comes_apart() -> None:
    """As receive offload makes them of what two workers of one sender have sent in turn."""
    group = bind_group(2, lambda port, shared: bind_udp("127.0.0.1", port, shared=shared))
    target, poller = group.sockets[0].getsockname(), Poller()
    got: list[list[bytes]] = [[], []]
    boxes = [inbox(), inbox()]
    workers = []

    def receiver(worker: int) -> Receive:
        def receive(batch: PacketBatch, count: int, _number: int) -> NDArray[np.int32]:
            found = [data for data, _, _ in contents(batch, count)]
            got[worker] += [data for data in found if data[1] == worker]
            return np.array([index for index, data in enumerate(found) if data[1] != worker], np.int32)

        return receive

    def nobody(_number: int, found: list[Datagram]) -> None:
        raise AssertionError(f"{len(found)} datagrams are nobody's")

    for worker, sock in enumerate(group.sockets):
        sockets = WorkerSockets(poller, receiver(worker), nobody, lambda: 0.0)
        sockets.handover.join(worker, boxes[worker][0])
        sockets.handover.connect(1 - worker, boxes[1 - worker][1])
        sockets.add(0, sock)
        workers.append(sockets)
    sent = [bytes([0x40, order % 3 % 2, order]).ljust(200, b"-") for order in range(30)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.setsockopt(socket.IPPROTO_UDP, 103, 200)  # UDP_SEGMENT
        except OSError as error:
            pytest.skip(f"no superpackets here: {error.strerror}")
        sender.sendto(b"".join(sent), target)
    while poller.wait(0.0):
        pass
    assert got == [[data for data in sent if data[1] == worker] for worker in range(2)]
    if all(row["gro"] for each in workers for row in each.snapshot()):
        assert workers[0].handover.handed_over == workers[1].handover.taken == len(got[1])
    for each in workers:
        each.close()
    poller.close()


def test_without_steering_every_datagram_comes_to_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's hash gives all of a sender to one socket: that worker hands over what is not its own."""
    monkeypatch.setattr(reuseport, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    group = bind_group(3, lambda port, shared: bind_udp("127.0.0.1", port, shared=shared))
    assert not group.steered
    target, poller = group.sockets[0].getsockname(), Poller()
    got: list[list[bytes]] = [[], [], []]
    strangers: list[bytes] = []
    boxes = [inbox() for _ in range(3)]
    workers = []

    def receiver(worker: int) -> Receive:
        def receive(batch: PacketBatch, count: int, _number: int) -> NDArray[np.int32]:
            found = [data for data, _, _ in contents(batch, count)]
            mine = [data[0] == 0x40 and data[1] == worker for data in found]
            got[worker] += [data for data, own in zip(found, mine, strict=True) if own]
            return np.flatnonzero(~np.array(mine)).astype(np.int32)

        return receive

    for worker, sock in enumerate(group.sockets):
        sockets = WorkerSockets(
            poller, receiver(worker), lambda _number, found: strangers.extend(each[0] for each in found), lambda: 0.0
        )
        sockets.handover.join(worker, boxes[worker][0])
        for other in {0, 1, 2} - {worker}:
            sockets.handover.connect(other, boxes[other][1].dup())
        sockets.add(0, sock)
        workers.append(sockets)
    sent = [bytes([0x40, order % 3, order]).ljust(100, b"-") for order in range(90)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (*sent, b"\xc0 a handshake"):
            sender.sendto(data, target)
    while poller.wait(0.0):
        pass
    assert got == [[data for data in sent if data[1] == worker] for worker in range(3)]
    assert strangers == [b"\xc0 a handshake"]
    assert sum(each.handover.handed_over for each in workers) == sum(each.handover.taken for each in workers) == 60
    for each in workers:
        each.close()
    for _, writing in boxes:
        writing.close()
    poller.close()
