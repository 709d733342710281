"""The target of ``vantun speedtest`` in the server itself: flows to a reserved name end here, on a pair of sockets.

Only sessions reach it: it listens nowhere for streams, and what a client measures passes the worker as any flow does,
so the rates of its user hold. The access list is about targets of the network, and is not asked.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from vantun.control.loopback_pair import loopback_pair
from vantun.control.speed_datagrams import SpeedDatagrams, microseconds
from vantun.dataplane.ports import RefusalCode
from vantun.speedtest.messages import (
    HOST,
    MESSAGE,
    MOST_STREAMS,
    REPORT_EVERY,
    REQUEST_SIZE,
    SLACK,
    TARGET,
    Mode,
    Progress,
    Request,
)

log = logging.getLogger(__name__)

PER_SESSION = MOST_STREAMS + 2
"""Flows at once: one test with all its streams, and its exchanges."""
PER_SERVER = 4 * PER_SESSION
DATAGRAM_TESTS = 2
"""Measurements with datagrams at once, of the whole server: they are made one by one in the control process."""
PIECE = 1 << 16
"""Bytes written and read at once."""
REQUEST_TIME = 10.0
"""Seconds for a request to arrive."""

ECHO_PAUSE = 0.002
"""Seconds after an exchange: clients time one every 10 ms, and small ones cost this process most."""

_BLOCK = bytes(PIECE)  # packets are encrypted and never compressed: zeros are as good as noise


class FlowLink(Protocol):
    """What is used of WorkerLink."""

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        """See WorkerLink."""

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        """See WorkerLink."""


class SpeedService:
    """All speed tests of a server.

    Attributes
    ----------
    enabled
        May be changed; what is under way goes on.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._datagrams = SpeedDatagrams()
        self._of_session: Counter[int] = Counter()
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._with_datagrams = 0
        self._begun = 0
        self._refused = 0

    def report(self) -> dict[str, object]:
        """Return the section ``speedtest`` of the status."""
        return {
            "enabled": self.enabled,
            "flows": len(self._tasks),
            "begun": self._begun,
            "refused": self._refused,
        }

    def udp_address(self, host: str) -> tuple[bool, tuple[str, int] | None]:
        """Return whether ``host`` is the reserved name, and where its datagrams go; None = nowhere now."""
        return host.lower() == HOST, self._datagrams.address

    def open(self, link: FlowLink, handle: int, session: int, target: str) -> bool:
        """Attach or refuse a flow, if its target is the reserved one; return whether it is."""
        if target.lower() != TARGET:
            return False
        full = len(self._tasks) >= PER_SERVER or self._of_session[session] >= PER_SESSION
        if not self.enabled or full:
            self._refused += 1
            log.info("session %x: a speed test is refused: %s", session, "too many" if self.enabled else "switched off")
            link.refuse_flow(handle, RefusalCode.GENERAL if self.enabled else RefusalCode.NOT_ALLOWED)
            return True
        try:
            ours, theirs = loopback_pair()
        except OSError as error:
            log.warning("a speed test is refused: %s; raise the limit on open files", error.strerror or error)
            link.refuse_flow(handle, RefusalCode.GENERAL)
            return True
        self._begun += 1
        self._of_session[session] += 1
        task = asyncio.get_running_loop().create_task(self._serve(ours))
        self._tasks[task] = session

        def over(_task: asyncio.Task[None]) -> None:
            ours.close()
            del self._tasks[task]
            self._of_session -= Counter([session])  # what falls to 0 is dropped

        task.add_done_callback(over)
        link.attach_flow(handle, theirs)
        return True

    async def close(self) -> None:
        """Break off every measurement."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._datagrams.close()

    async def _serve(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIME):
                request = Request.decode(await _exactly(sock, REQUEST_SIZE))
            async with asyncio.timeout(request.seconds + SLACK):
                await self._measure(sock, request)
        except ValueError as error:
            log.info("a speed test is broken off: %s", error)
        except OSError as error:  # TimeoutError is one
            log.debug("a speed test has ended: %s", str(error) or "its time is over")

    async def _measure(self, sock: socket.socket, request: Request) -> None:
        match request.mode:
            case Mode.DOWNLOAD:
                await _download(sock, request.seconds)
            case Mode.UPLOAD:
                await _upload(sock)
            case Mode.ECHO:
                await _echo(sock)
            case Mode.DATAGRAMS_UP | Mode.DATAGRAMS_DOWN:
                if self._with_datagrams >= DATAGRAM_TESTS:
                    raise ValueError(f"{DATAGRAM_TESTS} with datagrams are under way")
                self._with_datagrams += 1
                try:
                    await self._datagram_test(sock, request)
                finally:
                    self._with_datagrams -= 1

    async def _datagram_test(self, sock: socket.socket, request: Request) -> None:
        measurement = self._datagrams.begin(request)
        is_up = request.mode is Mode.DATAGRAMS_UP

        def account() -> bytes:
            return measurement.receipt().encode() if is_up else measurement.sent.encode()

        loop = asyncio.get_running_loop()
        work = loop.create_task(_until_end(sock) if is_up else self._datagrams.send(measurement))
        try:
            await loop.sock_sendall(sock, measurement.token)
            await _tell(sock, account, work)
            await work
            sock.shutdown(socket.SHUT_WR)
            if not is_up:
                await _until_end(sock)  # the last ones are under way
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            self._datagrams.end(measurement)


async def _download(sock: socket.socket, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        await loop.sock_sendall(sock, _BLOCK)
        await asyncio.sleep(0)  # a send that finds room does not let others have their turn


async def _upload(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(PIECE)
    got = Progress()

    async def swallow() -> None:
        nonlocal got
        first = 0
        while size := await loop.sock_recv_into(sock, buffer):
            first = first or microseconds()
            got = Progress(got.count + size, microseconds() - first)
            await asyncio.sleep(0)

    work = loop.create_task(swallow())
    try:
        await _tell(sock, lambda: got.encode(), work)
        await work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    sock.shutdown(socket.SHUT_WR)


async def _tell(sock: socket.socket, account: Callable[[], bytes], work: asyncio.Task[None]) -> None:
    """Send the account again and again, and once more when the work is done."""
    loop = asyncio.get_running_loop()
    while not work.done():
        await asyncio.wait([work], timeout=REPORT_EVERY)
        await loop.sock_sendall(sock, account())


async def _echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, MESSAGE):
        await loop.sock_sendall(sock, data)
        await asyncio.sleep(ECHO_PAUSE)


async def _until_end(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(sock, PIECE):
        await asyncio.sleep(0)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes. Raises ValueError when the flow ends before."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        part = await loop.sock_recv(sock, size - len(data))
        if not part:
            raise ValueError(f"it has ended after {len(data)} of {size} bytes of its request")
        data += part
    return data
