"""The datagrams of speed tests at the server: one UDP socket on the loopback for all of them.

Associations of the tunnel reach it by the reserved name. Other programs of this machine can send to it, too: what
carries no token of a measurement under way is dropped without a word, so it answers and amplifies for nobody.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time

from vantun.speedtest.account import Arrivals, Pace
from vantun.speedtest.messages import HELLO, TOKEN, Datagram, Mode, Progress, Receipt, Request

AT_ONCE = 64
"""Datagrams read in a turn of the loop."""
TICK = 0.002
"""Seconds between two looks at what is due."""
BUFFER = 1 << 20
"""Bytes asked of the kernel, each way."""
_LARGEST = 65_536

Peer = tuple[str, int]


def microseconds() -> int:
    """Return the time by a clock that never goes back."""
    return time.monotonic_ns() // 1000


class Measurement:
    """One direction of one client.

    Attributes
    ----------
    token
        What its datagrams carry.
    sent
        DATAGRAMS_DOWN: how many, and how long that took.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.token = secrets.token_bytes(TOKEN)
        self.sent = Progress()
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
        self._arrivals = Arrivals(request.count if request.mode is Mode.DATAGRAMS_UP else 0)

    def take(self, header: Datagram, size: int, peer: Peer) -> None:
        """Take down a datagram that carries the token."""
        if self.request.mode is Mode.DATAGRAMS_UP:
            self._arrivals.take(header.number, header.sent, microseconds(), size)
        elif header.number == HELLO and not self.peer.done():
            self.peer.set_result(peer)

    def receipt(self) -> Receipt:
        """Return what has arrived until now."""
        return self._arrivals.receipt()


class SpeedDatagrams:
    """Opens its socket when it is needed for the first time."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._known: dict[bytes, Measurement] = {}

    @property
    def address(self) -> Peer | None:
        """Where datagrams for the reserved name go; None while nothing is measured."""
        if self._socket is None or not self._known:
            return None
        host, port = self._socket.getsockname()
        return str(host), int(port)

    def begin(self, request: Request) -> Measurement:
        """Begin to take and give datagrams. Raises OSError when there is no socket."""
        if self._socket is None:
            self._socket = _loopback_socket()
            asyncio.get_running_loop().add_reader(self._socket, self._read)
        made = Measurement(request)
        self._known[made.token] = made
        return made

    def end(self, measurement: Measurement) -> None:
        """Forget it; its token is worth nothing any more."""
        self._known.pop(measurement.token, None)

    async def send(self, measurement: Measurement) -> None:
        """Send all datagrams of a measurement, once the client has shown where to."""
        peer = await measurement.peer
        request = measurement.request
        pace = Pace(request.rate / (8 * request.size), request.count)
        tail = bytes(request.size - len(Datagram(measurement.token, 0, 0).encode()))
        began = microseconds()
        while not pace.is_over and self._socket is not None:
            for _ in range(pace.due((microseconds() - began) / 1e6)):
                header = Datagram(measurement.token, pace.sent, microseconds())
                try:
                    self._socket.sendto(header.encode() + tail, peer)
                except BlockingIOError:  # no room: it goes with the next turn
                    break
                pace.sent += 1
            measurement.sent = Progress(pace.sent, microseconds() - began)
            await asyncio.sleep(TICK)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        self._known.clear()

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                data, peer = self._socket.recvfrom(_LARGEST)
            except OSError:  # nothing is there, or an answer of ours found nobody
                return
            try:
                header = Datagram.decode(data)
            except ValueError:
                continue
            measurement = self._known.get(header.token)
            if measurement is not None:
                measurement.take(header, len(data), (str(peer[0]), int(peer[1])))


def _loopback_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(("127.0.0.1", 0))
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    except OSError:
        sock.close()
        raise
    return sock
