from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Awaitable, Callable

import pytest

from vantun.acl import AccessList, Guard
from vantun.config import Endpoint, HttpConfig, Socks5Config
from vantun.control.dialer import Dialer
from vantun.control.listeners import Listener, Place
from vantun.control.programs import Programs
from vantun.control.resolver import Resolver
from vantun.control.socks5 import reply
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

HELLO = b"\x05\x01\x00"
REQUEST = b"\x05\x01\x00\x03\x06a.test\x01\xbb"
ANYWHERE = Endpoint("127.0.0.1", 0)


class Tunnel:
    """Takes sockets over as the client does, or refuses them."""

    def __init__(self, code: RefusalCode | None = None) -> None:
        self.code = code
        self.taken: list[tuple[Endpoint, socket.socket, StreamReply, bytes]] = []
        self.udp: list[int] = []

    async def carry(
        self, target: Endpoint, sock: socket.socket, answer: StreamReply, first: bytes
    ) -> RefusalCode | None:
        if self.code is None:
            self.taken.append((target, sock, answer, first))
        return self.code

    async def associate(self, _sock: socket.socket, port: int) -> RefusalCode | None:
        self.udp.append(port)
        return RefusalCode.NOT_ALLOWED


Scenario = Callable[[Listener, Programs], Awaitable[None]]


def proxy(
    scenario: Scenario,
    tunnel: Tunnel,
    socks5: Socks5Config | None = Socks5Config(ANYWHERE),  # noqa: B008
    http: HttpConfig | None = None,
    rules: tuple[str, ...] = (),
) -> None:
    async def run() -> None:
        dialer = Dialer(AccessList.parse(rules, Guard.NONE), Resolver(), tunnel.carry)
        programs = Programs(dialer, tunnel.associate, socks5, http)
        listener = await Listener.start(Place("socks5.listen", ANYWHERE), Resolver(), programs.serve)
        try:
            async with asyncio.timeout(30):
                await scenario(listener, programs)
        finally:
            await listener.close()
            await dialer.close()
            for _, sock, _, _ in tunnel.taken:
                sock.close()

    asyncio.run(run())


async def say(listener: Listener, data: bytes) -> bytes:
    """Send, and return everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


def test_what_is_sent_behind_the_request_stays_in_the_socket() -> None:
    tunnel = Tunnel()

    async def scenario(listener: Listener, _programs: Programs) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(HELLO + REQUEST + b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.readexactly(2) == b"\x05\x00"
        while not tunnel.taken:
            await asyncio.sleep(0)
        target, sock, answer, first = tunnel.taken[0]
        assert (target, answer.accepted, first) == (Endpoint("a.test", 443), reply(0), b"")
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"GET / HTTP/1.1\r\n\r\n"
        writer.close()

    proxy(scenario, tunnel)


@pytest.mark.parametrize("code", [RefusalCode.NETWORK_UNREACHABLE, RefusalCode.GENERAL])
def test_a_refusal_arrives_before_the_end(code: RefusalCode) -> None:
    async def scenario(listener: Listener, _programs: Programs) -> None:
        assert await say(listener, HELLO + REQUEST + b"x" * 100_000) == b"\x05\x00" + reply(code)

    proxy(scenario, Tunnel(code))


def test_a_password_is_asked_for() -> None:
    async def scenario(listener: Listener, _programs: Programs) -> None:
        assert await say(listener, b"\x05\x01\x02\x01\x01u\x01w") == b"\x05\x02\x01\x01"

    proxy(scenario, Tunnel(), Socks5Config(ANYWHERE, "u", "p"))


@pytest.mark.parametrize("said", [b"", b"\x05", b"G", b"GET http://a.test/ HTTP/1.1\r\n"])
def test_a_program_that_does_not_go_on_is_turned_away(said: bytes) -> None:
    async def scenario(listener: Listener, programs: Programs) -> None:
        programs.time_limit = 0.02
        assert await say(listener, said) == b""
        assert listener.failed == 1

    proxy(scenario, Tunnel(), http=HttpConfig(ANYWHERE))


def test_programs_that_leave_in_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    http = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n"

    async def scenario(listener: Listener, _programs: Programs) -> None:
        for whole in (HELLO + REQUEST, http):
            for size in range(len(whole)):
                _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
                writer.write(whole[:size])
                if size % 2:
                    writer.transport.abort()
                writer.close()
        while listener.failed < len(HELLO + REQUEST + http):
            await asyncio.sleep(0.001)
        while listener.status()["in_handshake"]:
            await asyncio.sleep(0.001)

    proxy(scenario, Tunnel(), http=HttpConfig(ANYWHERE))
    assert "mistake" not in caplog.text


def test_one_port_speaks_both() -> None:
    tunnel = Tunnel()

    async def scenario(listener: Listener, _programs: Programs) -> None:
        for data in (HELLO + REQUEST, b"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\nhello"):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(data)
            while not tunnel.taken:
                await asyncio.sleep(0.001)
            target, sock, answer, first = tunnel.taken.pop()
            assert target == Endpoint("a.test", 443)
            assert (answer.accepted, first) in (
                (reply(0), b""),
                (b"HTTP/1.1 200 Connection established\r\n\r\n", b"hello"),
            )
            sock.close()
            writer.close()

    proxy(scenario, tunnel, http=HttpConfig(ANYWHERE))


def test_http_alone() -> None:
    tunnel = Tunnel()

    async def scenario(listener: Listener, _programs: Programs) -> None:
        assert (await say(listener, HELLO + REQUEST)).startswith(b"HTTP/1.1 400 ")
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n")
        while not tunnel.taken:
            await asyncio.sleep(0.001)
        target, _, _, first = tunnel.taken[0]
        assert target == Endpoint("a.test", 80)
        assert first == b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        writer.close()

    proxy(scenario, tunnel, None, HttpConfig(ANYWHERE))


def test_http_refusals_can_be_read() -> None:
    async def scenario(listener: Listener, _programs: Programs) -> None:
        answer = await say(listener, b"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 407 ")
        told = base64.b64encode(b"u:p").decode()
        head = f"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {told}\r\n\r\n".encode()
        answer = await say(listener, head)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"no path to the server is up" in answer

    proxy(scenario, Tunnel(RefusalCode.NETWORK_UNREACHABLE), None, HttpConfig(ANYWHERE, "u", "p"))


def test_rules_of_the_client() -> None:
    tunnel = Tunnel()

    async def scenario(listener: Listener, _programs: Programs) -> None:
        assert await say(listener, HELLO + REQUEST) == b"\x05\x00" + reply(2)
        answer = await say(listener, b"CONNECT A.TEST.:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert not tunnel.taken

    proxy(scenario, tunnel, http=HttpConfig(ANYWHERE), rules=("reject(a.test)",))


def test_udp_is_asked_for() -> None:
    tunnel = Tunnel()

    async def scenario(listener: Listener, _programs: Programs) -> None:
        answer = await say(listener, HELLO + b"\x05\x03\x00\x01" + bytes(4) + (777).to_bytes(2, "big"))
        assert answer == b"\x05\x00" + reply(2)
        assert tunnel.udp == [777]

    proxy(scenario, tunnel)
