from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vantun.config import Endpoint, Socks5Config
from vantun.control import socks5_server
from vantun.control.resolver import Resolver
from vantun.control.socks5 import reply
from vantun.control.socks5_server import Socks5Server
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError

HELLO = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x06a.test\x01\xbb"


class Tunnel:
    """Takes sockets over as the client does, or refuses them."""

    def __init__(self, code: RefusalCode | None = None) -> None:
        self.code = code
        self.taken: list[tuple[Endpoint, socket.socket]] = []

    async def open(self, target: Endpoint, sock: socket.socket) -> RefusalCode | None:
        if self.code is None:
            self.taken.append((target, sock))
        return self.code


def proxy(scenario: Callable[[Socks5Server], Awaitable[None]], tunnel: Tunnel, **config: Any) -> None:
    async def run() -> None:
        server = await Socks5Server.start(Socks5Config(Endpoint("127.0.0.1", 0), **config), Resolver(), tunnel.open)
        try:
            async with asyncio.timeout(30):
                await scenario(server)
        finally:
            await server.close()
            for _, sock in tunnel.taken:
                sock.close()

    asyncio.run(run())


def test_what_is_sent_behind_the_request_stays_in_the_socket() -> None:
    tunnel = Tunnel()

    async def scenario(server: Socks5Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HELLO + REQUEST + b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(2) == b"\x05\x00"
        while not tunnel.taken:
            await asyncio.sleep(0)
        target, sock = tunnel.taken[0]
        assert target == Endpoint("a.test", 443)
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"GET / HTTP/1.1\r\n\r\n"
        writer.close()
        assert server.status()["accepted"] == 1
        assert server.failed == 0

    proxy(scenario, tunnel)


@pytest.mark.parametrize("code", [RefusalCode.NETWORK_UNREACHABLE, RefusalCode.GENERAL])
def test_a_refusal_arrives_before_the_end(code: RefusalCode) -> None:
    async def scenario(server: Socks5Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HELLO + REQUEST + b"x" * 100_000)
        assert await reader.readexactly(12) == b"\x05\x00" + reply(code)
        assert await reader.read() == b""
        writer.close()

    proxy(scenario, Tunnel(code))


def test_a_password_is_asked_for() -> None:
    async def scenario(server: Socks5Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x05\x01\x02\x01\x01u\x01w")
        assert await reader.read() == b"\x05\x02\x01\x01"
        writer.close()

    proxy(scenario, Tunnel(), username="u", password="p")


def test_a_program_that_says_nothing_is_turned_away() -> None:
    async def scenario(server: Socks5Server) -> None:
        server.time_limit = 0.01
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
        writer.close()
        assert server.failed == 1

    proxy(scenario, Tunnel())


def test_programs_that_leave_in_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(server: Socks5Server) -> None:
        for size in range(len(HELLO + REQUEST)):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write((HELLO + REQUEST)[:size])
            if size % 2:
                writer.transport.abort()
            writer.close()
        while server.failed < len(HELLO + REQUEST):
            await asyncio.sleep(0.001)
        assert server.status()["in_handshake"] == 0

    proxy(scenario, Tunnel())
    assert "mistake" not in caplog.text


def test_handshakes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks5_server, "CONCURRENT", 2)
    tunnel = Tunnel()

    async def scenario(server: Socks5Server) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        while server.accepted < 2:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HELLO + REQUEST)
        assert server.accepted == 2
        idle[0][1].close()
        assert await reader.readexactly(2) == b"\x05\x00"
        for _, other in (*idle, (reader, writer)):
            other.close()

    proxy(scenario, tunnel)


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Accepting pauses instead of spinning, and goes on afterwards."""
    monkeypatch.setattr(socks5_server, "PAUSE", 0.01)
    tunnel = Tunnel()

    async def scenario(server: Socks5Server) -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept
        refusals = 3

        async def no_room(listener: socket.socket) -> tuple[socket.socket, Any]:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", no_room)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HELLO + REQUEST)
        assert await reader.readexactly(2) == b"\x05\x00"
        # The first was waited for before the kernel ran out; the second one meets the refusals.
        reader2, writer2 = await asyncio.open_connection("127.0.0.1", server.port)
        writer2.write(HELLO + REQUEST)
        assert await reader2.readexactly(2) == b"\x05\x00"
        assert refusals == 0
        writer.close()
        writer2.close()

    proxy(scenario, tunnel)
    assert caplog.text.count("accepting waits") == 3


def test_the_port_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = Endpoint("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ResourceError, match=r"stop the program that holds it \(see `ss -ltnp`\)"):
            asyncio.run(start(listen))


async def start(listen: Endpoint) -> None:
    await Socks5Server.start(Socks5Config(listen), Resolver(), Tunnel().open)


def test_addresses_to_listen_on() -> None:
    with pytest.raises(ResourceError, match="choose an address of this machine"):
        asyncio.run(start(Endpoint("192.0.2.1", 1080)))

    async def everywhere() -> None:
        server = await Socks5Server.start(Socks5Config(Endpoint("", 0)), Resolver(), Tunnel().open)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        await server.close()

    asyncio.run(everywhere())
