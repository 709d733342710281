"""The programs of the demo: a download, an upload and small requests, each on a connection through SOCKS5.

Each runs in a thread that spends its time in the kernel or in SHA-256. What happened is in its fields, which other
threads may read at any time; an error ends the program and is kept, never raised.
"""

from __future__ import annotations

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from vantun.demo.origin import random_bytes
from vantun.errors import VantunError
from vantun.socks5_client import connect_through

CHUNK = 1 << 18
"""Bytes read or written at once."""
REQUEST = 1024
"""Bytes of a small request, and of its answer."""
PERIOD = 0.05
"""Seconds between two small requests; a slow one delays the next."""
PATIENCE = 20.0
"""Seconds without a byte after which a transfer has failed."""

Address = tuple[str, int]


class Http:
    """One HTTP/1.1 connection: just enough for the origin."""

    def __init__(self, proxy: Address, origin: Address) -> None:
        self.socket = connect_through(proxy, origin, patience=PATIENCE)
        self._rest = bytearray()

    def ask(self, method: str, path: str, length: int = 0) -> None:
        """Send the head of a request with ``length`` bytes of body."""
        head = f"{method} {path} HTTP/1.1\r\nHost: origin\r\nContent-Length: {length}\r\n\r\n"
        self.socket.sendall(head.encode())

    def head(self) -> int:
        """Read the head of an answer; return the length of its body."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._more()
        lines = bytes(self._rest[:end]).decode("latin-1").split("\r\n")
        del self._rest[: end + 4]
        if lines[0].split(" ")[1] != "200":
            raise VantunError(f"the origin answered {lines[0]!r}")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(fields["content-length"])

    def body(self, length: int) -> bytes:
        """Read a short body."""
        while len(self._rest) < length:
            self._more()
        data = bytes(self._rest[:length])
        del self._rest[:length]
        return data

    def into(self, buffer: memoryview) -> int:
        """Read some of a long body; return how much, at least 1."""
        if self._rest:
            count = min(len(buffer), len(self._rest))
            buffer[:count] = self._rest[:count]
            del self._rest[:count]
            return count
        count = self.socket.recv_into(buffer)
        if count == 0:
            raise VantunError("the connection ended in the middle of the body")
        return count

    def _more(self) -> None:
        part = self.socket.recv(65536)
        if not part:
            raise VantunError("the connection ended in the middle of an answer")
        self._rest += part


@dataclass
class Route:
    """Where the programs connect to."""

    proxy: Address
    origin: Address


class _Program(threading.Thread, ABC):
    """A thread with an error in place of an exception.

    Attributes
    ----------
    started, ended
        ``time.monotonic()``, 0 = not yet.
    error
        What went wrong; empty = nothing.
    """

    def __init__(self, name: str, route: Route) -> None:
        super().__init__(name=name, daemon=True)
        self.route = route
        self.started = 0.0
        self.ended = 0.0
        self.error = ""

    def run(self) -> None:
        """Do the work and note when it began and ended."""
        self.started = time.monotonic()
        try:
            self.work()
        except (OSError, VantunError, ValueError, KeyError, IndexError) as error:
            silent = isinstance(error, TimeoutError)
            self.error = f"no byte for {PATIENCE:.0f} s" if silent else str(error) or type(error).__name__
        self.ended = time.monotonic()

    @abstractmethod
    def work(self) -> None:
        """Do what the program is for."""


class Transfer(_Program):
    """A bulk transfer.

    Attributes
    ----------
    size, done
        Bytes to move, and moved so far.
    times
        When each piece arrived (download) or was taken (upload).
    digest, expected
        SHA-256 in hex of what arrived at the far end, and of what was sent.
    """

    def __init__(self, name: str, route: Route, size: int, expected: str) -> None:
        super().__init__(name, route)
        self.size = size
        self.done = 0
        self.times: list[float] = []
        self.digest = ""
        self.expected = expected

    @property
    def goodput(self) -> float | None:
        """Bit/s from the start (connection included) to the last byte; None if it did not come that far."""
        return self.size * 8 / (self.ended - self.started) if self.ended and not self.error else None

    @property
    def intact(self) -> bool:
        """Whether everything arrived as it was sent."""
        return not self.error and self.digest == self.expected

    def _moved(self, count: int) -> None:
        self.done += count
        self.times.append(time.monotonic())


class Download(Transfer):
    """Fetches the origin's bytes."""

    def work(self) -> None:
        """Fetch and hash."""
        http = Http(self.route.proxy, self.route.origin)
        with http.socket:
            http.ask("GET", "/bulk")
            rest = http.head()
            digest = hashlib.sha256()
            buffer = memoryview(bytearray(CHUNK))
            while rest > 0:
                count = http.into(buffer[: min(rest, CHUNK)])
                digest.update(buffer[:count])
                rest -= count
                self._moved(count)
            self.digest = digest.hexdigest()


class Upload(Transfer):
    """Sends bytes to the origin, which answers their digest."""

    def __init__(self, route: Route, data: bytes) -> None:
        super().__init__("upload", route, len(data), hashlib.sha256(data).hexdigest())
        self._data = memoryview(data)

    def work(self) -> None:
        """Send everything, then read the digest."""
        http = Http(self.route.proxy, self.route.origin)
        with http.socket:
            http.ask("PUT", "/upload", self.size)
            while self.done < self.size:
                self._moved(http.socket.send(self._data[self.done : self.done + CHUNK]))
            self.digest = http.body(http.head()).decode("ascii")


class Requests(_Program):
    """Small requests on one open connection, until :meth:`stop`.

    Attributes
    ----------
    times, latencies
        When each answer was complete, and how long it had taken, seconds.
    warm
        Set after the first answer, which opened the connection and is not counted.
    """

    def __init__(self, route: Route, seed: int) -> None:
        super().__init__("requests", route)
        self.times: list[float] = []
        self.latencies: list[float] = []
        self.warm = threading.Event()
        self._over = threading.Event()
        self._bodies = random_bytes(REQUEST * 64, seed)

    def stop(self) -> None:
        """End after the request that is on its way."""
        self._over.set()

    def work(self) -> None:
        """Send a request, check the answer, wait."""
        try:
            http = Http(self.route.proxy, self.route.origin)
            with http.socket:
                self._one(http, 0)
                self.warm.set()
                number = 0
                while not self._over.is_set():
                    number += 1
                    begin = time.monotonic()
                    self._one(http, number)
                    now = time.monotonic()
                    self.times.append(now)
                    self.latencies.append(now - begin)
                    self._over.wait(max(0.0, begin + PERIOD - now))
        finally:
            self.warm.set()

    def _one(self, http: Http, number: int) -> None:
        start = number % 64 * REQUEST
        body = self._bodies[start : start + REQUEST]
        head = f"POST /echo HTTP/1.1\r\nHost: origin\r\nContent-Length: {REQUEST}\r\n\r\n"
        http.socket.sendall(head.encode() + body)
        if http.body(http.head()) != body:
            raise VantunError(f"the answer to request {number} is not what was sent")
