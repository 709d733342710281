from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vantun.config import Endpoint
from vantun.control import listeners
from vantun.control.listeners import Listener, Place, make_transparent, source_of
from vantun.control.resolver import Address, Resolver
from vantun.errors import ResourceError

ANYWHERE = Place("socks5.listen", Endpoint("127.0.0.1", 0))


class Service:
    """Reads one byte of each program: ``+`` = take the socket over, everything else = turn it away."""

    def __init__(self) -> None:
        self.taken: list[socket.socket] = []

    async def serve(self, sock: socket.socket) -> str | None:
        loop = asyncio.get_running_loop()
        data = await loop.sock_recv(sock, 1)
        if data != b"+":
            await loop.sock_sendall(sock, b"no")
            return "it is not wanted"
        await loop.sock_sendall(sock, b"yes")
        self.taken.append(sock)
        return None


def play(scenario: Callable[[Listener, Service], Awaitable[None]], place: Place = ANYWHERE) -> None:
    async def run() -> None:
        service = Service()
        listener = await Listener.start(place, Resolver(), service.serve)
        try:
            async with asyncio.timeout(30):
                await scenario(listener, service)
        finally:
            await listener.close()
            for sock in service.taken:
                sock.close()

    asyncio.run(run())


def test_programs_are_served() -> None:
    async def scenario(listener: Listener, service: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"+and more")
        assert await reader.readexactly(3) == b"yes"
        assert await asyncio.get_running_loop().sock_recv(service.taken[0], 100) == b"and more"
        writer.close()
        assert (listener.status()["accepted"], listener.failed) == (1, 0)

    play(scenario)


def test_a_refusal_arrives_before_the_end() -> None:
    async def scenario(listener: Listener, _service: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"x" * 100_000)
        assert await reader.read() == b"no"
        writer.close()
        assert listener.failed == 1

    play(scenario)


def test_programs_that_leave(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(listener: Listener, _service: Service) -> None:
        for number in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            if number % 2:
                writer.transport.abort()
            writer.close()
        while listener.failed < 8:
            await asyncio.sleep(0.001)
        while listener.status()["in_handshake"]:
            await asyncio.sleep(0.001)

    play(scenario)
    assert "mistake" not in caplog.text


def test_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "CONCURRENT", 2)

    async def scenario(listener: Listener, _service: Service) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
        while listener.accepted < 2:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"+")
        assert listener.accepted == 2
        idle[0][1].close()
        assert await reader.readexactly(3) == b"yes"
        for _, other in (*idle, (reader, writer)):
            other.close()

    play(scenario)


def test_a_source_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "PER_SOURCE", 2)
    monkeypatch.setattr(listeners, "source_of", lambda host: host)

    async def scenario(listener: Listener, _service: Service) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
        while listener.accepted < 2:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert listener.status()["too_many"] == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, local_addr=("127.0.0.2", 0))
        writer.write(b"+")
        assert await reader.readexactly(3) == b"yes"
        writer.close()
        idle[0][1].close()
        while len(listener._sources) > 1 or listener._sources["127.0.0.1"] > 1:
            await asyncio.sleep(0.001)
        idle[1][1].close()

    play(scenario)


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_sources(host: str, source: str) -> None:
    assert source_of(host) == source


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Accepting pauses instead of spinning, and goes on afterwards."""
    monkeypatch.setattr(listeners, "PAUSE", 0.01)

    async def scenario(listener: Listener, _service: Service) -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept
        refusals = 3

        async def no_room(sock: socket.socket) -> tuple[socket.socket, Any]:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(sock)

        monkeypatch.setattr(loop, "sock_accept", no_room)
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"+")
        assert await reader.readexactly(3) == b"yes"
        # The first was waited for before the kernel ran out; the second one meets the refusals.
        reader2, writer2 = await asyncio.open_connection("127.0.0.1", listener.port)
        writer2.write(b"+")
        assert await reader2.readexactly(3) == b"yes"
        assert refusals == 0
        writer.close()
        writer2.close()

    play(scenario)
    assert caplog.text.count("accepting waits") == 3


def test_the_port_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = Endpoint("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ResourceError, match=r"stop the program that holds it \(see `ss -ltnp`\)"):
            asyncio.run(start(listen))


async def start(listen: Endpoint) -> None:
    await Listener.start(Place("socks5.listen", listen), Resolver(), Service().serve)


def test_addresses_to_listen_on() -> None:
    with pytest.raises(ResourceError, match="choose an address of this machine"):
        asyncio.run(start(Endpoint("192.0.2.1", 1080)))

    async def everywhere(listener: Listener, _service: Service) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.close()

    play(everywhere, Place("http.listen", Endpoint("", 0)))


def test_a_name_with_an_address_that_this_machine_lacks() -> None:
    """`localhost` on a machine without IPv6."""
    found = [Address(socket.AF_INET6, "2001:db8::1", 0), Address(socket.AF_INET, "127.0.0.1", 0)]

    async def scenario() -> None:
        place = Place("socks5.listen", Endpoint("localhost", 0))
        listener = await Listener.start(place, Resolver(lambda _host, _port: found), Service().serve)
        assert listener.port
        await listener.close()
        del found[1]
        with pytest.raises(ResourceError, match="choose an address of this machine"):
            await Listener.start(place, Resolver(lambda _host, _port: found), Service().serve)

    asyncio.run(scenario())


def test_transparent_sockets_need_a_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_sock: socket.socket) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(listeners, "make_transparent", forbidden)
    place = Place("tcpTProxy.listen", Endpoint("127.0.0.1", 0), transparent=True)
    with pytest.raises(ResourceError, match=r"tcpTProxy.listen: .* needs CAP_NET_ADMIN: run as root"):
        asyncio.run(Listener.start(place, Resolver(), Service().serve))
    assert make_transparent is not forbidden
