"""Another web site's pages as our own: a reverse proxy that streams both ways and is bounded.

httpx's transport is used without its client: that one would follow redirections and keep the cookies of all visitors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx

from vantun.config import MasqueradeConfig
from vantun.control.web import Answer, Headers, Request, error, usual

MAX_REQUEST_BODY = 16 << 20
"""Bytes that a visitor may send with one request."""
MAX_ANSWER_BODY = 1 << 30
MAX_HEADERS = 64 << 10
"""Bytes of field names and values that are taken over from the site behind."""
CONNECTIONS = 64
"""To the site behind, at once; further requests wait for one."""
CONNECT_TIME, READ_TIME = 5.0, 30.0
"""Seconds until it is reached; between two pieces of an answer."""
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"alt-svc",  # it speaks of the ports of the site behind
    )
)
_NO_BODY = frozenset((204, 304))


class _TooLargeError(Exception):
    """The visitor sends more than MAX_REQUEST_BODY."""


class ProxySite:
    """Shows the site at ``masquerade.proxy.url``."""

    def __init__(self, config: MasqueradeConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        parts = urlsplit(config.url)
        self._scheme = parts.scheme.encode()
        self._host = (parts.hostname or "").encode()
        self._port = parts.port
        self._netloc = parts.netloc.encode()
        self._prefix = parts.path.rstrip("/").encode()
        self._rewrite_host = config.rewrite_host
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS // 2)
        self._transport = transport or httpx.AsyncHTTPTransport(
            verify=not config.insecure, limits=limits, trust_env=False
        )

    def answer_now(self, request: Request) -> Answer | None:
        """Refuse what is not for a web site, and what is too large by its own account."""
        if request.method in (b"CONNECT", b"TRACE"):
            return error(405, request)
        if not request.path.startswith(b"/") and not (request.method == b"OPTIONS" and request.path == b"*"):
            return error(400, request)
        length = request.header(b"content-length")
        if length and (not length.isdigit() or len(length) > 18):
            return error(400, request)
        if length and int(length) > MAX_REQUEST_BODY:
            return error(413, request)
        return None

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        """Return the answer of the site behind, or nginx's when there is none."""
        try:
            response = await self._transport.handle_async_request(self._forward(request, body))
        except _TooLargeError:
            return error(413, request)
        except httpx.TimeoutException:
            return error(504, request)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError):
            return error(502, request)
        return await self._answer(request, response)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def _forward(self, request: Request, body: AsyncIterator[bytes]) -> httpx.Request:
        host = self._netloc if self._rewrite_host or not request.authority else request.authority
        headers: Headers = [(b"host", host), *end_to_end(request.headers)]
        url = httpx.URL(
            scheme=self._scheme.decode(),
            host=self._host.decode(),
            port=self._port,
            raw_path=(b"" if request.path == b"*" else self._prefix) + request.path,
        )
        content = _limited(body) if request.has_body else None
        if request.has_body and not request.header(b"content-length"):
            headers.append((b"transfer-encoding", b"chunked"))
        timeouts = {"connect": CONNECT_TIME, "read": READ_TIME, "write": READ_TIME, "pool": CONNECT_TIME}
        return httpx.Request(
            request.method.decode("ascii"), url, headers=headers, content=content, extensions={"timeout": timeouts}
        )

    async def _answer(self, request: Request, response: httpx.Response) -> Answer:
        headers = end_to_end([(name.lower(), value) for name, value in response.headers.raw])
        size = sum(len(name) + len(value) for name, value in headers)
        length = response.headers.get("content-length", "")
        if size > MAX_HEADERS or (length.isdigit() and int(length[:19]) > MAX_ANSWER_BODY):
            await response.aclose()
            return error(502, request)
        said = {name for name, _ in headers}
        headers = [entry for entry in usual(b"", 0)[:2] if entry[0] not in said] + headers
        if request.method == b"HEAD" or response.status_code in _NO_BODY:
            await response.aclose()
            return Answer(response.status_code, headers)
        return Answer(response.status_code, headers, _pieces(response))


def end_to_end(headers: Headers) -> Headers:
    """Return the fields that are not for the next hop only (RFC 9110, section 7.6.1)."""
    named = {
        word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",") if word
    }
    return [entry for entry in headers if entry[0] not in _HOP_BY_HOP and entry[0] not in named]


async def _limited(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > MAX_REQUEST_BODY:
            raise _TooLargeError
        yield piece


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the body as it was sent, in whatever coding; the response is closed in any case."""
    size = 0
    try:
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > MAX_ANSWER_BODY:
                raise OSError("the site behind sends without end")
            yield piece
    except httpx.HTTPError as failure:
        raise OSError(f"the site behind has broken off: {failure}") from failure
    finally:
        # a task that is cancelled must give its connection back all the same
        await asyncio.shield(response.aclose())
