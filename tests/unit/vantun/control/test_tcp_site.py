"""The site on TCP: real sockets on loopback, real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import server_config
from vantun.config import MasqueradeConfig, ServerConfig, ServerTlsConfig
from vantun.config_kinds import Endpoint
from vantun.control import tcp_site
from vantun.control.authentication import authorization
from vantun.control.certificates import create_self_signed
from vantun.control.resolver import Resolver
from vantun.control.site import make_origin
from vantun.control.tcp_site import TcpSite, tls_context
from vantun.control.visits import Visitors
from vantun.errors import ResourceError

HUGE = 100_000_000
"""Bytes: more than fits into the kernel's buffers."""
AUTHORIZATION = b"authorization: " + authorization("alice:s3cret") + b"\r\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    folder = tmp_path_factory.mktemp("tcp")
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<p>front")
    (folder / "www" / "large").write_bytes(bytes(3_000_000))
    (folder / "www" / "huge").touch()
    os.truncate(folder / "www" / "huge", HUGE)
    masquerade = MasqueradeConfig(type="file", folder=folder / "www", listen_https=_free(), listen_http=_free())
    return replace(server_config(folder), masquerade=masquerade)


def _free() -> Endpoint:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Endpoint("127.0.0.1", int(sock.getsockname()[1]))


@asynccontextmanager
async def served(config: ServerConfig) -> AsyncIterator[TcpSite]:
    visitors = Visitors(make_origin(config.masquerade), lambda: None)
    site = await TcpSite.start(config, visitors, Resolver())
    try:
        yield site
    finally:
        await site.close()
        await visitors.close()


async def connect(site: TcpSite, *, secure: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context() if secure else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", site.ports[0 if secure else 1], ssl=context)


async def say(site: TcpSite, data: bytes, *, secure: bool = True) -> bytes:
    """Send bytes and return everything that comes until the server closes."""
    reader, writer = await connect(site, secure=secure)
    writer.write(data)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


def one(config: ServerConfig, data: bytes, *, secure: bool = True) -> bytes:
    async def run() -> bytes:
        async with served(config) as site:
            return await say(site, data, secure=secure)

    return asyncio.run(run())


def get(path: bytes = b"/", more: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n" + more + b"\r\n"


def head(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return status line, fields and body."""
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.split(b"\r\n")
    return first, {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}, body


def test_a_page(config: ServerConfig) -> None:
    first, fields, body = head(one(config, get()))
    assert first == b"HTTP/1.1 200 OK"
    assert body == b"<p>front"
    assert fields[b"Alt-Svc"] == b'h3=":443"; ma=86400'
    assert (fields[b"Server"], fields[b"Content-Length"], fields[b"Connection"]) == (b"nginx", b"8", b"close")
    assert list(fields)[:2] == [b"Server", b"Date"]
    first, fields, body = head(one(config, get(), secure=False))
    assert b"Alt-Svc" not in fields
    assert body == b"<p>front"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"CONNECT", b"OPTIONS"])
@pytest.mark.parametrize("path", [b"/", b"/missing", b"/.env", b"gw.example:443"])
def test_credentials_change_nothing_on_tcp(config: ServerConfig, method: bytes, path: bytes) -> None:
    async def run() -> list[bytes]:
        async with served(config) as site:
            return [await say(site, get(path, more, method)) for more in (b"", AUTHORIZATION, b"authorization: x\r\n")]

    answers = [
        [line for line in answer.split(b"\r\n") if not line.startswith(b"Date:")] for answer in asyncio.run(run())
    ]
    assert answers[0][0].startswith(b"HTTP/1.1 ")
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", b"4"),
        (get(b"/../x"), b"400"),
        (get(b"/%2e%2e/x"), b"400"),
        (get(b"http://gw.example/missing"), b"404"),
        (get(method=b"DELETE"), b"405"),
        (get(more=b"Content-Length: 5\r\n", method=b"POST") + b"hello", b"405"),
    ],
)
def test_what_is_refused(config: ServerConfig, data: bytes, status: bytes) -> None:
    first, fields, body = head(one(config, data, secure=False))
    assert first.startswith(b"HTTP/1.1 " + status)
    assert fields[b"Connection"] == b"close"
    assert body.endswith(b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n")


def test_one_connection_has_many_requests(config: ServerConfig) -> None:
    ask = b"GET /index.html HTTP/1.1\r\nHost: gw.example\r\n\r\n"
    answer = one(config, ask * 3 + get(b"/missing"))
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"Connection: keep-alive") == 3
    assert answer.count(b"HTTP/1.1 404 Not Found") == 1


def test_requests_of_one_connection_end(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_site, "MAX_REQUESTS", 2)
    ask = b"GET /index.html HTTP/1.1\r\nHost: gw.example\r\n\r\n"
    assert one(config, ask * 5).count(b"HTTP/1.1 200 OK") == 2


def test_a_large_file_comes_whole(config: ServerConfig) -> None:
    assert head(one(config, get(b"/large")))[2] == bytes(3_000_000)


def test_who_does_not_read_gets_no_more_than_fits(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.control.http_exchange.STALL_TIME", 0.2)

    async def run() -> int:
        async with served(config) as site:
            reader, writer = await connect(site, secure=False)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(get(b"/huge"))
            for wanted in (1, 0):
                while site.report()["connections"] != wanted:
                    await asyncio.sleep(0)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            received = 0
            async with asyncio.timeout(10):
                try:
                    while piece := await reader.read(1 << 20):
                        received += len(piece)
                except ConnectionError:
                    assert received < HUGE
            writer.close()
            return received

    assert asyncio.run(run()) < HUGE


def test_a_head_that_never_ends(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_site, "HEAD_TIME", 0.05)
    assert one(config, b"GET / HTTP/1.1\r\nHost: gw", secure=False) == b""


def test_connections_of_a_source(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_site, "MAX_PER_SOURCE", 2)

    async def run() -> None:
        async with served(config) as site:
            kept = [await connect(site, secure=False) for _ in range(2)]
            while site.report()["connections"] != 2:
                await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):  # turned away without a byte: an end, or a reset
                assert await say(site, get(), secure=False) == b""
            assert site.refused == 1
            for _, writer in kept:
                writer.close()
            while site.report()["connections"] != 0:
                await asyncio.sleep(0)
            assert head(await say(site, get(), secure=False))[0] == b"HTTP/1.1 200 OK"

    asyncio.run(run())


def test_plain_http_is_redirected(config: ServerConfig) -> None:
    forced = replace(config, masquerade=replace(config.masquerade, force_https=True))
    listen = forced.masquerade.listen_https
    assert listen is not None
    first, fields, _ = head(one(forced, get(b"/a?b"), secure=False))
    assert first == b"HTTP/1.1 301 Moved Permanently"
    assert fields[b"Location"] == b"https://gw.example:%d/a?b" % listen.port
    assert head(one(forced, get()))[0] == b"HTTP/1.1 200 OK"


def test_another_certificate_for_new_connections(config: ServerConfig, tmp_path: Path) -> None:
    create_self_signed(tmp_path / "b.pem", tmp_path / "b.key", ["other.example"], 10)

    async def shown(site: TcpSite) -> bytes:
        _, writer = await connect(site)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found

    async def run() -> None:
        async with served(config) as site:
            before = await shown(site)
            reader, writer = await connect(site)
            site.prepare(replace(config, tls=ServerTlsConfig(tmp_path / "b.pem", tmp_path / "b.key")))()
            assert await shown(site) != before
            writer.write(get())
            assert head(await reader.read())[2] == b"<p>front", "a connection that is there stays"
            writer.close()

    asyncio.run(run())


def test_a_key_of_another_certificate(config: ServerConfig, tmp_path: Path) -> None:
    create_self_signed(tmp_path / "b.pem", tmp_path / "b.key", ["other.example"], 10)
    with pytest.raises(ResourceError, match=r"b\.key"):
        tls_context(ServerTlsConfig(config.tls.cert, tmp_path / "b.key"))


def test_a_port_that_is_taken(config: ServerConfig) -> None:
    async def run() -> None:
        async with served(config):
            visitors = Visitors(make_origin(config.masquerade), lambda: None)
            with pytest.raises(ResourceError, match=r"masquerade\.listenHTTPS: .*in use.*ss -ltnp"):
                await TcpSite.start(config, visitors, Resolver())
            await visitors.close()

    asyncio.run(run())
