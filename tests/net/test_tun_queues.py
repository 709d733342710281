"""Several queues of one TUN device against the kernel: who reads what, and what a queue out of use still does."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest

from drivers.errors import SystemCallError
from drivers.linux.tun import VNET_HEADER, TunDevice, use_queue
from tests.netns import inside, ip, namespaces, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

NEAR, FAR = "10.77.0.1", "10.77.0.2"
FLOWS = 48


@dataclass
class Device:
    """A device of three queues in a namespace, and sockets of so many flows that each queue gets some."""

    namespace: str
    queues: list[TunDevice]
    flows: list[socket.socket]

    def send(self) -> list[int]:
        """Send a packet by every flow; return how many of them came to each queue."""
        for sock in self.flows:
            sock.sendto(b"x" * 50, (FAR, 9))
        return [len(list(self.read(queue))) for queue in self.queues]

    def read(self, queue: TunDevice) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while True:
                packet = os.read(queue.fileno(), 70_000)[VNET_HEADER:]
                if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_UDP:
                    yield packet


@pytest.fixture
def device() -> Iterator[Device]:
    with namespaces(1) as (name,), ExitStack() as stack:
        with inside(name):
            queues = [stack.enter_context(TunDevice.open("vt0", multi_queue=True, exclusive=True))]
            queues += [stack.enter_context(TunDevice.open("vt0", multi_queue=True)) for _ in range(2)]
            flows = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(FLOWS)]
        ip("-n", name, "address", "add", f"{NEAR}/24", "dev", "vt0")
        ip("-n", name, "link", "set", "vt0", "up")
        for sock in flows:
            sock.bind((NEAR, 0))
            sock.setblocking(False)
        yield Device(name, queues, flows)


def answer(port: int) -> bytes:
    """Return a UDP packet from the far end to a port, behind an empty vnet header."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, socket.inet_aton(FAR), socket.inet_aton(NEAR))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (
        bytes(VNET_HEADER)
        + head[:10]
        + struct.pack(">H", ~total & 0xFFFF)
        + head[12:]
        + struct.pack(">HHHH", 9, port, 8, 0)
    )


def test_flows_are_shared_out_and_each_stays_on_its_queue(device: Device) -> None:
    first = device.send()
    assert sum(first) == FLOWS
    assert device.send() == first


def test_a_flow_is_read_where_it_was_last_written(device: Device) -> None:
    for queue in (2, 1):
        for sock in device.flows:
            port = sock.getsockname()[1]
            os.write(device.queues[queue].fileno(), answer(port))
            assert sock.recv(10) == b""
        assert device.send() == [FLOWS if each == queue else 0 for each in range(3)]


def test_a_queue_out_of_use_gets_nothing_and_can_be_written_to(device: Device) -> None:
    for queue in device.queues[1:]:
        use_queue(queue.fileno(), wanted=False)
    assert device.send() == [FLOWS, 0, 0]
    os.write(device.queues[2].fileno(), answer(device.flows[0].getsockname()[1]))
    assert device.flows[0].recv(10) == b""
    with TunDevice.adopt(os.dup(device.queues[1].fileno())) as adopted:  # a worker takes it over as it is
        assert adopted.name == "vt0"
        assert device.send() == [FLOWS, 0, 0]
        use_queue(device.queues[1].fileno(), wanted=True)
    shared = device.send()
    assert shared[2] == 0
    assert sum(shared) == FLOWS


def test_a_queue_outlives_the_worker_that_reads_it(device: Device) -> None:
    """Another descriptor of it keeps its place: packets wait for the next worker."""
    copy = os.dup(device.queues[1].fileno())
    try:
        before = device.send()
        device.queues[1].close()
        for sock in device.flows:
            sock.sendto(b"x", (FAR, 9))
        device.queues[1] = TunDevice.adopt(os.dup(copy))
        assert [len(list(device.read(queue))) for queue in device.queues] == before
    finally:
        os.close(copy)
        device.queues[1].close()


def test_a_device_of_several_queues_cannot_be_joined_by_accident(device: Device) -> None:
    with inside(device.namespace):
        with pytest.raises(SystemCallError, match="stop the program that holds vt0") as caught:
            TunDevice.open("vt0", multi_queue=True, exclusive=True)
        assert caught.value.errno == errno.EBUSY
        assert sum(device.send()) == FLOWS  # no queue of that attempt is left
        ip("-n", device.namespace, "tuntap", "add", "vt1", "mode", "tun", "multi_queue", "vnet_hdr")
        with TunDevice.open("vt1", multi_queue=True, exclusive=True) as persistent:
            assert persistent.name == "vt1"


def test_one_queue_alone_cannot_be_put_out_of_use(device: Device) -> None:
    with inside(device.namespace), TunDevice.open("vt2") as single, pytest.raises(SystemCallError, match="queue"):
        use_queue(single.fileno(), wanted=False)
