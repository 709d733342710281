"""The HTTP listener of ``metrics.listen``: GET /metrics, one answer per connection, bounded in every direction."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import h11

from vantun.config_kinds import Endpoint
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

READERS = 16
"""Connections served at once; more are closed unanswered."""
TIME_LIMIT = 5.0
"""Seconds for a connection, from its first byte to its end."""
_PIECE = 4096
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"

Page = Callable[[], Awaitable[bytes]]


class MetricsServer:
    """Serves one page to whoever asks. Made by :meth:`start`."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._server: asyncio.Server | None = None
        self._readers = 0

    @classmethod
    async def start(cls, listen: Endpoint, page: Page) -> MetricsServer:
        """Listen. Raises ResourceError when the port is taken or the address is not of this machine."""
        self = cls(page)
        try:
            self._server = await asyncio.start_server(self._serve, listen.host or None, listen.port, limit=_PIECE * 4)
        except OSError as error:
            raise ResourceError(
                f"metrics.listen: {listen} cannot be listened on: {error.strerror or error}; see `ss -tlnp`, "
                "or choose another address"
            ) from None
        log.info("metrics: http://%s/metrics", listen)
        return self

    @property
    def port(self) -> int:
        """The TCP port."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._readers >= READERS:
            writer.close()
            return
        self._readers += 1
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await self._answer(reader, writer)
        except (OSError, h11.RemoteProtocolError) as error:  # it went away, was too slow, or speaks no HTTP
            log.debug("metrics: a reader got no answer: %s", str(error) or "too slow")
        finally:
            self._readers -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=4 * _PIECE)
        request = http.next_event()
        while request is h11.NEED_DATA:
            http.receive_data(await reader.read(_PIECE))
            request = http.next_event()
        if not isinstance(request, h11.Request):
            return
        status, body = await self._respond(request)
        headers = [(b"content-type", _TEXT), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        data = http.send(h11.Response(status_code=status, headers=headers))
        if request.method != b"HEAD":
            data = (data or b"") + (http.send(h11.Data(data=body)) or b"")
        writer.write(data or b"")
        await writer.drain()

    async def _respond(self, request: h11.Request) -> tuple[int, bytes]:
        if request.target.split(b"?")[0] != b"/metrics":
            return 404, b"the metrics are at /metrics\n"
        if request.method not in (b"GET", b"HEAD"):
            return 405, b"use GET\n"
        return 200, await self._page()
