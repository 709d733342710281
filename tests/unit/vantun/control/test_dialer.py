from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from drivers.linux.linger import reset_on_close
from vantun.acl import AccessList, Guard
from vantun.config_kinds import Endpoint
from vantun.control import dialer as module
from vantun.control.dialer import Dialer
from vantun.control.resolver import Address, Resolver
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

REPLY = StreamReply(accepted=b"ok")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Rig:
    """A dialer, a target that it reaches directly, and programs."""

    def __init__(self, rules: tuple[str, ...], lookup: Callable[[str, int], list[Address]]) -> None:
        self.carried: list[Endpoint] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.dialer = Dialer(AccessList.parse(rules, Guard.NONE), Resolver(lookup), self._carry)

    async def _carry(
        self, target: Endpoint, sock: socket.socket, _reply: StreamReply, _first: bytes
    ) -> RefusalCode | None:
        self.carried.append(target)
        sock.close()
        return None

    async def connect(
        self, host: str, port: int, first: bytes = b""
    ) -> tuple[RefusalCode | None, asyncio.StreamReader, asyncio.StreamWriter]:
        """Return what the dialer says, and the program's end."""
        near, program = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        near.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=program)
        self.writers.append(writer)
        code = await self.dialer.open(Endpoint(host, port), near, REPLY, first)
        if code is not None:
            near.close()
        return code, reader, writer


def play(
    scenario: Callable[[Rig], Awaitable[None]],
    *rules: str,
    lookup: Callable[[str, int], list[Address]] = lambda _host, _port: [],
) -> None:
    async def run() -> None:
        rig = Rig(rules, lookup)
        async with asyncio.timeout(30):
            await scenario(rig)
            await rig.dialer.close()
            for writer in rig.writers:
                writer.close()

    asyncio.run(run())


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


LOCAL = "direct(127.0.0.0/8)"


def test_where_a_connection_goes() -> None:
    async def scenario(rig: Rig) -> None:
        assert (await rig.connect("a.test", 80))[0] is None
        assert (await rig.connect("b.test", 80))[0] is RefusalCode.NOT_ALLOWED
        assert (await rig.connect("10.0.0.1", 80))[0] is None
        assert rig.carried == [Endpoint("a.test", 80), Endpoint("10.0.0.1", 80)], "the server judges addresses"
        assert rig.dialer.status() == {"direct": 0, "passed": 0, "rejected": 1}

    play(scenario, "reject(b.test)")


def test_half_close_and_first_bytes() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        writer.close()

    async def scenario(rig: Rig) -> None:
        async with serving(echo) as port:
            code, reader, writer = await rig.connect("127.0.0.1", port, b"abc")
            assert code is None
            assert len(rig.dialer.own_ports) == 1
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            assert await reader.readexactly(2) == b"ok"
            assert await reader.read() == b"x" * 1_000_000 + b"cba"
            writer.close()
            while rig.dialer.own_ports:
                await asyncio.sleep(0.001)
            assert rig.dialer.status() == {"direct": 0, "passed": 1, "rejected": 0}

    play(scenario, LOCAL)


def test_a_slow_program_slows_the_target() -> None:
    written = 0

    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while written < 50_000_000:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536
        writer.close()

    async def scenario(rig: Rig) -> None:
        async with serving(pour) as port:
            _, reader, writer = await rig.connect("127.0.0.1", port)
            assert await reader.readexactly(2) == b"ok"
            before = -1
            while written > before:  # until nothing moves any more
                before = written
                await asyncio.sleep(0.05)
            assert written < 50_000_000
            writer.transport.abort()

    play(scenario, LOCAL)


def test_a_reset_of_the_target_resets_the_program() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset_on_close(writer.get_extra_info("socket"))
        writer.transport.abort()

    async def scenario(rig: Rig) -> None:
        async with serving(rude) as port:
            _, reader, writer = await rig.connect("127.0.0.1", port, b"x")
            assert await reader.readexactly(2) == b"ok"
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()

    play(scenario, LOCAL)


def test_answers_of_the_name_server_are_judged() -> None:
    """A name that is direct does not lead into this machine, unless a rule says its network."""

    async def scenario(rig: Rig) -> None:
        assert (await rig.connect("x.test", 80))[0] is RefusalCode.NOT_ALLOWED
        assert (await rig.connect("none.test", 80))[0] is RefusalCode.HOST_UNREACHABLE
        assert not rig.carried
        assert not rig.dialer.own_ports

    def lookup(host: str, port: int) -> list[Address]:
        return [Address(socket.AF_INET, "127.0.0.1", port)] if host == "x.test" else []

    play(scenario, "direct(suffix:test)", lookup=lookup)


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECT", 0)

    async def scenario(rig: Rig) -> None:
        assert (await rig.connect("127.0.0.1", 80))[0] is RefusalCode.GENERAL

    play(scenario, LOCAL)


def test_a_target_that_refuses() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))

        async def scenario(rig: Rig) -> None:
            code, _, _ = await rig.connect("127.0.0.1", closed.getsockname()[1])
            assert code is RefusalCode.REFUSED
            assert not rig.dialer.own_ports

        play(scenario, LOCAL)
