"""The loop of the relay process: receive, pass over the links, wait, release. Single-threaded; never spins.

It wakes at most every COALESCE seconds, however much arrives, and sleeps in ``ppoll`` until the next packet is due:
``select.poll`` counts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena, row_stride
from drivers.batch import SOCKADDR_SIZE, PacketBatch, packet_batch
from drivers.library import Library
from drivers.linux.udp import UdpSocket
from drivers.linux.udp_bind import bind_udp
from drivers.linux.wait import set_timer_slack
from vantun.lab.link import Link, LinkProfile, link_dtype
from vantun.lab.relay_kernel import admit, departure, find_clients, flight, release

COALESCE = 200e-6
"""Seconds between two wake-ups. Half of it is the mean lag on a quiet machine; a wake-up costs 70-100 us of CPU (caches
are cold after a sleep), so 100e-6 takes 50 % of a core at 8000 packets/s, 250e-6 30 % (measured, 2-core VM)."""
SLOTS = 65_536
"""Packets on the way, all paths together: 5 s at 100 Mbit/s."""
SLOT = 2048
"""Bytes of the largest packet."""
CLIENTS = 64
"""Client addresses at a time; one more, and the one that was silent for longest is forgotten."""
BURST = 1024
"""Most packets released at once."""
IDLE = 1.0
"""Longest sleep, seconds."""
LAG_LIMIT = 1e-3
"""Mean lag in seconds above which figures of a run are void: the emulator could not keep up."""

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.so"], "run on Linux with glibc or musl")
_POLLIN = 1
_POLLFD = np.dtype([("fd", "i4"), ("events", "i2"), ("revents", "i2")])


class RelayLoop:
    """One relay: a UDP port per path on 127.0.0.1, and a way to ``server``.

    Parameters
    ----------
    profiles
        Forward (client to server) and backward profile of each path.
    server
        IPv4 literal and port that everything goes to.
    seed
        Path ``p`` has the fates of ``Link(profile, seed * 1000 + p, direction)``, as in :mod:`vantun.lab.network`.
    control
        A descriptor whose readiness ends :meth:`step` early; -1 = none.

    Attributes
    ----------
    links
        Row ``2 * path + direction``.
    """

    def __init__(
        self, profiles: Sequence[tuple[LinkProfile, LinkProfile]], server: tuple[str, int], seed: int, control: int = -1
    ) -> None:
        self.server = server
        self._ppoll = _C.function("ppoll", ctypes.c_int, *[ctypes.c_void_p, ctypes.c_ulong, *[ctypes.c_void_p] * 2])
        set_timer_slack(1)
        paths = len(profiles)
        self._states = np.zeros(2 * paths, link_dtype)
        self.links: list[Link] = []
        for row in range(2 * paths):
            check_profile(profiles[row >> 1][row & 1])
            link = Link(profiles[row >> 1][row & 1], seed * 1000 + (row >> 1), row & 1)
            self._states[row] = link.state[0]
            link.state = self._states[row : row + 1]
            self.links.append(link)
        self._arena = Arena(SLOTS, row_stride(SLOT))
        self._flight = flight(self._arena.memory, SLOTS, 2 * paths, CLIENTS)
        self._departure = departure(BURST, paths + CLIENTS)
        self._table: NDArray[np.uint8] = np.zeros((CLIENTS + 1, SOCKADDR_SIZE), np.uint8)
        self._path_of: NDArray[np.int64] = np.full(CLIENTS, -1, np.int64)
        self._heard: NDArray[np.float64] = np.zeros(CLIENTS, np.float64)
        self._out = packet_batch(self._arena.memory, BURST, self._table)
        self._sockets: list[UdpSocket | None] = [UdpSocket.bind("127.0.0.1", 0) for _ in profiles]
        self._sockets += [None] * CLIENTS
        self._polled = np.zeros(paths + CLIENTS + 1, _POLLFD)
        self._polled["fd"] = -1
        self._polled["events"] = _POLLIN
        for number in range(paths):
            self._polled[number]["fd"] = self._socket(number).fileno()
        self._polled[-1]["fd"] = control
        self._timeout = np.zeros(2, np.int64)
        self._addresses = int(self._polled.ctypes.data), int(self._timeout.ctypes.data)
        self._woken = 0.0
        self._busy = False
        self.unsent = 0
        self.replaced = 0

    @property
    def ports(self) -> list[int]:
        """The UDP port of each path."""
        return [int(self._socket(path).socket.getsockname()[1]) for path in range(len(self.links) // 2)]

    def close(self) -> None:
        """Close every socket."""
        for sock in self._sockets:
            if sock is not None:
                sock.close()
        self._arena.close()

    def step(self) -> bool:
        """Wait once, then release and receive; return whether the control descriptor is ready."""
        ready = self._wait()
        self._release()
        paths = len(self.links) // 2
        for number in ready:
            if number < paths:
                self._from_clients(number)
            elif number < paths + CLIENTS:
                self._from_server(number - paths)
        return bool(ready) and ready[-1] == paths + CLIENTS

    def set_profile(self, row: int, profile: LinkProfile) -> None:
        """Change a direction of a path from the next packet on."""
        check_profile(profile)
        self.links[row].set_profile(profile)

    def counters(self) -> dict[str, object]:
        """Return the counters of each direction of each path, and how well the relay kept time."""
        tally = self._flight.tally
        out = int(tally["out"].sum())
        mean = float(tally["lag_sum"].sum()) / out if out else 0.0
        return {
            "paths": [[self._direction(2 * path + way) for way in (0, 1)] for path in range(len(self.links) // 2)],
            "on_way": int(self._flight.state[0]),
            "unsent": self.unsent,
            "clients": int((self._path_of >= 0).sum()),
            "clients_replaced": self.replaced,
            "lag_mean_s": mean,
            "lag_max_s": float(tally["lag_max"].max()),
            "valid": mean <= LAG_LIMIT,
            "cpu_s": time.process_time(),
        }

    def _direction(self, row: int) -> dict[str, object]:
        seen = self.links[row].counters()
        tally = self._flight.tally[row]
        return {
            "in": seen["packets"],
            **{name: seen[name] for name in ("lost", "tail_dropped", "too_big", "duplicated")},
            **{name: int(tally[name]) for name in ("out", "bytes_in", "bytes_out", "overflow", "orphaned")},
        }

    def _socket(self, number: int) -> UdpSocket:
        found = self._sockets[number]
        assert found is not None, "a socket that does not exist was ready"
        return found

    def _sleep(self, seconds: float, descriptors: int) -> int:
        self._timeout[0] = int(seconds)
        self._timeout[1] = int(seconds % 1.0 * 1e9)
        fds, timeout = self._addresses
        return int(self._ppoll(fds, descriptors, timeout, None))

    def _wait(self) -> list[int]:
        """Sleep until something is due or has arrived; return which descriptors are readable."""
        now = time.monotonic()
        earliest = self._woken + COALESCE
        seconds = min(float(self._flight.next[0]) - now, IDLE)
        if seconds < 2 * COALESCE or (self._busy and now < earliest):
            # a timer costs 20 us of system time in a virtual machine: one sleep a step, then a look that has none
            rest = max(min(seconds, 2 * COALESCE), earliest - now)
            if rest > 0:
                self._sleep(rest, 0)
            seconds = 0.0
        ready = self._sleep(seconds, self._polled.size)
        self._woken = time.monotonic()
        self._busy = ready > 0
        return np.flatnonzero(self._polled["revents"]).tolist() if ready > 0 else []

    def _release(self) -> None:
        now = time.monotonic()
        if self._flight.next[0] > now:
            return
        groups = release(self._flight, self._departure, self._out, now)
        for group in range(groups):
            sock = self._sockets[self._departure.socket[group]]
            first, count = int(self._departure.first[group]), int(self._departure.packets[group])
            self.unsent += count - (sock.send(self._out, first, count) if sock is not None else 0)

    def _from_server(self, client: int) -> None:
        sock = self._socket(len(self.links) // 2 + client)
        batch = sock.receive_batch()
        count = sock.receive(batch)
        if count == 0:
            return
        now = time.monotonic()
        whose = np.empty((int(batch.peer[count - 1]) + 1, 2), np.int64)
        whose[:] = client, self._flight.epochs[client]
        admit(batch, count, 2 * int(self._path_of[client]) + 1, whose, self._states, self._flight, now)

    def _from_clients(self, path: int) -> None:
        sock = self._socket(path)
        batch = sock.receive_batch()
        count = sock.receive(batch)
        if count == 0:
            return
        now = time.monotonic()
        found = self._clients(batch, count, path)
        while (found < 0).any():
            message = int(np.flatnonzero(found < 0)[0])
            self._welcome(path, batch.address[message], now)
            found = self._clients(batch, count, path)
        self._heard[found] = now
        whose = np.stack((found, self._flight.epochs[found]), 1)
        admit(batch, count, 2 * path, whose, self._states, self._flight, now)

    def _clients(self, batch: PacketBatch, count: int, path: int) -> NDArray[np.int64]:
        """Return the client row of each message, -1 where there is none yet."""
        found = np.empty(count, np.int64)
        return found[: find_clients(batch, count, path, self._table, self._path_of, found)]

    def _welcome(self, path: int, address: NDArray[np.uint8], now: float) -> None:
        """Give a client address a row and a socket of its own, in place of the one silent for longest if need be."""
        row = int(self._heard.argmin())
        number = len(self.links) // 2 + row
        old = self._sockets[number]
        if old is not None:
            old.close()
            self.replaced += 1
        self._flight.epochs[row] += 1
        upstream = bind_udp("127.0.0.1" if self.server[0].startswith("127.") else "0.0.0.0", 0)
        upstream.connect(self.server)
        self._sockets[number] = UdpSocket.adopt(upstream)
        self._table[row] = address
        self._path_of[row] = path
        self._heard[row] = now
        self._polled[number]["fd"] = upstream.fileno()


def warm_up() -> None:
    """Send one packet there and back through a relay of its own, so that no real one waits for a kernel to load."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(server.family, server.type) as client,
    ):
        for sock in (server, client):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(0)
        loop = RelayLoop([(LinkProfile(), LinkProfile())], server.getsockname(), 0)
        try:
            client.sendto(b"?", ("127.0.0.1", loop.ports[0]))
            for sock, answer in ((server, True), (client, False)):
                while not _ready(sock):
                    loop.step()
                _, peer = sock.recvfrom(16)
                if answer:
                    sock.sendto(b"!", peer)
        finally:
            loop.close()


def _ready(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def check_profile(profile: LinkProfile) -> None:
    """Refuse packets that no slot can hold."""
    if profile.mtu > SLOT:
        raise ValueError(
            f"the relay carries packets of up to {SLOT} bytes; give an mtu of at most that, not {profile.mtu}"
        )


def claim_priority() -> str:
    """Ask for SCHED_FIFO 10, which keeps the lag low on a busy machine; return what was granted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except OSError as error:
        return f"normal: SCHED_FIFO needs CAP_SYS_NICE ({error.strerror})"
    return "SCHED_FIFO 10"
