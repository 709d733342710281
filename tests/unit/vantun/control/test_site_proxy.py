"""Another site's pages as our own: what goes there, what comes back, and what happens when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from vantun.config import MasqueradeConfig
from vantun.control import site_proxy
from vantun.control.site_proxy import ProxySite, end_to_end
from vantun.control.web import Answer, Headers, Request

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[str]:
    """Serve TCP connections by ``handler``; yield the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/app"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def request(method: bytes = b"GET", path: bytes = b"/x?y=1", headers: Headers | None = None, **more: bool) -> Request:
    return Request(method, b"gw.example", path, headers or [], **more)  # type: ignore[arg-type]


async def fetch(url: str, asked: Request, *body: bytes, rewrite_host: bool = False) -> tuple[Answer, bytes]:
    site = ProxySite(MasqueradeConfig(type="proxy", url=url, rewrite_host=rewrite_host))
    try:
        answer = site.answer_now(asked) or await site.answer(asked, pieces(*body))
        found = answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])
        return answer, found
    finally:
        await site.close()


async def seen_by_upstream(asked: Request, *body: bytes, rewrite_host: bool = False) -> bytes:
    """Return the bytes that the site behind gets."""
    seen = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        if asked.has_body:
            seen.extend(await reader.readuntil(b"0\r\n\r\n" if b"chunked" in seen else b"".join(body)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with upstream(handler) as url:
        assert (await fetch(url, asked, *body, rewrite_host=rewrite_host))[1] == b"ok"
    return bytes(seen)


def test_what_goes_to_the_site_behind() -> None:
    headers = [
        (b"connection", b"keep-alive, X-Private"),
        (b"x-private", b"1"),
        (b"te", b"trailers"),
        (b"upgrade", b"websocket"),
        (b"proxy-authorization", b"Basic x"),
        (b"accept", b"*/*"),
        (b"cookie", b"a=b"),
    ]
    seen = asyncio.run(seen_by_upstream(request(headers=headers)))
    assert seen.startswith(b"GET /app/x?y=1 HTTP/1.1\r\n")
    lines = seen.lower().split(b"\r\n")
    assert b"host: gw.example" in lines
    assert b"accept: */*" in lines
    assert b"cookie: a=b" in lines
    for hidden in (b"x-private", b"te:", b"upgrade", b"proxy-auth", b"user-agent", b"python", b"x-forwarded"):
        assert hidden not in seen.lower(), hidden


def test_the_name_of_the_site_behind() -> None:
    seen = asyncio.run(seen_by_upstream(request(), rewrite_host=True))
    assert b"\r\nhost: 127.0.0.1:" in seen.lower()


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"6")]])
def test_a_body_goes_there_piece_by_piece(headers: Headers) -> None:
    asked = request(b"POST", headers=headers, has_body=True)
    seen = asyncio.run(seen_by_upstream(asked, b"abc", b"def"))
    assert b"abcdef" in seen.replace(b"\r\n3\r\n", b"")


def test_what_comes_back() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 404 Nothing\r\nServer: Apache\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nAlt-Svc: h3\r\n"
            b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
            b"3\r\nnot\r\n3\r\nzip\r\n0\r\n\r\n"
        )

    async def run() -> tuple[Answer, bytes]:
        async with upstream(handler) as url:
            return await fetch(url, request())

    answer, body = asyncio.run(run())
    assert (answer.status, body) == (404, b"notzip"), "nothing is unpacked"
    fields = [entry for entry in answer.headers if entry[0] != b"date"]
    assert fields == [
        (b"server", b"Apache"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"content-encoding", b"gzip"),
    ]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(b"CONNECT"), 405),
        (request(b"TRACE"), 405),
        (request(path=b"http://other/"), 400),
        (request(path=b"*"), 400),
        (request(b"POST", headers=[(b"content-length", b"99999999999")]), 413),
        (request(b"POST", headers=[(b"content-length", b"-1")]), 400),
        (request(b"POST", headers=[(b"content-length", b"9" * 5000)]), 400),
    ],
)
def test_what_never_gets_there(asked: Request, status: int) -> None:
    answer, body = asyncio.run(fetch("http://127.0.0.1:1", asked))
    assert answer.status == status
    assert b"<hr><center>nginx</center>" in body


def test_nobody_behind_looks_like_nginx_with_nobody_behind() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0\r\n\r\n")

    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999999\r\n\r\n")

    async def run(handler: Handler) -> tuple[Answer, bytes]:
        async with upstream(handler) as url:
            return await fetch(url, request())

    found = [asyncio.run(fetch("http://127.0.0.1:1", request()))]
    found += [asyncio.run(run(handler)) for handler in (hang_up, nonsense, too_large)]
    for answer, body in found:
        assert answer.status == 502
        assert dict(answer.headers)[b"server"] == b"nginx"
        assert body == (
            b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
            b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        )


def test_a_site_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_proxy, "READ_TIME", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> int:
        async with upstream(silent) as url:
            return (await fetch(url, request()))[0].status

    assert asyncio.run(run()) == 504


def test_a_body_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_proxy, "MAX_REQUEST_BODY", 100_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            yield bytes(10_000)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            continue

    async def run() -> int:
        async with upstream(swallow) as url:
            site = ProxySite(MasqueradeConfig(type="proxy", url=url))
            answer = await site.answer(request(b"POST", has_body=True), endless())
            await site.close()
            return answer.status

    assert asyncio.run(run()) == 413
    assert sent <= 120_000


def test_an_answer_that_breaks_off_is_broken_off() -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    async def run() -> None:
        async with upstream(short) as url:
            await fetch(url, request())

    with pytest.raises(OSError, match="broken off"):
        asyncio.run(run())


def test_end_to_end() -> None:
    assert end_to_end([(b"connection", b""), (b"a", b"1"), (b"trailer", b"x")]) == [(b"a", b"1")]
