"""Two data planes in this process with a wire in memory between them, and a real TUN device, in its namespace, at each.

The loops of both workers are turned by the caller, who asks for what it waits for; time is the machine's.
"""

from __future__ import annotations

import itertools
import os
import select
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from drivers.arena import Arena
from drivers.batch import packet_batch
from drivers.linux.tun import ALL_OFFLOADS, IFF_VNET_HDR, TUNGETFEATURES, TunDevice, TunOffload, system_ioctl
from tests.netns import inside, ip, namespaces
from tests.unit.vantun.dataplane.worker_pair import SESSION, lane_pair
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowOpened
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import Poller
from vantun.dataplane.tun_port import TunPorts
from vantun.lab.network import lab_engines
from vantun.session.limits import Limits
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetTunRoutes, TunFlow, TunReport

SERVER, SERVER6 = "10.77.0.1", "fd77::1"
CLIENT, CLIENT6 = "10.77.0.2", "fd77::2"
IDLE_TURNS = 20_000
"""Turns of a millisecond in which nothing is carried, before a test gives up."""
_CAPACITY, _SLOT = 512, 1536


@dataclass
class End:
    """One worker: its plane, its TUN ports, its device as the control process holds it."""

    namespace: str
    device: TunDevice
    plane: Dataplane
    poller: Poller
    tun: TunPorts
    reports: list[TunReport] = field(default_factory=list)

    @property
    def dropped(self) -> dict[str, dict[str, int]]:
        """Drops by direction and reason."""
        found = self.tun.snapshot()["dropped"]
        assert isinstance(found, dict)
        return found


class Tunnel:
    """A client and a server; every ``lose``-th packet is lost on its way, 0 = none."""

    def __init__(self, client: End, server: End, arena: Arena) -> None:
        self.client = client
        self.server = server
        self.lose = 0
        self._count = itertools.count(1)
        self._arena = arena
        self._batch = packet_batch(arena.memory, _CAPACITY, np.zeros((1, 28), np.uint8))

    def start(self, *, client_to_client: bool = False) -> None:
        """Begin a session whose client has the addresses above, and wait for its TUN flow."""
        now = time.monotonic()
        for end, lane in zip((self.client, self.server), lane_pair(1, (1, 2)), strict=True):
            end.plane.add_lane(lane, now)
            routes = SetTunRoutes(SESSION, (CLIENT, CLIENT6), ())
            end.tun.serve(routes, [])
            self.add_device(end, client_to_client=client_to_client)
        self.open()

    def open(self) -> None:
        """Have the client open its TUN flow, and wait for it."""
        self.client.tun.serve(OpenTun(SESSION), [])
        self.run(lambda: all(TunFlow(SESSION, open=True, code=0) in end.reports for end in (self.client, self.server)))

    def add_device(self, end: End, *, client_to_client: bool = False) -> None:
        """Hand a device over, as the control process does."""
        command = AddTun(1, end is self.client, client_to_client, int(end.device.takes))
        end.tun.serve(command, [end.device.fileno()])

    def turn(self) -> bool:
        """Let both workers do what there is to do; return whether packets were carried."""
        carried = False
        for near, far in ((self.client, self.server), (self.server, self.client)):
            near.poller.wait(0.0)
            now = time.monotonic()
            while True:
                outgoing = near.plane.transmit(now)
                if not outgoing.packets:
                    break
                carried = True
                count = 0
                for i in range(outgoing.packets):
                    if self.lose and next(self._count) % self.lose == 0:
                        continue
                    start, size = int(outgoing.batch.offset[i]), int(outgoing.batch.length[i])
                    place = count * _SLOT
                    self._batch.offset[count], self._batch.length[count] = place, size
                    self._batch.memory[place : place + size] = outgoing.batch.memory[start : start + size]
                    count += 1
                far.plane.receive(self._batch, count, 0, now)
            for event in near.plane.take_events():
                if isinstance(event, FlowOpened):
                    assert event.target == "tun:"
                    near.tun.serve(AttachTun(event.handle), [])
        return carried

    def run(self, done: Callable[[], bool]) -> None:
        """Turn until ``done``."""
        idle = 0
        descriptors = [each.poller._epoll.fileno() for each in (self.client, self.server)]
        while not done():
            assert idle < IDLE_TURNS, f"never came: client {self.client.dropped}, server {self.server.dropped}"
            if not self.turn():
                idle += 1
                select.select(descriptors, [], [], 0.001)

    def run_program(self, end: End, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a namespace while the tunnel works; return it with what it wrote."""
        line = ["ip", "netns", "exec", end.namespace, *command]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                self.run(lambda: process.poll() is not None)
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
            assert process.stdout is not None
            return subprocess.CompletedProcess(line, process.wait(), process.stdout.read(), "")


def _without_headers(descriptor: int, request: int, argument: bytes | int) -> bytes | int:
    """Ask a kernel whose TUN driver has no virtio-net headers."""
    answer = system_ioctl(descriptor, request, argument)
    if request != TUNGETFEATURES:
        return answer
    assert isinstance(answer, bytes)
    return struct.pack("=I", struct.unpack("=I", answer)[0] & ~IFF_VNET_HDR)


def _end(
    stack: ExitStack, namespace: str, addresses: tuple[str, str], offloads: TunOffload, *, plain: bool = False
) -> End:
    with inside(namespace):
        device = TunDevice.open("vt0", ioctl=_without_headers) if plain else TunDevice.open("vt0")
    stack.callback(device.close)
    device.set_offloads(offloads)
    ip("-n", namespace, "address", "add", f"{addresses[0]}/24", "dev", "vt0")
    ip("-n", namespace, "address", "add", f"{addresses[1]}/64", "dev", "vt0", "nodad")
    ip("-n", namespace, "link", "set", "vt0", "mtu", "1400", "up")
    config = DataplaneConfig(limits=Limits(sessions=4, flows=64, rows=16384))
    plane = Dataplane(config, lab_engines())
    poller = Poller()
    stack.callback(poller.close)
    reports: list[TunReport] = []
    tun = TunPorts(plane, poller, reports.append, time.monotonic)
    stack.callback(tun.close)
    return End(namespace, device, plane, poller, tun, reports)


@contextmanager
def tunnel(offloads: TunOffload = ALL_OFFLOADS, *, plain: bool = False) -> Iterator[Tunnel]:
    """Yield a tunnel that was not started; ``plain`` = the client's kernel has no virtio-net headers."""
    with namespaces(2) as names, Arena(_CAPACITY, _SLOT) as arena, ExitStack() as stack:
        client = _end(stack, names[0], (CLIENT, CLIENT6), offloads, plain=plain)
        server = _end(stack, names[1], (SERVER, SERVER6), offloads)
        yield Tunnel(client, server, arena)


def payload(size: int) -> bytes:
    """Return bytes that repeat nowhere."""
    return os.urandom(size)
