"""The program that chooses the queue of a TUN device, against the kernel at hand."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from drivers.linux.tun import VNET_HEADER, TunDevice
from drivers.linux.tun_steering import BUCKETS, TunSteering, bucket_of, probe_tun_steering
from tests.netns import inside, ip, namespaces, why_not

REFUSED = why_not() or probe_tun_steering()
pytestmark = pytest.mark.skipif(bool(REFUSED), reason=REFUSED or "-")

NEAR, FAR, OTHER = "10.77.0.1", "10.77.0.2", "10.77.0.77"
NEAR6, FAR6 = "fd77::1", "fd77::2"
FLOWS = 40


@dataclass
class Device:
    """A device of three queues in a namespace, whose buckets go to queue ``bucket % 3``."""

    namespace: str
    queues: list[TunDevice]
    steering: TunSteering
    shared: list[int] = field(default_factory=list)  # where the last flows of queues_of belong by their buckets

    def queues_of(self, target: str) -> list[int]:
        """Send a packet of twelve flows; return their queues, and have ``shared`` say those of their buckets."""
        near = NEAR6 if ":" in target else NEAR
        sent = [(5000 + number, *self.send(target, 5000 + number)) for number in range(12)]
        self.shared = [bucket_of(near, target, (source, port)) % 3 for port, source, _ in sent]
        return [queue for _, _, queue in sent]

    def send(self, target: str, port: int = 9, source_port: int = 0, size: int = 50) -> tuple[int, int]:
        """Send a UDP packet; return the port that it came from and the queue that it came to."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with inside(self.namespace), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((NEAR6 if ":" in target else NEAR, source_port))
            sock.sendto(b"x" * size, (target, port))  # unconnected: the kernel has no hash of it
            return sock.getsockname()[1], self.came()

    def came(self) -> int:
        """Return the queue that has packets."""
        (found,) = {number for number, queue in enumerate(self.queues) for _ in self.read(queue)}
        return found

    def read(self, queue: TunDevice) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while True:
                packet = os.read(queue.fileno(), 70_000)[VNET_HEADER:]
                if packet[0] >> 4 == 4 or packet[6] in (6, 17, 44):
                    yield packet


@pytest.fixture
def device() -> Iterator[Device]:
    with namespaces(1) as (name,), ExitStack() as stack:
        with inside(name):
            queues = [stack.enter_context(TunDevice.open("vt0", multi_queue=True, exclusive=True))]
            queues += [stack.enter_context(TunDevice.open("vt0", multi_queue=True)) for _ in range(2)]
        ip("-n", name, "address", "add", f"{NEAR}/24", "dev", "vt0")
        ip("-n", name, "link", "set", "vt0", "up")
        ip("-n", name, "address", "add", f"{NEAR6}/64", "dev", "vt0", "nodad")
        steering = TunSteering(queues[0].fileno(), [bucket % 3 for bucket in range(BUCKETS)])
        stack.callback(steering.close)
        made = Device(name, queues, steering)
        for queue in queues:
            list(made.read(queue))
        yield made


@pytest.mark.parametrize(("near", "far"), [(NEAR, FAR), (NEAR6, FAR6)])
def test_every_flow_comes_where_its_bucket_is_sent(device: Device, near: str, far: str) -> None:
    seen = set()
    for number in range(FLOWS):
        port, queue = device.send(far, 5000 + number)
        assert queue == bucket_of(near, far, (port, 5000 + number)) % 3
        seen.add(queue)
    assert seen == {0, 1, 2}
    assert bucket_of(near, far, (1, 2)) == bucket_of(far, near, (2, 1))


def test_fragments_of_a_packet_stay_together(device: Device) -> None:
    ip("-n", device.namespace, "link", "set", "vt0", "mtu", "1400")
    for number in range(8):
        _, queue = device.send(FAR, 5000 + number, size=4000)
        assert queue == bucket_of(NEAR, FAR) % 3


def test_a_bucket_moves_at_once_and_takes_its_flows_along(device: Device) -> None:
    port, before = device.send(FAR)
    bucket = bucket_of(NEAR, FAR, (port, 9))
    row = [each % 3 for each in range(BUCKETS)]
    row[bucket] = (before + 1) % 3
    device.steering.set_row(0, row)
    assert device.send(FAR, source_port=port) == (port, (before + 1) % 3)
    others = [device.send(FAR, 6000 + number) for number in range(FLOWS)]
    for number, (other, queue) in enumerate(others):
        found = bucket_of(NEAR, FAR, (other, 6000 + number))
        assert queue == (row[found])


def test_some_destinations_have_a_row_of_their_own(device: Device) -> None:
    device.steering.set_row(5, [2] * BUCKETS)
    device.steering.set_routes({ip_network(f"{OTHER}/32"): 5, ip_network("fd77::/126"): 5})
    assert device.queues_of(OTHER) == [2] * 12
    assert device.queues_of(FAR6) == [2] * 12
    for target in ("fd77::9", FAR):
        assert device.queues_of(target) == device.shared
    device.steering.set_routes({ip_network("fd77::9/128"): 5})
    assert device.queues_of(OTHER) == device.shared
    assert device.queues_of("fd77::9") == [2] * 12


def test_what_is_no_tcp_and_no_udp_goes_by_its_addresses(device: Device) -> None:
    with inside(device.namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        for number in range(5):
            sock.sendto(struct.pack(">BBHHH", 8, 0, 0xF7FF - number, 0, number), (FAR, 0))
    assert device.came() == bucket_of(NEAR, FAR) % 3
