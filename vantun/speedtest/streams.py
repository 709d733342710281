"""Measuring with streams: small exchanges on the idle tunnel, then each direction under load."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from contextlib import ExitStack

from vantun.errors import ConnectError
from vantun.speedtest.messages import LONGEST, MESSAGE, PROGRESS_SIZE, Mode, Progress, Records, Request
from vantun.speedtest.outcome import Exchanges, Outcome, Streams
from vantun.speedtest.way import PATIENCE, Way, together

IDLE = 1.0
"""Seconds of exchanges before the load, at most; no longer than a direction is measured."""
BETWEEN = 0.01
"""Seconds from one exchange to the next."""
PIECE = 1 << 17
_EARLY = 0.9
"""Share of the time; what ends before is no measurement."""


def measure_idle(way: Way, outcome: Outcome, seconds: float) -> None:
    """Time exchanges. Raises VantunError."""
    seconds = min(seconds, IDLE)
    with ExitStack() as stack:
        (echo,) = way.open_all([echo_request(seconds)], stack)
        asyncio.run(together([exchange(echo, outcome.idle)], seconds))
    if not outcome.idle.times:
        raise ConnectError("no speed test: the server has not answered a single exchange")


def measure_streams(way: Way, outcome: Outcome, streams: int, seconds: float) -> None:
    """Measure the download, then the upload, with so many streams for so many seconds each. Raises VantunError."""
    for mode in (Mode.DOWNLOAD, Mode.UPLOAD):
        found = Streams()
        with ExitStack() as stack:
            request = Request(mode, min(seconds + PATIENCE, LONGEST))
            flows = way.open_all([request] * streams, stack)
            (echo,) = way.open_all([echo_request(seconds)], stack)
            if mode is Mode.DOWNLOAD:
                outcome.download = found
                asyncio.run(_download(flows, echo, found, seconds))
            else:
                outcome.upload = found
                asyncio.run(_upload(flows, echo, found, seconds))
        if not found.octets:
            raise ConnectError(f"nothing has arrived within {seconds:g} s: the server or its path may be gone")


def echo_request(seconds: float) -> Request:
    """Return the request for exchanges that go on for so long."""
    return Request(Mode.ECHO, min(seconds + PATIENCE, LONGEST))


async def exchange(sock: socket.socket, found: Exchanges) -> None:
    """Time one exchange after the other, until cancelled. Raises OSError when the flow ends."""
    loop = asyncio.get_running_loop()
    began = 0.0
    try:
        while True:
            began = time.perf_counter()
            await loop.sock_sendall(sock, bytes(MESSAGE))
            got = 0
            while got < MESSAGE:
                part = await loop.sock_recv(sock, MESSAGE - got)
                if not part:
                    raise ConnectionResetError("the server has ended the exchanges")
                got += len(part)
            found.times.append(time.perf_counter() - began)
            began = 0.0
            await asyncio.sleep(BETWEEN)
    finally:
        found.waiting = time.perf_counter() - began if began else 0.0


async def _download(flows: list[socket.socket], echo: socket.socket, found: Streams, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()

    async def read(sock: socket.socket) -> None:
        buffer = bytearray(PIECE)
        while size := await loop.sock_recv_into(sock, buffer):
            found.octets += size
            found.seconds = time.perf_counter() - began
            await asyncio.sleep(0)
        if time.perf_counter() - began < _EARLY * seconds:
            raise ConnectionResetError("the server has ended a stream")

    await _watched([exchange(echo, found.loaded), *(read(sock) for sock in flows)], found, seconds)


async def _upload(flows: list[socket.socket], echo: socket.socket, found: Streams, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    said = [Progress()] * len(flows)
    block = bytes(PIECE)

    async def write(sock: socket.socket) -> None:
        while True:
            await loop.sock_sendall(sock, block)
            await asyncio.sleep(0)

    async def read(place: int, sock: socket.socket, *, is_end: bool = False) -> None:
        while data := await loop.sock_recv(sock, 4096):
            record = records[place].last(data)
            if record is not None:
                said[place] = Progress.decode(record)
                found.octets = sum(progress.count for progress in said)
                found.seconds = max(progress.microseconds for progress in said) / 1e6
                heard[place] = time.perf_counter()
        if not is_end:
            raise ConnectionResetError("the server has ended a stream")

    records = [Records(PROGRESS_SIZE) for _ in flows]
    heard = [time.perf_counter()] * len(flows)
    works = [exchange(echo, found.loaded), *(write(sock) for sock in flows)]
    await _watched([*works, *(read(place, sock) for place, sock in enumerate(flows))], found, seconds)
    for sock in flows:
        sock.shutdown(socket.SHUT_WR)
    # what is in buffers has to arrive, and to be counted; on a slow path the last account before counts
    began = time.perf_counter()
    await together([read(place, sock, is_end=True) for place, sock in enumerate(flows)], PATIENCE)
    if min(heard) < began:  # a server that lives says something all the time
        raise ConnectError(f"the server has said nothing for {PATIENCE:g} s: it, or its path, is gone")


async def _watched(works: list[Coroutine[None, None, None]], found: Streams, seconds: float) -> None:
    """Run works for so long; ConnectError when nothing has arrived for PATIENCE."""

    async def watch() -> None:
        before = -1
        while before != found.octets:
            before = found.octets
            await asyncio.sleep(PATIENCE)
        raise ConnectError(f"nothing has come through for {PATIENCE:g} s: the server or its path is gone")

    await together([*works, watch()], seconds)
