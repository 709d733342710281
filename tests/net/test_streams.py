"""Streams through the tunnel behave as without it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.net.appliances import SECONDS, Pair, reset, through

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SIZE = 100_000


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Serve on 127.0.0.1; yield the port. At the end every handler has to have finished."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=256)
    async with server:
        yield server.sockets[0].getsockname()[1]
    if handling:
        await asyncio.wait(handling)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(2 * SECONDS):
            await scenario()

    asyncio.run(run())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # some are reset
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


def test_200_connections_while_10_are_reset(running: Pair) -> None:
    async def one(number: int, port: int) -> None:
        reader, writer = await through(running.socks, "127.0.0.1", port)
        data = random.Random(number).randbytes(SIZE)
        if number % 20 == 7:
            writer.write(data[: SIZE // 2])
            await reader.readexactly(1000)
            reset(writer)
            return
        writer.write(data)
        back = await reader.readexactly(SIZE)
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    async def scenario() -> None:
        async with serving(echo) as port, asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(one(number, port))

    play(scenario)


@pytest.mark.parametrize("down", [False, True])
def test_a_reader_that_stops_holds_up_its_sender_and_nobody_else(running: Pair, down: bool) -> None:
    """From the reader back to the sender: its socket, the far worker's rows, credit, the near one's rows, a socket."""
    chunk = random.Random(5).randbytes(1 << 18)
    chunks = 384  # 96 MB: six times what a flow may have under way
    poured = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal poured
        for _ in range(chunks):
            writer.write(chunk)
            await writer.drain()
            poured += 1
        writer.write_eof()

    async def scenario() -> None:
        released, got = asyncio.Event(), hashlib.sha256()

        async def sip(reader: asyncio.StreamReader) -> None:
            await released.wait()
            while data := await reader.read(1 << 18):
                got.update(data)

        async def far(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await (pour(writer) if down else sip(reader))

        async with serving(far) as port, serving(echo) as other, asyncio.TaskGroup() as group:
            reader, writer = await through(running.socks, "127.0.0.1", port)
            group.create_task(sip(reader) if down else pour(writer))
            before = -1
            while not poured or before != poured:  # until it is held up
                before = poured
                beside, question = await through(running.socks, "127.0.0.1", other)
                question.write(chunk)
                assert await beside.readexactly(len(chunk)) == chunk
                question.close()
                await question.wait_closed()
            assert poured < chunks
            released.set()
        writer.close()
        await writer.wait_closed()
        whole = hashlib.sha256()
        for _ in range(chunks):
            whole.update(chunk)
        assert got.digest() == whole.digest()

    play(scenario)


def ways(running: Pair, way: str) -> int | None:
    return running.socks if way == "tunnel" else None


both_ways = pytest.mark.parametrize("way", ["direct", "tunnel"])


@both_ways
def test_half_close_towards_the_target(running: Pair, way: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hashlib.sha256(await reader.read()).digest())
        writer.close()

    async def scenario() -> None:
        async with serving(answer) as port:
            reader, writer = await through(ways(running, way), "127.0.0.1", port)
            writer.write(b"x" * SIZE)
            writer.write_eof()
            assert await reader.read() == hashlib.sha256(b"x" * SIZE).digest()
            writer.close()

    play(scenario)


@both_ways
def test_half_close_from_the_target(running: Pair, way: str) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        got.put_nowait(await reader.read())
        writer.close()

    async def scenario() -> None:
        async with serving(first) as port:
            reader, writer = await through(ways(running, way), "127.0.0.1", port)
            assert await reader.read() == b"hello"
            writer.write(b"y" * SIZE)
            writer.write_eof()
            assert await got.get() == b"y" * SIZE
            writer.close()

    play(scenario)


@both_ways
def test_reset_by_the_target(running: Pair, way: str) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        reset(writer)

    async def scenario() -> None:
        async with serving(rude) as port:
            reader, writer = await through(ways(running, way), "127.0.0.1", port)
            writer.write(b"hello")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    play(scenario)


@both_ways
def test_reset_by_the_program(running: Pair, way: str) -> None:
    seen: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(5)
            writer.write(b"go")
            await reader.read()
            seen.put_nowait(None)
        except ConnectionError as error:
            seen.put_nowait(error)
        writer.close()

    async def scenario() -> None:
        async with serving(watch) as port:
            reader, writer = await through(ways(running, way), "127.0.0.1", port)
            writer.write(b"hello")
            assert await reader.readexactly(2) == b"go"
            reset(writer)
            assert isinstance(await seen.get(), ConnectionResetError)

    play(scenario)


def test_bytes_behind_the_request_arrive(running: Pair) -> None:
    """A program need not wait for the reply before it sends."""

    async def scenario() -> None:
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.socks)
            name = b"\x03\x09127.0.0.1" + port.to_bytes(2, "big")
            writer.write(b"\x05\x01\x00" + b"\x05\x01\x00" + name + b"z" * SIZE)
            assert (await reader.readexactly(12))[3] == 0
            assert await reader.readexactly(SIZE) == b"z" * SIZE
            writer.close()

    play(scenario)


@pytest.mark.parametrize(
    ("host", "port", "code"), [("127.0.0.1", None, 5), ("no-such-host.invalid", 80, 4), ("not a host", 80, 1)]
)
def test_what_cannot_be_reached(running: Pair, host: str, port: int | None, code: int) -> None:
    async def scenario() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionError, match=f"reply code {code}$"):
                await through(running.socks, host, port or closed.getsockname()[1])

    play(scenario)
