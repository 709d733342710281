"""Two real TUN devices in two namespaces, and a wire between them: every packet of one is written to the other."""

from __future__ import annotations

import errno
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from drivers.arena import Arena, row_stride
from drivers.linux.tun import TunDevice
from drivers.linux.tun_kernel import SLOT, read_packet, write_packet
from tests.netns import inside, ip, namespaces

ADDRESSES = ("10.77.0.1", "10.77.0.2")
ADDRESSES6 = ("fd77::1", "fd77::2")
PATIENCE_MS = 10_000


@dataclass
class Wire:
    """Both devices; ``seen`` holds (direction, vnet header, IP packet) of whatever passed."""

    names: list[str]
    devices: list[TunDevice]
    arena: Arena
    seen: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)

    def pump(self, done: Callable[[], bool], *, wake: tuple[int, ...] = ()) -> None:
        """Carry packets until ``done``; ``wake`` are descriptors whose readiness may make it so."""
        poll = select.poll()
        for descriptor in (*(device.fileno() for device in self.devices), *wake):
            poll.register(descriptor, select.POLLIN)
        while not done():
            assert poll.poll(PATIENCE_MS), "nothing comes any more"
            for direction in range(2):
                self._carry(direction)

    def _carry(self, direction: int) -> None:
        iov = np.zeros((1, 2), np.uint64)
        for _ in range(64):
            size = read_packet(self.devices[direction].fileno(), self.arena.memory, 0)
            if size < 0:
                assert size == -errno.EAGAIN, errno.errorcode[-size]
                return
            packet = self.arena.memory[:size].tobytes()
            self.seen.append((direction, packet[:10], packet[10:]))
            iov[0] = self.arena.address, size
            done = write_packet(self.devices[1 - direction].fileno(), iov, 1)
            if done < 0:
                self.errors.append(-done)


@contextmanager
def wire(mtu: int = 1400) -> Iterator[Wire]:
    """Yield a wire; both ends are up, and know each other's addresses without asking."""
    with namespaces(2) as names, Arena(1, row_stride(SLOT)) as arena:
        devices = []
        for name, address, address6 in zip(names, ADDRESSES, ADDRESSES6, strict=True):
            with inside(name):
                devices.append(TunDevice.open("vt0"))
            ip("-n", name, "address", "add", f"{address}/24", "dev", "vt0")
            ip("-n", name, "address", "add", f"{address6}/64", "dev", "vt0", "nodad")
            ip("-n", name, "link", "set", "vt0", "mtu", str(mtu), "up")
        yield Wire(names, devices, arena)
        for device in devices:
            device.close()
