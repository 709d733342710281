"""Measuring with datagrams: numbered and stamped ones at a steady rate, counted where they arrive."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from vantun.errors import ConnectError
from vantun.speedtest.account import Arrivals, Pace
from vantun.speedtest.messages import (
    HEADER,
    HELLO,
    HOST,
    PORT,
    PROGRESS_SIZE,
    RECEIPT_SIZE,
    Datagram,
    Mode,
    Progress,
    Receipt,
    Records,
    Request,
)
from vantun.speedtest.outcome import Datagrams, Outcome
from vantun.speedtest.streams import echo_request, exchange
from vantun.speedtest.way import PATIENCE, Way, broken, read_token, together
from vantun.udp_address import decode_address, encode_address

SETTLE = 1.0
"""Seconds that the last ones have to arrive."""
_TICK = 0.002
_AGAIN = 0.05
"""Seconds between two datagrams that show the server where to send to."""
_AT_ONCE = 64
_RELAY_HEAD = 3
"""RSV and FRAG of RFC 1928, section 7; the address follows."""


def measure_datagrams(way: Way, outcome: Outcome, request: Request) -> None:
    """Measure the download, then the upload; size, rate and seconds are those of ``request``. Raises VantunError."""
    for mode in (Mode.DATAGRAMS_DOWN, Mode.DATAGRAMS_UP):
        found = Datagrams()
        with ExitStack() as stack:
            asked = replace(request, mode=mode)
            # an association first: the relay exists when the server begins
            relay = way.associate(stack)
            flow, echo = way.open_all([asked, echo_request(request.seconds)], stack)
            run = Run(flow, relay, echo, asked, found)
            if mode is Mode.DATAGRAMS_DOWN:
                outcome.download = found
                asyncio.run(run.download())
            else:
                outcome.upload = found
                asyncio.run(run.upload())
        if found.receipt is None or not found.receipt.received:
            raise ConnectError("no datagram has arrived: the path is gone, or too slow for the rate")


def unwrap(data: bytes) -> bytes:
    """Return what a relay's datagram carries. Raises ValueError for one without a whole header (RFC 1928)."""
    if len(data) < _RELAY_HEAD or data[2]:
        raise ValueError("no header of a relay, or a fragment")
    return data[_RELAY_HEAD + decode_address(data[_RELAY_HEAD:])[2] :]


@dataclass(frozen=True)
class Run:
    """One direction.

    Attributes
    ----------
    flow, relay, echo
        None of them blocks: the flow of the measurement, the UDP socket to the proxy's relay, the flow of exchanges.
    found
        Filled while it runs.
    """

    flow: socket.socket
    relay: socket.socket
    echo: socket.socket
    request: Request
    found: Datagrams
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether the server has ended it."""

    async def upload(self) -> None:
        """Send, and hear from the server what has arrived."""
        token = await read_token(self.flow)
        load = asyncio.ensure_future(self._exchanges(self.request.seconds))
        hear = asyncio.ensure_future(together([self._hear(RECEIPT_SIZE)], self.request.seconds + SETTLE + PATIENCE))
        try:
            send = asyncio.ensure_future(self._send(token))
            try:
                await asyncio.wait([send, hear], return_when=asyncio.FIRST_COMPLETED)
                if not send.done():
                    await hear
                    raise broken(ConnectionResetError("the server has ended it"))
                await send
            finally:
                send.cancel()
            await asyncio.sleep(SETTLE)
            with suppress(OSError):  # it has ended already: what it said last counts
                self.flow.shutdown(socket.SHUT_WR)
            await hear
            self._must_be_over()
            await load
        finally:
            await _end(hear, load)

    async def download(self) -> None:
        """Show the server where to send to, and take down what arrives."""
        token = await read_token(self.flow)
        arrivals = Arrivals(self.request.count)
        load = asyncio.ensure_future(self._exchanges(self.request.seconds))
        take = asyncio.ensure_future(self._take(token, arrivals))
        try:
            hear = self._hear(PROGRESS_SIZE)
            await together([hear, self._knock(token, arrivals)], self.request.seconds + SETTLE + PATIENCE)
            self._must_be_over()
            await asyncio.sleep(SETTLE)
            await load
        finally:
            await _end(take, load)

    async def _exchanges(self, seconds: float) -> None:
        await together([exchange(self.echo, self.found.loaded)], seconds)

    async def _send(self, token: bytes) -> None:
        request = self.request
        pace = Pace(request.rate / (8 * request.size), request.count)
        head, tail = bytes(_RELAY_HEAD) + encode_address(HOST, PORT), bytes(request.size - HEADER)
        began = time.perf_counter()
        while not pace.is_over:
            for _ in range(pace.due(time.perf_counter() - began)):
                header = Datagram(token, pace.sent, time.monotonic_ns() // 1000)
                try:
                    self.relay.send(head + header.encode() + tail)
                except BlockingIOError:  # no room: it goes with the next turn
                    break
                except OSError as error:
                    raise broken(error) from None
                pace.sent += 1
                self.found.sent = pace.sent
            await asyncio.sleep(_TICK)

    async def _take(self, token: bytes, arrivals: Arrivals) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                header, size = _read(await loop.sock_recv(self.relay, 1 << 16))
            except (ValueError, OSError):  # no datagram of ours; a relay that is gone ends the flow, too
                await asyncio.sleep(0)
                continue
            if header.token == token and arrivals.take(header.number, header.sent, time.monotonic_ns() // 1000, size):
                self.found.receipt = arrivals.receipt()

    async def _knock(self, token: bytes, arrivals: Arrivals) -> None:
        """Send the HELLO until something arrives; ConnectError when nothing does."""
        head = bytes(_RELAY_HEAD) + encode_address(HOST, PORT)
        end = time.perf_counter() + PATIENCE
        while not arrivals.receipt().received:
            if time.perf_counter() > end:
                raise ConnectError(f"no datagram has arrived within {PATIENCE:g} s: the path is gone, or too slow")
            with suppress(BlockingIOError):
                self.relay.send(head + Datagram(token, HELLO, 0).encode())
            await asyncio.sleep(_AGAIN)

    async def _hear(self, size: int) -> None:
        """Take the server's accounts until it ends the flow."""
        loop = asyncio.get_running_loop()
        records = Records(size)
        while data := await loop.sock_recv(self.flow, 4096):
            record = records.last(data)
            if record is not None and size == RECEIPT_SIZE:
                self.found.receipt = Receipt.decode(record)
            elif record is not None:
                self.found.sent = Progress.decode(record).count
        self.is_over.set()

    def _must_be_over(self) -> None:
        if not self.is_over.is_set():  # what has not arrived is not lost: nobody has counted it
            raise ConnectError("the server has not ended the measurement: it, or its path, is gone")


def _read(data: bytes) -> tuple[Datagram, int]:
    """Return the header of a datagram from the relay, and its size without the relay's header. Raises ValueError."""
    inner = unwrap(data)
    return Datagram.decode(inner), len(inner)


async def _end(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
