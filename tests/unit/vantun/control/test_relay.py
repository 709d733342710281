"""Direct connections: bytes both ways, spliced and copied, with ends, resets and slow readers."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import Callable

import pytest

from drivers.linux.linger import reset_on_close
from vantun.control.relay import Move, relay
from vantun.control.splice import PIPE, Pipes, splice


async def copies(_source: socket.socket, _sink: socket.socket) -> bool:
    """Refuse, as a kernel without splice does."""
    return False


MOVES = pytest.mark.parametrize("move", [splice, copies], ids=["spliced", "copied"])


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
    for sock in (one, other):
        sock.setblocking(False)
    return one, other


class Ends:
    """A program, a target, and the relay between them."""

    def __init__(self, move: Move, first: bytes = b"") -> None:
        self.program, near = pair()
        far, self.target = pair()
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(relay(near, far, first, move))

    async def read_all(self, sock: socket.socket) -> bytes:
        got = bytearray()
        while piece := await self.loop.sock_recv(sock, 1 << 20):
            got += piece
        return bytes(got)

    async def send(self, sock: socket.socket, data: bytes) -> None:
        await self.loop.sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        self.program.close()
        self.target.close()
        await asyncio.wait_for(self.task, 5)


@MOVES
def test_bytes_arrive_both_ways_at_once_and_each_way_ends_by_itself(move: Move) -> None:
    async def run() -> None:
        ends = Ends(move, b"first")
        there, back = os.urandom(5_000_001), os.urandom(3_000_000)
        sent = asyncio.create_task(ends.send(ends.program, there))
        answered = asyncio.create_task(ends.send(ends.target, back))
        got, came = await asyncio.gather(ends.read_all(ends.target), ends.read_all(ends.program))
        await asyncio.gather(sent, answered)
        assert hashlib.sha256(got).digest() == hashlib.sha256(b"first" + there).digest()
        assert came == back
        await ends.close()

    asyncio.run(run())


@MOVES
def test_the_answer_may_come_after_the_question_has_ended(move: Move) -> None:
    async def run() -> None:
        ends = Ends(move)
        await ends.send(ends.program, b"question")
        assert await ends.read_all(ends.target) == b"question"
        await asyncio.sleep(0.01)
        await ends.send(ends.target, b"answer")
        assert await ends.read_all(ends.program) == b"answer"
        await ends.close()

    asyncio.run(run())


@MOVES
def test_a_reset_reaches_the_other_end_as_a_reset(move: Move) -> None:
    async def run() -> None:
        ends = Ends(move)
        await ends.loop.sock_sendall(ends.program, b"x")
        assert await ends.loop.sock_recv(ends.target, 10) == b"x"
        reset_on_close(ends.program)
        ends.program.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(ends.loop.sock_recv(ends.target, 10), 5)
        await ends.close()

    asyncio.run(run())


@MOVES
def test_a_target_that_does_not_read_holds_its_program_up_and_nobody_else(move: Move) -> None:
    async def run() -> None:
        slow, quick = Ends(move), Ends(move)
        for sock in (slow.program, slow.target):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        data = os.urandom(64 << 20)
        held = asyncio.create_task(slow.send(slow.program, data))
        await quick.send(quick.program, data[:1_000_000])
        assert await quick.read_all(quick.target) == data[:1_000_000]
        assert not held.done()
        assert await slow.read_all(slow.target) == data
        await held
        await asyncio.gather(slow.close(), quick.close())

    asyncio.run(run())


def test_idle_connections_have_no_pipe_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    pipes = Pipes()

    async def run() -> None:
        async def move(source: socket.socket, sink: socket.socket) -> bool:
            return await splice(source, sink, pipes)

        before = len(os.listdir("/proc/self/fd"))
        many = [Ends(move) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == before + 4 * len(many)
        for ends in many:
            await ends.loop.sock_sendall(ends.program, b"ping")
            assert await ends.loop.sock_recv(ends.target, 10) == b"ping"
        await asyncio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before + 4 * len(many) + 2 * 8
        many[0].task.cancel()
        for ends in many[1:]:
            await ends.close()
        pipes.close()
        many[0].program.close()
        many[0].target.close()
        assert len(os.listdir("/proc/self/fd")) <= before

    asyncio.run(run())


def refuses(number: int) -> Callable[..., int]:
    def call(*_arguments: object, **_named: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("name", "number"),
    [("splice", errno.EINVAL), ("splice", errno.ENOSYS), ("pipe2", errno.EMFILE), ("pipe2", errno.ENFILE)],
)
def test_where_the_kernel_does_not_splice_bytes_are_copied(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    async def run() -> None:
        pipes = Pipes()
        monkeypatch.setattr(os, name, refuses(number))

        async def move(source: socket.socket, sink: socket.socket) -> bool:
            done = await splice(source, sink, pipes)
            assert not done
            return done

        ends = Ends(move)
        data = os.urandom(PIPE * 3)
        sent = asyncio.create_task(ends.send(ends.program, data))
        assert await ends.read_all(ends.target) == data
        await sent
        await ends.close()
        pipes.close()

    asyncio.run(run())
