from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vantun.control import associations as module
from vantun.control.associations import Associations
from vantun.dataplane.ports import RefusalCode
from vantun.udp_messages import UdpKind


class Worker:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.opened: list[tuple[int, tuple[str, int], tuple[Any, ...]]] = []
        self.closed: list[int] = []
        self.moved: list[tuple[int, int]] = []

    def open_udp(self, session: int, kind: UdpKind, sock: socket.socket, *, peer: tuple[str, int]) -> int:
        assert kind is UdpKind.SOCKS5
        self.opened.append((session, peer, sock.getsockname()))
        sock.close()
        return len(self.opened)

    def move_udp(self, number: int, session: int) -> None:
        self.moved.append((number, session))

    def close_udp(self, number: int) -> None:
        self.closed.append(number)


Scenario = Callable[
    [Associations, Worker, asyncio.StreamReader, asyncio.StreamWriter, RefusalCode | None], Awaitable[None]
]


def play(scenario: Scenario, *, listen: str = "0.0.0.0", program: str = "127.0.0.1", up: bool = True) -> None:
    """Ask for an association by a connection to ``listen``, as a program at ``program`` does."""

    async def run() -> None:
        worker: Any = Worker()

        async def way() -> Any:
            return (7, worker) if up else None

        made = Associations(way)
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        with socket.socket(family) as listener:
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((listen, 0))
            listener.listen()
            reader, writer = await asyncio.open_connection(program, listener.getsockname()[1])
            sock, _ = listener.accept()
        sock.setblocking(False)
        async with asyncio.timeout(30):
            code = await made.open(sock, 4000)
            await scenario(made, worker, reader, writer, code)
        if code is not None:
            sock.close()
        writer.close()
        await made.close()

    asyncio.run(run())


@pytest.mark.parametrize(("listen", "program"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1")])
def test_the_relay_is_where_the_program_has_connected_to(listen: str, program: str) -> None:
    async def scenario(
        made: Associations,
        worker: Worker,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        code: RefusalCode | None,
    ) -> None:
        assert code is None
        session, peer, where = worker.opened[0]
        assert (session, peer, where[0]) == (7, (program, 4000), program)
        packed = socket.inet_pton(socket.AF_INET6 if ":" in program else socket.AF_INET, program)
        kind = 4 if ":" in program else 1
        told = await reader.readexactly(4 + len(packed) + 2)
        assert told == bytes((5, 0, 0, kind)) + packed + where[1].to_bytes(2, "big")
        assert len(made) == 1
        writer.write(b"what nobody reads")
        writer.close()
        while made:
            await asyncio.sleep(0.001)
        assert worker.closed == [1]

    if socket.has_dualstack_ipv6() or ":" not in listen:
        play(scenario, listen=listen, program=program)


def test_it_ends_when_the_worker_says_so() -> None:
    async def scenario(
        made: Associations,
        worker: Worker,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        code: RefusalCode | None,
    ) -> None:
        await reader.readexactly(10)
        made.closed(99)
        made.closed(1)
        assert await reader.read() == b""
        assert worker.closed == [1]

    play(scenario)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(
        made: Associations,
        worker: Worker,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        code: RefusalCode | None,
    ) -> None:
        assert code in (RefusalCode.NETWORK_UNREACHABLE, RefusalCode.GENERAL)
        assert not worker.opened

    play(scenario, up=False)
    monkeypatch.setattr(module, "MOST", 0)
    play(scenario)


def test_the_next_worker_goes_on_with_the_same_relay() -> None:
    async def scenario(
        made: Associations,
        worker: Any,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        code: RefusalCode | None,
    ) -> None:
        await reader.readexactly(10)
        _, peer, where = worker.opened[0]
        made.resume(worker)
        assert len(worker.opened) == 1, "its worker lives"
        made.abandon()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
            program.sendto(b"it waits", where)  # ConnectionRefusedError would come back if nobody had the socket
        made.resume(worker)
        assert worker.opened[1] == (7, peer, where)
        assert worker.closed == [1], "a command that has waited for the next worker is taken back"
        made.closed(1)
        made.move(9)
        assert worker.moved == [(2, 9)]
        made.abandon()
        made.resume(worker)
        assert worker.opened[2] == (9, peer, where)
        made.closed(3)
        assert await reader.read() == b""
        assert worker.closed == [1, 2, 3]

    play(scenario)
