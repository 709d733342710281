"""Requests of visitors whose answers take I/O: a task each, bounded, with back-pressure in both directions.

A `Visit` is sans-IO: one HTTP/3 stream of one connection. `Visitors` has the tasks; both versions of HTTP use it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Protocol

from vantun.control.quic import HttpConnection
from vantun.control.web import Answer, Headers, Origin, Request, error

log = logging.getLogger(__name__)

MAX_VISITS = 256
"""Requests that are being answered by I/O at once; beyond, the site is busy (503)."""
TOTAL_TIME = 300.0
"""Seconds for an answer, its body included."""
STALL_TIME = 30.0
"""Seconds that a visitor may take none of what is sent to him, or send nothing of what he has announced."""
HIGH_WATER = 128 << 10
"""Bytes that are sent and not acknowledged, above which an answer waits."""
PIECE = 16 << 10
"""Bytes of an answer that are given to a connection at a time."""
_H3_INTERNAL_ERROR = 0x102


class Exchange(Protocol):
    """A request and where its answer goes."""

    request: Request

    async def read(self) -> bytes:
        """Return some of the request's body; empty = it is complete. Raises OSError when the visitor has gone."""

    async def begin(self, answer: Answer, *, end: bool) -> None:
        """Send status and fields; ``end`` = there is no body."""

    async def write(self, data: bytes) -> None:
        """Send a part of the body as fast as the visitor takes it. Raises OSError when he has gone."""

    async def end(self) -> None:
        """Say that the body is complete."""

    def abort(self) -> None:
        """Break the answer off, so that the visitor sees that it is not complete."""


async def answer(exchange: Exchange, origin: Origin) -> None:
    """Answer one request within the time limits."""
    request = exchange.request
    begun = False
    body: object = None
    try:
        async with asyncio.timeout(TOTAL_TIME):
            found = await origin.answer(request, _body(exchange))
            body = found.body
            begun = True
            await exchange.begin(found, end=found.body == b"")
            if isinstance(found.body, bytes):
                if found.body:
                    await exchange.write(found.body)
            else:
                async for piece in found.body:
                    await exchange.write(piece)
            if found.body != b"":
                await exchange.end()
    except (OSError, TimeoutError) as failure:
        log.debug("an answer to a visitor was broken off: %s", str(failure) or "it took too long")
        if begun:
            exchange.abort()
        else:
            await _apologise(exchange)
    except BaseException:
        exchange.abort()
        raise
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()


async def _apologise(exchange: Exchange) -> None:
    answer = error(504, exchange.request)
    assert isinstance(answer.body, bytes)
    try:
        await exchange.begin(answer, end=not answer.body)
        if answer.body:
            await exchange.write(answer.body)
            await exchange.end()
    except OSError:
        exchange.abort()


async def _body(exchange: Exchange) -> AsyncIterator[bytes]:
    while piece := await exchange.read():
        yield piece


class Visit:
    """A request on an HTTP/3 stream.

    Attributes
    ----------
    changed
        Called when there is something to send.
    over
        Whether the answer is complete, or broken off.
    notify
        Called when data has come, when there is room again, and when the visitor has gone.
    """

    def __init__(self, request: Request, http: HttpConnection, stream: int, changed: Callable[[], None]) -> None:
        self.request = request
        self.changed = changed
        self.notify: Callable[[], None] = lambda: None
        self.gone = False
        self.over = False
        self.complete = not request.has_body
        self._http = http
        self._stream = stream
        self._received = bytearray()

    def receive(self, data: bytes, *, end: bool) -> None:
        """Take data of the request's body: it keeps its place in the peer's windows until it is read."""
        if data and not self.gone and not self.over:
            self._received += data
            self._http.hold(self._stream, len(data))
        self.complete = self.complete or end
        self.notify()

    def take(self) -> bytes:
        """Return what has come of the request's body."""
        data = bytes(self._received)
        self._received.clear()
        if data:
            self._http.release(self._stream, len(data))
            self.changed()
        return data

    @property
    def has_room(self) -> bool:
        """Whether more may be sent now."""
        return self._http.unsent < HIGH_WATER

    def respond(self, answer: Answer, *, end: bool) -> None:
        """Send status and fields."""
        fields: Headers = [(b":status", b"%d" % answer.status), *answer.headers]
        self._http.answer(self._stream, fields, b"" if end else None)
        self._sent(end)

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a part of the body."""
        self._http.send(self._stream, data, end=end)
        self._sent(end)

    def _sent(self, end: bool) -> None:  # noqa: FBT001
        if end:
            self.over = True
            self.take()
        self.changed()

    def lose(self) -> None:
        """Learn that the visitor, or his interest, has gone."""
        self.gone = True
        self.take()
        self.notify()

    def reset(self) -> None:
        """Break the answer off."""
        if not self.gone and not self.over:
            self._http.reset(self._stream, _H3_INTERNAL_ERROR)
            self.over = True
            self.lose()


class _StreamExchange:
    """A visit, for a task."""

    def __init__(self, visit: Visit) -> None:
        self.request = visit.request
        self._visit = visit
        self._event = asyncio.Event()
        visit.notify = self._event.set

    async def read(self) -> bytes:
        while True:
            self._check()
            if data := self._visit.take():
                return data
            if self._visit.complete:
                return b""
            await self._wait()

    async def begin(self, answer: Answer, *, end: bool) -> None:
        self._check()
        self._visit.respond(answer, end=end)

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            self._check()
            while not self._visit.has_room:
                await self._wait()
                self._check()
            self._visit.send(data[start : start + PIECE])

    async def end(self) -> None:
        self._check()
        self._visit.send(b"", end=True)

    def abort(self) -> None:
        self._visit.reset()

    def _check(self) -> None:
        if self._visit.gone:
            raise ConnectionResetError("the visitor has gone")

    async def _wait(self) -> None:
        self._event.clear()
        async with asyncio.timeout(STALL_TIME):
            await self._event.wait()


class Visitors:
    """The tasks that answer visits.

    Parameters
    ----------
    wake
        Called after a visit has something to send.
    """

    def __init__(self, origin: Origin, wake: Callable[[], None]) -> None:
        self._origin = origin
        self._wake = wake
        self._uses: Counter[Origin] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> Origin:
        """What answers."""
        return self._origin

    @property
    def busy(self) -> int:
        """Requests that are being answered."""
        return self._uses.total()

    def serve(self, visit: Visit) -> None:
        """Answer a visit on HTTP/3."""
        changed = visit.changed

        def sent() -> None:
            changed()
            self._wake()

        visit.changed = sent
        if self.busy >= MAX_VISITS:
            busy = error(503, visit.request)
            assert isinstance(busy.body, bytes)
            visit.respond(busy, end=not busy.body)
            if busy.body:
                visit.send(busy.body, end=True)
            return
        self._start(self.answer(_StreamExchange(visit)))

    async def answer(self, exchange: Exchange) -> None:
        """Answer an exchange, on whatever version of HTTP."""
        origin = self._origin
        ready = origin.answer_now(exchange.request)
        if ready is None and self.busy >= MAX_VISITS:
            ready = error(503, exchange.request)
        if ready is not None:
            await answer(exchange, _Ready(ready))
            return
        self._uses[origin] += 1
        try:
            await answer(exchange, origin)
        finally:
            self._uses[origin] -= 1
            if origin is not self._origin and not self._uses[origin]:
                del self._uses[origin]
                await origin.close()

    def replace(self, origin: Origin) -> None:
        """Answer by another origin from now on; what is under way ends with the one before."""
        before, self._origin = self._origin, origin
        if not self._uses[before]:
            del self._uses[before]
            self._start(before.close())

    async def close(self) -> None:
        """Break off what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._origin.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("masquerade: a mistake in VANTUN, please report it", exc_info=task.exception())


class _Ready:
    """An origin that has its answer."""

    def __init__(self, ready: Answer) -> None:
        self._ready = ready

    def answer_now(self, request: Request) -> Answer:
        del request
        return self._ready

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        del request, body
        return self._ready

    async def close(self) -> None:
        """Nothing is held."""
