"""The UDP sockets of programs and targets in a worker: handed in with a command, watched, ended when silent."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from functools import partial

from drivers.errors import DriverError
from vantun.config_kinds import parse_endpoint
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import EDGE, IN, Poller
from vantun.dataplane.ports import RefusalCode
from vantun.dataplane.udp_association import AssociationPort, ConnectedPort
from vantun.dataplane.udp_io import UdpIo
from vantun.dataplane.udp_judge import UdpJudge
from vantun.dataplane.udp_listener import Listener
from vantun.dataplane.udp_port import SocketPort
from vantun.dataplane.udp_relay import RelayPort
from vantun.udp_messages import (
    NO_PEER,
    AttachUdp,
    CloseUdp,
    JudgeUdp,
    MoveUdp,
    OpenUdp,
    UdpClosed,
    UdpCommand,
    UdpKind,
    UdpReport,
    UdpTarget,
    UdpVerdict,
)

_LOOK_EVERY = 1.0
"""Seconds, at least, between two looks for silent ports: they end that much late at most."""


class UdpPorts:
    """Serves the UDP commands of the control process; a UdpKeeper."""

    def __init__(
        self,
        plane: Dataplane,
        poller: Poller,
        report: Callable[[UdpReport], None],
        clock: Callable[[], float],
    ) -> None:
        self.plane = plane
        self.io = UdpIo(plane.context)
        self.report = report
        self.judge = UdpJudge(self, poller, clock)
        self._poller = poller
        self._clock = clock
        self._ports: dict[int, SocketPort] = {}
        """By descriptor."""
        self._relays: dict[int, RelayPort] = {}
        self._associations: dict[int, AssociationPort] = {}
        self._listeners: dict[int, Listener] = {}
        self._look_at = math.inf

    # --- commands

    def serve(self, message: UdpCommand, sock: socket.socket | None) -> None:
        """Do what a command asks; ``sock`` is the socket that came with it, None if it was lost on its way."""
        match message:
            case OpenUdp():
                if sock is not None:
                    self.open(message, sock)
                else:
                    self.report(UdpClosed(message.number, "its socket was lost; raise the limit on open files"))
            case AttachUdp():
                if sock is not None:
                    self.attach(message, sock)
                else:
                    self.plane.refuse_flow(message.handle, RefusalCode.GENERAL, self._clock())
            case MoveUdp(number, session):
                listener = self._listeners.get(number)
                if listener is not None:
                    listener.move(session, self._clock())
                elif number in self._relays:
                    self._relays[number].session = session
            case CloseUdp():
                self.close(message)
            case UdpTarget():
                port = self._associations.get(message.handle)
                if port is not None:
                    port.answer(message, self._clock())
            case JudgeUdp():
                self.judge.renew(message)
            case UdpVerdict():
                self.judge.learn(message, self._clock())

    def open(self, message: OpenUdp, sock: socket.socket) -> None:
        """Serve a program's socket; UdpClosed is reported for an association that cannot begin."""
        now = self._clock()
        try:
            if message.kind is not UdpKind.SOCKS5:
                self._listen(message, sock)
                return
            port = RelayPort(sock, self, message, now)
        except ValueError as error:
            sock.close()
            self.report(UdpClosed(message.number, str(error)))
            return
        self._watch(port)
        self._relays[message.number] = port
        port.open(now)

    def _listen(self, message: OpenUdp, sock: socket.socket) -> None:
        target = NO_PEER
        if message.kind is UdpKind.FORWARD:
            endpoint = parse_endpoint(message.target)
            target = (endpoint.host, endpoint.port)
        listener = Listener(sock, self, message, target)
        self._listeners[message.number] = listener
        self._poller.add(listener.fileno(), IN, partial(self._heard, listener))

    def close(self, message: CloseUdp) -> None:
        """End an association, or stop listening."""
        relay = self._relays.get(message.number)
        if relay is not None:
            relay.end("its program has closed it", self._clock())
        self._unlisten(message.number)

    def attach(self, message: AttachUdp, sock: socket.socket) -> None:
        """Answer a flow that the peer opened."""
        now = self._clock()
        port: SocketPort
        if message.peer == NO_PEER:
            port = self._associations[message.handle] = AssociationPort(sock, self, message, now)
        else:
            port = ConnectedPort(
                sock, self, message, now
            )  # raises ValueError for a name: the control process's mistake
        self._watch(port)
        self.plane.attach_flow(message.handle, port, now)

    # --- sockets

    def _watch(self, port: SocketPort) -> None:
        self._ports[port.fileno()] = port
        self._look_at = min(self._look_at, port.used + port.idle)
        self._poller.add(port.fileno(), IN | EDGE, partial(self._stirred, port))

    def _stirred(self, port: SocketPort, events: int) -> None:
        del events
        if port.handle < 0 and isinstance(port, RelayPort):
            port.open(self._clock())
        else:
            self.plane.readable(port.handle)

    def _heard(self, listener: Listener, events: int) -> None:
        del events
        now = self._clock()
        try:
            listener.read(now)
        except DriverError as error:  # level-triggered, it would come back at once and for ever
            self._unlisten(listener.number)
            self.report(UdpClosed(listener.number, str(error)))
        self._look_at = min(self._look_at, listener.due)

    def _unlisten(self, number: int) -> None:
        listener = self._listeners.pop(number, None)
        if listener is not None:
            self._poller.remove(listener.fileno())
            listener.close(self._clock())

    def ended(self, port: SocketPort, reason: str) -> None:
        """See UdpKeeper."""
        del reason
        self._poller.remove(port.fileno())
        del self._ports[port.fileno()]
        if isinstance(port, RelayPort):
            self._relays.pop(port.number, None)
        elif self._associations.get(port.handle) is port:
            del self._associations[port.handle]

    # --- time

    @property
    def due(self) -> float:
        """When :meth:`run` has to be called (inf = not at all)."""
        return self._look_at

    def run(self, now: float) -> None:
        """End what was silent for too long."""
        if now < self._look_at:
            return
        for port in [port for port in self._ports.values() if port.used + port.idle <= now]:
            port.end(f"nothing was sent or received for {port.idle:g} s", now)
        for listener in self._listeners.values():
            listener.run(now)
        due = min((port.used + port.idle for port in self._ports.values()), default=math.inf)
        due = min(due, min((listener.due for listener in self._listeners.values()), default=math.inf))
        self._look_at = max(due, now + _LOOK_EVERY)

    def shut(self) -> None:
        """End everything: the worker ends."""
        now = self._clock()
        for port in list(self._ports.values()):
            port.end("the worker ends", now)
        for number in list(self._listeners):
            self._unlisten(number)
        self.io.close()

    def snapshot(self) -> dict[str, object]:
        """Return what is open, and the counters."""
        return {
            "relays": len(self._relays),
            "associations": len(self._associations),
            "listeners": len(self._listeners),
            "sources": sum(map(len, self._listeners.values())),
            "destinations": sum(len(port.destinations) for port in self._associations.values()),
            "direct": self.judge.snapshot(),
            **self.io.counted(),
        }
