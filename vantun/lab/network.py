"""Two complete endpoints and the links between them, in virtual time: exact, seeded, repeatable.

The clock jumps from event to event, but never by less than ``step``: what falls due within a step is processed
together, as a worker does that sleeps with 100 us of coalescing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace

from accel.aead.cryptography import CryptographyAead
from accel.engine import Operation, Suite
from accel.fec.simd import SimdFec
from accel.serving import Serving
from drivers.batch import NOT_ECT
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.context import Engines
from vantun.dataplane.events import FlowOpened
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.steady_clock import SteadyClock
from vantun.lab.endpoint import NOWHERE, Address, Endpoint, MemoryPort
from vantun.lab.link import Link, LinkProfile
from vantun.lab.packet_port import MemoryPacketPort
from vantun.lanes import LaneSpec
from vantun.session.floors import private_floors

SESSION = 0x5E55104
Packet = tuple[bytes, int]
"""A datagram and its ECN bits."""
STEP = 100e-6
_SOCKET_ROOM = 1000
"""Datagrams that wait in front of a stopped worker; what comes then is lost."""

Tamper = Callable[[int, int, bytes], bytes | None]
"""(path, direction, datagram) -> what to send instead, None to drop it. Direction 0 is client to server."""
Astray = Callable[[Address, bytes], None]
"""(destination, datagram): what somebody who is not the client receives."""


def server_address(path: int) -> Address:
    """Return where the server listens for a path."""
    return "198.51.100.1", 1000 + path


def client_address(path: int) -> Address:
    """Return where the client of a path is, until it moves."""
    return f"10.0.{path >> 8}.{path & 0xFF}", 40000


def lab_engines(_side: int = 0) -> Engines:
    """Return fresh engines as a worker without accelerators would have them."""
    fec, aead = SimdFec(), CryptographyAead()
    return Engines(
        encode=Serving(fec, fec.open(Operation.FEC_ENCODE)),
        decode=Serving(fec, fec.open(Operation.FEC_DECODE)),
        seal=Serving(aead, aead.open(Operation.AEAD_SEAL)),
        open=Serving(aead, aead.open(Operation.AEAD_OPEN)),
    )


class Network:
    """A client and a server endpoint with any number of paths.

    Attributes
    ----------
    now
        Virtual seconds since the start.
    client, server
        The endpoints; the server accepts every flow with a MemoryPort, kept in ``accepted`` by target, or with a
        MemoryPacketPort, kept in ``accepted_packets``, if the target is one of a packet flow.
    links
        (path, direction) -> Link.
    source
        path -> the address that the server sees the client's packets come from.
    reachable
        path -> addresses at which the client receives.
    astray
        Called for every datagram that the server sends elsewhere, if set.
    skew
        What the machines of client and server are ahead of ``now``: one that slept sees its clock jump.
    clocks
        What the time is for client and server.
    tamper
        Called for every datagram before its link, if set.
    """

    def __init__(
        self,
        config: DataplaneConfig | None = None,
        *,
        seed: int = 1,
        engines: Callable[[int], Engines] = lab_engines,
    ) -> None:
        """Begin without a path; ``engines`` makes those of an end (0 client, 1 server)."""
        config = config or DataplaneConfig()
        self._engines = engines
        self.now = 0.0
        self.seed = seed
        self.accepted: dict[str, MemoryPort] = {}
        self.accepted_packets: dict[str, MemoryPacketPort] = {}
        self.handles: dict[str, int] = {}
        self.on_accept: Callable[[str, MemoryPort], None] | None = None
        self.accept_with: Callable[[str], MemoryPort] = lambda _: MemoryPort()
        self.accept_packets_with: Callable[[str], MemoryPacketPort] = lambda _: MemoryPacketPort(self.server.plane)
        self.floors = private_floors(), private_floors()
        self.client = Endpoint(Dataplane(config, engines(0), floors=self.floors[0]))
        self.server = Endpoint(Dataplane(config, engines(1), floors=self.floors[1]), self._accept)
        self.links: dict[tuple[int, int], Link] = {}
        self.tamper: Tamper | None = None
        self.source: dict[int, Address] = {}
        self.reachable: dict[int, set[Address]] = {}
        self.astray: Astray | None = None
        self.skew = [0.0, 0.0]
        self.clocks = SteadyClock(lambda: self.now + self.skew[0]), SteadyClock(lambda: self.now + self.skew[1])
        self._held: dict[int, list[tuple[Packet, Address]]] = {}
        self._config = config
        self._specs: tuple[list[LaneSpec], list[LaneSpec]] = ([], [])
        self._on_way: list[tuple[float, int, int, Packet, Address]] = []
        self._sent = 0

    def _accept(self, endpoint: Endpoint, event: FlowOpened, now: float) -> None:
        if event.target.startswith(("udp:", "tun:")):
            packets = self.accepted_packets[event.target] = self.accept_packets_with(event.target)
            endpoint.plane.attach_flow(event.handle, packets, now)
            return
        port = self.accept_with(event.target)
        self.accepted[event.target] = port
        self.handles[event.target] = event.handle
        if self.on_accept is not None:
            self.on_accept(event.target, port)
        endpoint.plane.attach_flow(event.handle, port, now)

    def add_path(
        self,
        path: int,
        profile: LinkProfile,
        *,
        rate: float = 0.0,
        mtu: int = 1200,
        max_mtu: int = 0,
        back: LinkProfile | None = None,
        backup: bool = False,
    ) -> None:
        """Add a path of two links; ``rate`` (bit/s) makes both ends use ``brutal``, ``max_mtu`` search for the MTU."""
        spec = self._lane(path, profile, back or profile)
        self._connect(replace(spec, rate=rate, mtu=mtu, max_mtu=max_mtu, backup=backup))

    def add_client(self, number: int, profile: LinkProfile, user: str = "") -> int:
        """Add a client of its own, with one path of that number, at the client endpoint; return its session."""
        session = SESSION + number
        self._connect(replace(self._lane(number, profile, profile), session=session, user=user))
        return session

    def _lane(self, path: int, profile: LinkProfile, back: LinkProfile) -> LaneSpec:
        """Make the links of a path; return the client's end of it."""
        self.source[path] = client_address(path)
        self.reachable[path] = {client_address(path)}
        for direction, shape in ((0, profile), (1, back)):
            self.links[path, direction] = Link(shape, self.seed * 1000 + path, direction)
        return LaneSpec(
            session=SESSION,
            path=path,
            socket=path,
            peer=server_address(path),
            receive_cid=bytes([0]) + path.to_bytes(7, "big"),
            send_cid=bytes([0]) + (path + (1 << 32)).to_bytes(7, "big"),
            suite=Suite.AES_128_GCM,
            send_secret=path.to_bytes(2, "big") * 16,
            receive_secret=(path + 1000).to_bytes(2, "big") * 16,
            client=True,
        )

    def crash(self, direction: int) -> None:
        """Let the worker of an end (0 client, 1 server) die, and another one go on with what outlives it."""
        end = (self.client, self.server)[direction]
        end.plane = Dataplane(self._config, self._engines(direction), floors=self.floors[direction])
        for spec in self._specs[direction]:
            end.plane.add_lane(spec, self.clocks[direction]())

    def _connect(self, spec: LaneSpec) -> None:
        """Add a lane at both ends; a worker that comes after a crash finds what its floors are."""
        sessions = list(dict.fromkeys([*(known.session for known in self._specs[0]), spec.session]))
        spec = replace(spec, floor=len(self._specs[0]), session_floor=sessions.index(spec.session))
        mirrored = replace(
            spec,
            peer=client_address(spec.path),
            receive_cid=spec.send_cid,
            send_cid=spec.receive_cid,
            send_secret=spec.receive_secret,
            receive_secret=spec.send_secret,
            client=False,
        )
        for direction, (end, mine) in enumerate(((self.client, spec), (self.server, mirrored))):
            self._specs[direction].append(mine)
            end.plane.add_lane(mine, self.clocks[direction]())

    def open_packets(self, target: str, session: int = SESSION) -> MemoryPacketPort:
        """Open a packet flow from the client, or from one of its sessions; return its port."""
        port = MemoryPacketPort(self.client.plane)
        self.client.plane.open_flow(session, target, port, self.clocks[0]())
        return port

    def open(self, target: str, port: MemoryPort, session: int = SESSION) -> int:
        """Open a flow from the client, or from one of its sessions; return its handle."""
        return self.client.plane.open_flow(session, target, port, self.clocks[0]())

    def cut(self, path: int) -> None:
        """Make a path lose everything, both ways."""
        for direction in (0, 1):
            link = self.links[path, direction]
            link.set_profile(replace(link.profile, loss=1.0))

    def restore(self, path: int, loss: float = 0.0) -> None:
        """Undo :meth:`cut`."""
        for direction in (0, 1):
            link = self.links[path, direction]
            link.set_profile(replace(link.profile, loss=loss))

    def rebind(self, path: int, host: str | None = None, port: int | None = None, *, keep: bool = False) -> Address:
        """Give the client of a path another address, as a NAT does; return it.

        What the server sends to the old one is lost, unless that is to be kept.
        """
        old = self.source[path]
        new = (host or old[0], port or old[1])
        self.source[path] = new
        self.reachable[path] = self.reachable[path] | {new} if keep else {new}
        return new

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass until ``until`` or until ``stop`` says so; return whether it did."""
        ends = (self.client, self.server)
        while self.now < until:
            running = [side for side in (0, 1) if side not in self._held]
            for side in running:
                departed = ends[side].depart_to(self.clocks[side]())
                for place, (path, datagram, peer) in enumerate(departed):
                    mark = ends[side].marks[place] if place < len(ends[side].marks) else NOT_ECT
                    self._send(path, side, (datagram, mark), peer)
            if stop is not None and stop():
                return True
            due = min((self._next_event(side) for side in running), default=until)
            if self._on_way:
                due = min(due, self._on_way[0][0])
            self.now = max(self.now + STEP, min(due, until))
            while self._on_way and self._on_way[0][0] <= self.now:
                _, _, direction, packet, source = heapq.heappop(self._on_way)
                self._arrive(1 - direction, packet, source)
            for side in running:
                ends[side].run(self.clocks[side]())
        return False

    def _next_event(self, side: int) -> float:
        clock = self.clocks[side]()
        due = (self.client, self.server)[side].plane.next_event(clock)
        self.clocks[side].expect(due - clock)
        return due - (clock - self.now)

    def _arrive(self, side: int, packet: Packet, source: Address) -> None:
        held = self._held.get(side)
        if held is None:
            datagram, mark = packet
            (self.client, self.server)[side].arrive(datagram, self.clocks[side](), source, mark)
        elif len(held) < _SOCKET_ROOM:
            held.append((packet, source))

    def pause(self, side: int) -> None:
        """Stop the worker of an end (0 client, 1 server): time goes on without it, its socket keeps what has room."""
        self._held.setdefault(side, [])

    def wake(self, side: int) -> None:
        """Undo :meth:`pause`."""
        for packet, source in self._held.pop(side, []):
            self._arrive(side, packet, source)

    def _send(self, path: int, direction: int, packet: Packet, peer: Address) -> None:
        datagram, mark = packet
        if direction and peer not in self.reachable[path]:
            if self.astray is not None:
                self.astray(peer, datagram)
            return
        source = server_address(path) if direction else self.source[path]
        if self.tamper is not None:
            changed = self.tamper(path, direction, datagram)
            if changed is None:
                return
            datagram = changed
        link = self.links[path, direction]
        mark = link.marked(self.now, mark)
        for time in link.send(self.now, len(datagram)):
            self._sent += 1
            heapq.heappush(self._on_way, (time, self._sent, direction, (datagram, mark), source))

    def inject(self, direction: int, datagram: bytes, after: float = 0.0, source: Address = NOWHERE) -> None:
        """Put a datagram in front of an endpoint, as anybody on the way could; ``source`` may be forged."""
        self._sent += 1
        heapq.heappush(self._on_way, (self.now + after, self._sent, direction, (datagram, NOT_ECT), source))
