"""A server's and a client's QUIC ends in memory, with a link that may lose between them; virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vantun.config import (
    AuthConfig,
    ClientConfig,
    ClientTlsConfig,
    Endpoint,
    PathConfig,
    ServerConfig,
    ServerTlsConfig,
)
from vantun.control.certificates import create_self_signed
from vantun.control.client_path import ClientPath
from vantun.control.path_events import PathEvent, Route, SessionIdentity
from vantun.control.server_paths import ServerPaths
from vantun.control.tickets import KeptTickets
from vantun.lab.link import Link, LinkProfile

CLIENT = ("192.0.2.7", 40000)
SERVER = ("192.0.2.1", 443)
Tamper = Callable[[bool, bytes], bytes | None]


def server_config(folder: Path, auth: AuthConfig | None = None) -> ServerConfig:
    """Return a server's configuration with a fresh certificate in ``folder``."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not cert.exists():
        create_self_signed(cert, key, ["gw.example", "192.0.2.1"], 10)
    return ServerConfig(ServerTlsConfig(cert, key), auth or AuthConfig("userpass", users={"alice": "s3cret"}))


def client_config(folder: Path, *, auth: str = "alice:s3cret", tls: ClientTlsConfig | None = None) -> ClientConfig:
    """Return a client's configuration that trusts the certificate in ``folder``."""
    where = Endpoint("gw.example", 443)
    path = PathConfig("dsl", where)
    return ClientConfig(where, auth, (path,), tls or ClientTlsConfig(ca=folder / "cert.pem"))


class Pair:
    """One server, any number of client paths; datagrams take ``profile``'s way."""

    def __init__(self, server: ServerConfig, client: ClientConfig, profile: LinkProfile, seed: int = 1) -> None:
        self.now = 100.0
        self.client = client
        self.server = ServerPaths(server)
        self.server_events: list[PathEvent] = []
        self.tickets = KeptTickets()
        self.paths: dict[int, ClientPath] = {}
        self.events: dict[int, list[PathEvent]] = {}
        self.tamper: Tamper = lambda _, data: data
        self.seen: list[tuple[bool, bytes]] = []
        self._links = [Link(profile, seed, direction) for direction in (0, 1)]
        self._way: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def connect(
        self,
        number: int,
        identity: SessionIdentity | None = None,
        *,
        down: int = 0,
        backup: bool = False,
        workers: int = 1,
    ) -> ClientPath:
        """Begin a path."""
        path = replace(self.client.paths[0], down=down, backup=backup)
        end = ClientPath(self.client, path, number, Route(number, SERVER, workers), identity, self.now, self.tickets)
        self.paths[number] = end
        self.events[number] = []
        return end

    def inject(self, data: bytes, source: tuple[str, int] = ("192.0.2.66", 6666)) -> None:
        """Give the server a stranger's datagram."""
        self.server.receive(data, 0, source, self.now)

    def run(self, seconds: float, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass; return whether ``done`` came true."""
        end = self.now + seconds
        while True:
            self._exchange()
            if done is not None and done():
                return True
            times = [end, *(entry[0] for entry in self._way[:1])]
            times += [due for part in self._parts() if (due := part.timer()) is not None]
            self.now = max(min(times), self.now + 1e-4)
            if self.now >= end:
                self.now = end
                return False
            for part in self._parts():
                part.run_timers(self.now)
            while self._way and self._way[0][0] <= self.now:
                _, _, number, data = heapq.heappop(self._way)
                if number < 0:
                    self.server.receive(data, 0, (CLIENT[0], CLIENT[1] - number), self.now)
                else:
                    self.paths[number].receive(data, number, SERVER, self.now)

    def _parts(self) -> list[ServerPaths | ClientPath]:
        return [self.server, *self.paths.values()]

    def _exchange(self) -> None:
        for number, path in self.paths.items():
            self.events[number] += path.take_events()
            for _, data, _ in path.transmit(self.now):
                self._send(0, -1 - number, data)
            self.events[number] += path.take_events()
        self.server_events += self.server.take_events()
        for _, data, peer in self.server.transmit(self.now):
            number = peer[1] - CLIENT[1] - 1
            if peer[0] == CLIENT[0] and number in self.paths:
                self._send(1, number, data)
        self.server_events += self.server.take_events()

    def _send(self, direction: int, number: int, data: bytes) -> None:
        changed = self.tamper(direction == 0, data)
        self.seen.append((direction == 0, data))
        if changed is None:
            return
        for time in self._links[direction].send(self.now, len(changed)):
            self._count += 1
            heapq.heappush(self._way, (time, self._count, number, changed))
