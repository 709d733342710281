"""A stranger's HTTP/3 connection to a server in memory: no delay, no loss, virtual time."""

from __future__ import annotations

import ssl

from tests.unit.vantun.control.quic_pair import SERVER
from vantun.control.path_events import PathEvent
from vantun.control.quic import (
    ConnectionTerminated,
    DataReceived,
    GuardedConnection,
    HandshakeCompleted,
    HeadersReceived,
    HttpConnection,
    quic_configuration,
)
from vantun.control.server_paths import ServerPaths

Fields = list[tuple[bytes, bytes]]
_STEP = 0.01


def request(method: bytes, path: bytes = b"/", more: Fields | None = None) -> Fields:
    """Return a request's fields."""
    head = [(b":method", method), (b":scheme", b"https"), (b":authority", b"gw.example"), (b":path", path)]
    return [*head, *(more or [])]


class Visitor:
    """One connection; ``quic`` may be used as an attacker likes."""

    def __init__(self, server: ServerPaths, address: tuple[str, int] = ("192.0.2.9", 50000), now: float = 10.0) -> None:
        settings = quic_configuration(is_client=True)
        settings.verify_mode = ssl.CERT_NONE
        self.quic = GuardedConnection(configuration=settings)
        self.http = HttpConnection(self.quic)
        self.now = now
        self.ready = False
        self.ended: ConnectionTerminated | None = None
        self.status: dict[int, bytes] = {}
        self.fields: dict[int, Fields] = {}
        self.bodies: dict[int, bytes] = {}
        self.events: list[PathEvent] = []
        self._server = server
        self._address = address
        self.quic.connect(SERVER, now)

    @property
    def over(self) -> bool:
        """Whether the connection has ended."""
        return self.ended is not None

    def run(self, seconds: float = 0.2) -> Visitor:
        """Let time pass."""
        for _ in range(round(seconds / _STEP)):
            self.now += _STEP
            self.http.run_timers(self.now)
            for data, _peer in self.http.transmit(self.now):
                self._server.receive(data, 0, self._address, self.now)
            self._server.run_timers(self.now)
            self.events += self._server.take_events()
            for _socket, data, peer in self._server.transmit(self.now):
                if peer == self._address:
                    self.http.receive(data, SERVER, self.now)
            self._look()
        return self

    def _look(self) -> None:
        for event in self.http.events():
            match event:
                case HandshakeCompleted():
                    self.ready = True
                case HeadersReceived():
                    self.fields[event.stream_id] = event.headers
                    self.status[event.stream_id] = dict(event.headers)[b":status"]
                case DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                case ConnectionTerminated():
                    self.ended = event
