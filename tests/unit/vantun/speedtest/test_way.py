"""What the command says when there is no speed test, and when one breaks; the server's end is the real one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from vantun.control.loopback_pair import loopback_pair
from vantun.control.relay import relay
from vantun.control.speed_service import SpeedService
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ConnectError, NotRunningError, VantunError
from vantun.speedtest.datagrams import Run
from vantun.speedtest.messages import HOST, TARGET, TOKEN, Mode, Receipt, Request
from vantun.speedtest.outcome import Datagrams, Outcome, Streams
from vantun.speedtest.streams import measure_idle, measure_streams
from vantun.speedtest.way import Way

ASKED = b"\x05\x01\x00\x03" + bytes([len(HOST)]) + HOST.encode() + b"\x00\x01"
REPLY = b"\x05%c\x00\x01" + bytes(6)


class Tunnel:
    """A SOCKS5 proxy whose only target is a speed service; both live on a loop in a thread.

    Attributes
    ----------
    flows
        After so many, each flow is reset as soon as it carries something; or, if the tunnel is to fall silent, is
        never served.
    """

    def __init__(self, flows: int = 1000, *, silent: bool = False) -> None:
        self.flows = flows
        self._silent = silent
        self._service = SpeedService(enabled=True)
        self._waiting: dict[int, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._number = 0

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        """Join a flow with its program."""
        program = self._waiting.pop(handle)
        self._sockets += [program, sock]
        program.send(REPLY % 0)
        if handle > self.flows and self._silent:
            return
        if handle > self.flows:
            task = asyncio.create_task(self._break(program, sock))
        else:
            task = asyncio.create_task(relay(program, sock))
        self._tasks.add(task)

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        """Refuse a program."""
        with self._waiting.pop(handle) as program:
            program.send(REPLY % int(code))

    async def _break(self, program: socket.socket, sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(program, 1)
        program.close()  # with bytes unread: a reset
        sock.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            program, _ = await loop.sock_accept(listener)
            assert await loop.sock_recv(program, 3) == b"\x05\x01\x00"
            await loop.sock_sendall(program, b"\x05\x00")
            assert await loop.sock_recv(program, len(ASKED)) == ASKED
            self._number += 1
            self._waiting[self._number] = program
            assert self._service.open(self, self._number, 7, TARGET)

    async def run(self, listener: socket.socket, over: asyncio.Event) -> None:
        """Serve until it is over."""
        accept = asyncio.create_task(self._accept(listener))
        await over.wait()
        for task in (accept, *self._tasks):
            task.cancel()
        await asyncio.gather(accept, *self._tasks, return_exceptions=True)
        await self._service.close()
        for sock in (*self._sockets, *self._waiting.values()):
            sock.close()


@contextmanager
def serving(tunnel: Tunnel) -> Iterator[Way]:
    """Yield the way to a tunnel."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        where = listener.getsockname()
        listener.setblocking(False)
        loop, over = asyncio.new_event_loop(), asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(tunnel.run(listener, over)))
        thread.start()
        stack.callback(loop.close)
        stack.callback(thread.join)
        stack.callback(loop.call_soon_threadsafe, over.set)
        yield Way(where)


@contextmanager
def answering(code: int) -> Iterator[Way]:
    """Yield the way to a proxy that gives one answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(3)
                sock.sendall(b"\x05\x00")
                sock.recv(len(ASKED))
                sock.sendall(REPLY % code)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Way(listener.getsockname())
        thread.join()


def test_a_whole_test() -> None:
    outcome = Outcome()
    with serving(Tunnel()) as way:
        measure_idle(way, outcome, 0.1)
        measure_streams(way, outcome, 2, 0.1)
    assert outcome.idle.times
    for found in (outcome.download, outcome.upload):
        assert isinstance(found, Streams)
        assert found.octets > 0
        assert found.seconds > 0


def test_a_server_that_dies_in_the_middle_leaves_what_was_measured() -> None:
    outcome = Outcome()
    with serving(Tunnel(flows=1 + 2)) as way:  # idle exchanges, a download and its exchanges: the upload breaks
        measure_idle(way, outcome, 0.1)
        with pytest.raises(ConnectError, match="broke in the middle"):
            measure_streams(way, outcome, 1, 0.2)
    assert isinstance(outcome.download, Streams)
    assert outcome.download.octets > 0
    assert isinstance(outcome.upload, Streams)
    assert outcome.document()["download"]


def test_a_server_that_falls_silent_is_no_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.speedtest.streams.PATIENCE", 0.2)
    with serving(Tunnel(flows=2, silent=True)) as way, pytest.raises(ConnectError, match="said nothing for"):
        measure_streams(way, Outcome(), 1, 0.1)


def test_datagrams_that_nobody_counted_are_not_called_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.speedtest.datagrams.PATIENCE", 0.1)
    monkeypatch.setattr("vantun.speedtest.datagrams.SETTLE", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay_end:
        relay_end.bind(("127.0.0.1", 0))

        async def play() -> Datagrams:
            flow, server = loopback_pair()
            echo, answers = loopback_pair()
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.connect(relay_end.getsockname())
            found = Datagrams()
            with flow, server, echo, answers, sock:
                server.send(bytes(TOKEN) + Receipt(received=3).encode())
                with pytest.raises(ConnectError, match="has not ended"):
                    await Run(flow, sock, echo, Request(Mode.DATAGRAMS_UP, 0.1, 100, 80_000), found).upload()
            return found

        found = asyncio.run(play())
    assert found.sent > 0
    assert found.receipt == Receipt(received=3)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "too many are under way"),
        (2, "speedTest: false"),
        (3, "no path to the server is up"),
        (4, "the server knows no speed test"),
        (6, "does not answer"),
        (5, "connection refused"),
        (77, "code 77"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, said: str) -> None:
    with answering(code) as way, pytest.raises(VantunError, match=said):
        way.open(Request(Mode.ECHO, 1))


def test_no_client_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
    with pytest.raises(NotRunningError, match="no client listens on"):
        Way(where).open(Request(Mode.ECHO, 1))


def test_a_client_that_is_silent_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.speedtest.way.PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ConnectError, match="not answered"):
        Way(listener.getsockname()).open(Request(Mode.ECHO, 1))


def test_a_proxy_without_udp_is_named() -> None:
    with answering(7) as way, ExitStack() as stack, pytest.raises(VantunError, match="disableUDP"):
        way.associate(stack)


def test_an_association_leads_to_the_relay() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay_end,
        ExitStack() as stack,
    ):
        relay_end.bind(("127.0.0.1", 0))
        port = relay_end.getsockname()[1]

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(3)
                sock.sendall(b"\x05\x00")
                assert sock.recv(10) == b"\x05\x03\x00\x01" + bytes(6)
                sock.sendall(b"\x05\x00\x00\x01" + bytes(4) + port.to_bytes(2, "big"))  # "where you have asked"
                sock.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        stack.callback(thread.join)
        sock = Way(listener.getsockname()).associate(stack)
        assert sock.getpeername() == ("127.0.0.1", port)
