"""The TCP sockets of a worker: handed in with a command, watched edge-triggered, drained when refused."""

from __future__ import annotations

import socket
from collections.abc import Callable

from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import EDGE, ERR, HUP, IN, OUT, RDHUP, Poller
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.tcp_port import TcpPort
from vantun.errors import ResourceError
from vantun.worker_messages import StreamReply

LINGER_SECONDS = 2.0
"""How long a refused program may take to close its end."""


class FlowPorts:
    """Opens and attaches flows for sockets, and tells the data plane what became ready.

    Attributes
    ----------
    lends
        Whether compiled code reads and writes the sockets of streams; else the stages do it, port by port.
    """

    def __init__(self, plane: Dataplane, poller: Poller, clock: Callable[[], float]) -> None:
        self._plane = plane
        self._poller = poller
        self._clock = clock
        self.lends = True
        self._lingering: dict[TcpPort, float] = {}

    def open(self, session: int, target: str, sock: socket.socket, reply: StreamReply, first: bytes = b"") -> None:
        """Open a flow for a program's socket, which begins with ``first``; one that cannot be opened is refused."""
        port = TcpPort(sock, self, reply, first)
        self._watch(port)
        try:
            port.handle = self._plane.open_flow(session, target, port, self._clock())
        except (KeyError, ResourceError, ValueError):  # session gone, no room, a target no OPEN can hold
            port.refused(reply.failed)
            return
        if first:  # the socket may have nothing to read, and then nobody would ask the port for these
            self._plane.readable(port.handle)

    def attach(self, handle: int, sock: socket.socket) -> None:
        """Connect a flow that the peer opened; if it has ended meanwhile, the socket is reset."""
        port = TcpPort(sock, self)
        port.handle = handle
        self._watch(port)
        self._plane.attach_flow(handle, port, self._clock())
        self.lend(port)

    def refuse(self, handle: int, code: RefusalCode) -> None:
        """Refuse a flow that the peer opened."""
        self._plane.refuse_flow(handle, code, self._clock())

    def _watch(self, port: TcpPort) -> None:
        self._poller.add(port.fileno(), IN | OUT | RDHUP | EDGE, lambda events: self._ready(port, events))

    def _ready(self, port: TcpPort, events: int) -> None:
        if port in self._lingering:
            if port.drain():
                port.close()
            return
        if events & ERR:
            self._plane.broken(port.handle, self._clock())
            return
        if events & (IN | RDHUP | HUP):
            self._plane.readable(port.handle)
        if events & (OUT | HUP):
            self._plane.writable(port.handle)

    def forget(self, port: TcpPort) -> None:
        """See PortKeeper."""
        self._lingering.pop(port, None)
        self._poller.remove(port.fileno())

    def lend(self, port: TcpPort) -> None:
        """See PortKeeper."""
        if self.lends and port.fileno() >= 0:
            self._plane.lend_stream(port.handle, port.fileno())

    def linger(self, port: TcpPort) -> None:
        """See PortKeeper."""
        self._lingering[port] = self._clock() + LINGER_SECONDS
        self._poller.change(port.fileno(), IN | RDHUP)

    @property
    def due(self) -> float:
        """When :meth:`run` has to be called (inf = not at all)."""
        return next(iter(self._lingering.values()), float("inf"))

    def run(self, now: float) -> None:
        """Close refused sockets whose program takes too long."""
        while self._lingering:
            port, until = next(iter(self._lingering.items()))
            if until > now:
                return
            port.close()
