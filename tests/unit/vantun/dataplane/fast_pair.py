"""Two workers in this process, over loopback, that make turns without Python; a socket pair in each device's place."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from drivers.linux.tun import VNET_HEADER, TunOffload
from drivers.linux.udp_bind import bind_udp
from tests.packets import PLAIN
from tests.unit.vantun.dataplane.worker_pair import REPLY, SESSION, SMALL, lane_pair, tcp_pair
from vantun.config import AccelConfig
from vantun.dataplane.events import FlowOpened
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.worker_engines import choose_engines, open_engines
from vantun.dataplane.worker_loop import WorkerLoop
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetTunRoutes
from vantun.worker_messages import AddLane, AddSocket, AttachFlow, Command, Message, OpenFlow, decode, encode

CHOSEN = choose_engines(AccelConfig())
NEAR = "10.8.0.2"
PATIENCE = 20_000
"""Iterations, of a millisecond each when nothing happens, before a test gives up."""


class Device:
    """What TunPorts wants of a TunDevice."""

    def __init__(self, descriptor: int) -> None:
        self.socket = socket.socket(fileno=descriptor)
        self.socket.setblocking(False)
        self.name, self.plain, self.takes = "pair", False, TunOffload.NONE
        self.fileno, self.close = self.socket.fileno, self.socket.close


class Worker:
    """A worker without its process; ``device`` is the far end of its device."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        self.plane = Dataplane(SMALL, open_engines(CHOSEN))
        self.loop = WorkerLoop(self.plane, theirs)
        self.loop.use_fast_path()
        self.device, self._handed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.device.setblocking(False)
        self.heard: list[Message] = []
        self.programs: dict[str, socket.socket] = {}
        """At the far ends of streams that the other worker has opened, by target."""

    def say(self, command: Command, *sockets: socket.socket) -> None:
        socket.send_fds(self.control, [encode(command)], [sock.fileno() for sock in sockets])
        self.loop.turn(math.inf)

    def begin(self, *, client: bool) -> None:
        self.say(SetTunRoutes(SESSION, (NEAR,), ()))
        self.say(AddTun(1, client=client, client_to_client=False, offloads=0), self._handed)

    def step(self) -> None:
        """Make turns until the control process, or a millisecond, wants one of Python."""
        self.loop.step()
        while True:
            try:
                self.heard.append(decode(self.control.recv(1 << 16)))
            except BlockingIOError:
                break
            told = self.heard[-1]
            if isinstance(told, FlowOpened) and told.target.startswith("tun:"):
                self.say(AttachTun(told.handle))
            elif isinstance(told, FlowOpened):
                self.programs[told.target], handed = tcp_pair()
                self.say(AttachFlow(told.handle), handed)
                handed.close()

    def open(self, target: str) -> socket.socket:
        """Open a stream; return the program's socket."""
        program, handed = tcp_pair()
        self.say(OpenFlow(SESSION, target, REPLY, b""), handed)
        handed.close()
        return program

    def bodies(self) -> list[bytes]:
        """Return the packets that have come out of the tunnel."""
        found = []
        while True:
            try:
                found.append(self.device.recv(1 << 16)[VNET_HEADER:])
            except BlockingIOError:
                return found

    def of(self, *names: str) -> int:
        """Return a number of the snapshot."""
        place: object = self.loop.snapshot()
        for name in names:
            place = place[int(name)] if isinstance(place, list) else place[name]  # type: ignore[index] # it is a dict
        assert isinstance(place, int)
        return place

    def close(self) -> None:
        for program in self.programs.values():
            program.close()
        self.plane.end_session(SESSION, self.loop._clock())
        self.control.close()
        self.device.close()
        self._handed.close()
        self.loop.close()


class Pair:
    """A client and a server with lanes between them."""

    def __init__(self, paths: int, *, tun: bool = True) -> None:
        self.client, self.server = Worker(), Worker()
        self.ports: list[tuple[int, int]] = []
        for path in range(paths):
            sockets = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
            self.ports.append((sockets[0].getsockname()[1], sockets[1].getsockname()[1]))
            lanes = lane_pair(path, self.ports[path])
            for worker, sock, lane in zip(self.both, sockets, lanes, strict=True):
                worker.say(AddSocket(path), sock)
                sock.close()
                worker.say(AddLane(replace(lane, socket=path)))
        if tun:
            for worker in self.both:
                worker.begin(client=worker is self.client)
            self.client.say(OpenTun(SESSION))
            self.until(lambda: all("TunFlow" in str(worker.heard) for worker in self.both))
        self.idle()

    @property
    def both(self) -> tuple[Worker, Worker]:
        return self.client, self.server

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            if done():
                return
            for worker in self.both:
                worker.step()
        raise AssertionError("it does not come to its end")

    def idle(self) -> None:
        """Let the searches for the MTU end, and everything be acknowledged."""
        for _ in range(300):
            for worker in self.both:
                worker.step()

    def connect(self, target: str) -> tuple[socket.socket, socket.socket]:
        """Open a stream; return the programs at both ends."""
        near = self.client.open(target)
        self.until(lambda: target in self.server.programs)
        said = bytearray()

        def greeted() -> bool:
            with suppress(BlockingIOError):
                said.extend(near.recv(len(REPLY.accepted) - len(said)))
            return len(said) == len(REPLY.accepted)

        self.until(greeted)
        return near, self.server.programs[target]

    def carry(self, near: Worker, far: Worker, wanted: list[bytes]) -> list[bytes]:
        """Have ``near`` read packets, a few at a time, until all have come out at ``far``; return them."""
        found: list[bytes] = []
        waiting = list(wanted)

        def done() -> bool:
            for body in waiting[:8]:
                near.device.send(PLAIN + body)
            del waiting[:8]
            found.extend(far.bodies())
            return len(found) >= len(wanted)

        self.until(done)
        return found
