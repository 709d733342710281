"""Two data planes in virtual time, with real UDP sockets of loopback at both ends: programs here, targets there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowOpened
from vantun.dataplane.poller import Poller
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.udp_ports import UdpPorts
from vantun.lab.endpoint import Endpoint
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.limits import Limits
from vantun.udp_address import decode_address, encode_address
from vantun.udp_messages import (
    FLOW_TARGET,
    NO_PEER,
    REVERSE_TARGET,
    SOURCES,
    AttachUdp,
    OpenUdp,
    ResolveUdp,
    UdpClosed,
    UdpKind,
    UdpReport,
    UdpTarget,
)

Address = tuple[str, int]
SMALL = DataplaneConfig(limits=Limits(sessions=4, flows=4096, rows=16384))
WINDOW = 5.0


def udp(host: str = "127.0.0.1") -> socket.socket:
    """Return a program's or a target's socket; it does not wait when it reads."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.settimeout(0)
    return sock


def waiting(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """Return the datagrams that wait in a socket."""
    found: list[tuple[bytes, Address]] = []
    while True:
        try:
            data, source = sock.recvfrom(1 << 17)
        except BlockingIOError:
            return found
        found.append((data, (source[0], source[1])))


def wrap(address: Address, payload: bytes, fragment: int = 0) -> bytes:
    """Return a datagram of SOCKS5."""
    return bytes([0, 0, fragment]) + encode_address(*address) + payload


def unwrap(data: bytes) -> tuple[bytes, Address]:
    """Return payload and address of a datagram of SOCKS5."""
    assert data[:3] == bytes(3)
    host, port, size = decode_address(data[3:])
    return data[3 + size :], (host, port)


class UdpLab(Network):
    """A client's and a server's UDP ports.

    Attributes
    ----------
    near, far
        The ports at the client and at the server.
    reports
        What they told the control process, questions about destinations excepted.
    permits
        Decides on the questions; ``names`` has addresses of names.
    reverse
        The client's sockets for reverse forwards, by id: connected, with their target.
    """

    def __init__(self, config: DataplaneConfig = SMALL, profile: LinkProfile | None = None) -> None:
        self.reports: list[UdpReport] = []
        self.asked: list[ResolveUdp] = []
        self.permits: Callable[[str, int], bool] = lambda _host, _port: True
        self.names: dict[str, str] = {}
        self.answering = True
        self.reverse: dict[str, Callable[[], socket.socket]] = {}
        self.family = socket.AF_INET6
        self.association_idle = 120.0
        self._numbers = 0
        self._opened: list[socket.socket] = []
        super().__init__(config)
        self.client = Endpoint(self.client.plane, self._accept)
        self._pollers = Poller(), Poller()
        self.near = UdpPorts(self.client.plane, self._pollers[0], self.reports.append, lambda: self.now)
        self.far = UdpPorts(self.server.plane, self._pollers[1], self._hear, lambda: self.now)
        self.add_path(1, profile or LinkProfile(delay=0.01, rate=200e6))

    # --- what control processes do

    def _accept(self, endpoint: Endpoint, event: FlowOpened, now: float) -> None:
        if event.target == FLOW_TARGET:
            sock = socket.socket(self.family, socket.SOCK_DGRAM)
            if self.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::" if self.family == socket.AF_INET6 else "0.0.0.0", 0))
            self.far.serve(AttachUdp(event.handle, NO_PEER, self.association_idle), sock)
        elif event.target.startswith(REVERSE_TARGET) and event.target[len(REVERSE_TARGET) :] in self.reverse:
            sock = self.reverse[event.target[len(REVERSE_TARGET) :]]()
            peer = sock.getpeername()
            self.near.serve(AttachUdp(event.handle, (peer[0], peer[1]), 60.0), sock)
        else:
            endpoint.plane.refuse_flow(event.handle, RefusalCode.NOT_ALLOWED, now)

    def _hear(self, message: UdpReport) -> None:
        if isinstance(message, ResolveUdp):
            self.asked.append(message)
            if self.answering:
                self.answer(message)
        else:
            self.reports.append(message)

    def answer(self, message: ResolveUdp) -> None:
        """Answer a question about a destination; here it takes no time."""
        host = self.names.get(message.host, message.host)
        allowed = self.permits(host, message.port) and not host.endswith(".example")
        self._answers = [*getattr(self, "_answers", []), (message, host if allowed else "")]

    def _give_answers(self) -> None:
        answers, self._answers = getattr(self, "_answers", []), []
        for message, host in answers:
            self.far.serve(UdpTarget(message.handle, message.number, host, message.port if host else 0), None)

    def crash_far(self) -> None:
        """Let the server's worker die with everything in it, and another one go on."""
        self.far.shut()
        self.crash(1)
        self.far = UdpPorts(self.server.plane, self._pollers[1], self._hear, lambda: self.now)

    def close(self) -> None:
        """Close every socket."""
        for ports, poller in zip((self.near, self.far), self._pollers, strict=True):
            ports.shut()
            poller.close()

    # --- time

    def pass_time(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, and both ends do their work, until ``stop``."""

        def turn() -> bool:
            for poller in self._pollers:
                while poller.wait(0.0):  # a worker would come back at once, without time passing
                    continue
            self._give_answers()
            self.near.run(self.now)
            self.far.run(self.now)
            return stop()

        return self.run(self.now + seconds, turn)

    def until(self, sock: socket.socket, count: int = 1) -> list[tuple[bytes, Address]]:
        """Return the next ``count`` datagrams of a socket, or as many as come within WINDOW."""
        found: list[tuple[bytes, Address]] = []

        def enough() -> bool:
            found.extend(waiting(sock))
            return len(found) >= count

        self.pass_time(WINDOW, enough)
        return found

    def settle(self, seconds: float = 0.5) -> None:
        """Let everything arrive that is on its way."""
        self.pass_time(seconds)

    # --- sockets

    def listen(
        self,
        kind: UdpKind,
        target: str = "",
        *,
        peer: Address = NO_PEER,
        idle: float = 60.0,
        sources: int = SOURCES,
        host: str = "127.0.0.1",
        session: int = SESSION,
    ) -> tuple[int, Address]:
        """Hand a socket to the client's ports (REVERSE: the server's); return its number and address."""
        self._numbers += 1
        sock = udp(host)
        where = sock.getsockname()
        ports = self.far if kind is UdpKind.REVERSE else self.near
        ports.serve(OpenUdp(self._numbers, session, kind, target, peer, idle, sources), sock)
        return self._numbers, (where[0], where[1])

    def relay(self, program: socket.socket, *, any_port: bool = True, idle: float = 120.0) -> tuple[int, Address]:
        """Make a SOCKS5 association for a program."""
        host, port = program.getsockname()[:2]
        return self.listen(UdpKind.SOCKS5, peer=(host, 0 if any_port else port), idle=idle, host=host)

    def drops(self, ports: UdpPorts) -> dict[str, int]:
        """Return the drops of one end that are not zero."""
        counted = ports.snapshot()["drops"]
        assert isinstance(counted, dict)
        return {name: number for name, number in counted.items() if number}

    def closed(self) -> Iterable[int]:
        """Return the numbers of associations that have ended by themselves."""
        return [message.number for message in self.reports if isinstance(message, UdpClosed)]
