"""The server's end of a speed test, without a worker: the sockets that the worker would get are used by the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from vantun.control import speed_service
from vantun.control.loopback_pair import loopback_pair
from vantun.control.speed_service import PER_SESSION, SpeedService
from vantun.dataplane.ports import RefusalCode
from vantun.speedtest.messages import (
    HELLO,
    HOST,
    MESSAGE,
    PROGRESS_SIZE,
    RECEIPT_SIZE,
    TARGET,
    TOKEN,
    Datagram,
    Mode,
    Progress,
    Receipt,
    Request,
)


class Link:
    """Keeps what would go to the worker."""

    def __init__(self) -> None:
        self.attached: dict[int, socket.socket] = {}
        self.refused: dict[int, RefusalCode] = {}

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        self.attached[handle] = sock

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        self.refused[handle] = code


class Bench:
    """A service and flows to it."""

    def __init__(self) -> None:
        self.service = SpeedService(enabled=True)
        self.link = Link()
        self.loop = asyncio.get_running_loop()

    def flow(self, request: Request | bytes, session: int = 7) -> socket.socket:
        handle = len(self.link.attached)
        assert self.service.open(self.link, handle, session, TARGET)
        sock = self.link.attached[handle]
        sock.send(request if isinstance(request, bytes) else request.encode())
        return sock

    async def rest(self, sock: socket.socket) -> bytes:
        """Return all that comes until the end."""
        data = b""
        while part := await self.loop.sock_recv(sock, 1 << 16):
            data += part
        return data

    async def idle(self) -> None:
        while self.service.report()["flows"]:
            await asyncio.sleep(0)


def play(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        bench = Bench()
        try:
            async with asyncio.timeout(30):
                await scenario(bench)
        finally:
            await bench.service.close()
            for sock in bench.link.attached.values():
                sock.close()

    asyncio.run(run())


def test_other_targets_are_none_of_its_business() -> None:
    async def scenario(bench: Bench) -> None:
        for target in (f"{HOST}:2", f"x{TARGET}", "example.org:1", "udp:"):
            assert not bench.service.open(bench.link, 1, 7, target)
        assert not bench.link.attached

    play(scenario)


def test_switched_off_it_refuses_and_on_again_it_serves() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.enabled = False
        assert bench.service.open(bench.link, 1, 7, TARGET)
        assert bench.link.refused == {1: RefusalCode.NOT_ALLOWED}
        bench.service.enabled = True
        bench.flow(Request(Mode.ECHO, 1))
        assert bench.service.report() == {"enabled": True, "flows": 1, "begun": 1, "refused": 1}

    play(scenario)


def test_a_session_has_its_share_and_gets_it_back() -> None:
    async def scenario(bench: Bench) -> None:
        flows = [bench.flow(Request(Mode.ECHO, 1)) for _ in range(PER_SESSION)]
        assert bench.service.open(bench.link, 99, 7, TARGET)
        assert bench.link.refused == {99: RefusalCode.GENERAL}
        bench.flow(Request(Mode.ECHO, 1), session=8).close()
        for sock in flows:
            sock.close()
        await bench.idle()
        bench.flow(Request(Mode.ECHO, 1))

    play(scenario)


def test_the_server_has_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_service, "PER_SERVER", 2)

    async def scenario(bench: Bench) -> None:
        bench.flow(Request(Mode.ECHO, 1), 1)
        bench.flow(Request(Mode.ECHO, 1), 2)
        assert bench.service.open(bench.link, 99, 3, TARGET)
        assert bench.link.refused == {99: RefusalCode.GENERAL}

    play(scenario)


def test_a_download_comes_and_ends() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.rest(bench.flow(Request(Mode.DOWNLOAD, 0.05)))

    play(scenario)


def test_an_upload_is_counted() -> None:
    async def scenario(bench: Bench) -> None:
        sock = bench.flow(Request(Mode.UPLOAD, 1))
        await bench.loop.sock_sendall(sock, bytes(1_000_003))
        sock.shutdown(socket.SHUT_WR)
        said = await bench.rest(sock)
        assert len(said) % PROGRESS_SIZE == 0
        assert Progress.decode(said[-PROGRESS_SIZE:]).count == 1_000_003

    play(scenario)


def test_exchanges_are_answered_with_what_was_sent() -> None:
    async def scenario(bench: Bench) -> None:
        sock = bench.flow(Request(Mode.ECHO, 1))
        for number in range(3):
            await bench.loop.sock_sendall(sock, bytes([number]) * MESSAGE)
            assert await bench.loop.sock_recv(sock, 100) == bytes([number]) * MESSAGE

    play(scenario)


@pytest.mark.parametrize("asked", [b"GET / HTTP/1.1\r\n\r\nhello", Request(Mode.UPLOAD, 999).encode()])
def test_what_is_no_request_ends_the_flow(asked: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        sock = bench.flow(asked)
        with suppress(ConnectionResetError):  # what was not read by the service resets
            assert await bench.rest(sock) == b""
        await bench.idle()

    play(scenario)


def test_a_measurement_has_an_end_though_the_client_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_service, "SLACK", 0.01)

    async def scenario(bench: Bench) -> None:
        bench.flow(Request(Mode.ECHO, 0.01))
        bench.flow(Request(Mode.UPLOAD, 0.01))
        bench.flow(Request(Mode.DATAGRAMS_DOWN, 0.01, 100, 10**6))
        await bench.idle()

    play(scenario)


async def token_of(bench: Bench, sock: socket.socket) -> bytes:
    token = await bench.loop.sock_recv(sock, TOKEN)
    assert len(token) == TOKEN
    return token


async def turns() -> None:
    """Let the service read what lies in its socket."""
    for _ in range(10):
        await asyncio.sleep(0)


def udp_socket(bench: Bench) -> socket.socket:
    is_own, address = bench.service.udp_address(HOST.upper())
    assert is_own
    assert address is not None
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.connect(address)
    return sock


def test_datagrams_up_are_accounted_for_those_with_the_token() -> None:
    async def scenario(bench: Bench) -> None:
        flow = bench.flow(Request(Mode.DATAGRAMS_UP, 1, 100, 8_000))
        token = await token_of(bench, flow)
        with udp_socket(bench) as sock:
            for number in (0, 2, 1, 2, 99):
                sock.send(Datagram(token, number, 0).encode() + bytes(72))
            sock.send(Datagram(bytes(TOKEN), 3, 0).encode())
            sock.send(b"short")
            await turns()
            flow.shutdown(socket.SHUT_WR)
            found = Receipt.decode((await bench.rest(flow))[-RECEIPT_SIZE:])
        assert (found.received, found.octets, found.duplicated, found.reordered) == (3, 300, 1, 1)
        await bench.idle()
        assert bench.service.udp_address(HOST) == (True, None)
        assert bench.service.udp_address("example.org")[0] is False

    play(scenario)


def test_datagrams_down_go_to_whom_shows_the_token() -> None:
    async def scenario(bench: Bench) -> None:
        flow = bench.flow(Request(Mode.DATAGRAMS_DOWN, 0.1, 200, 160_000))
        token = await token_of(bench, flow)
        with udp_socket(bench) as stranger, udp_socket(bench) as sock:
            stranger.send(Datagram(bytes(TOKEN), HELLO, 0).encode())
            sock.send(Datagram(token, 5, 0).encode())  # no HELLO
            await turns()
            sock.send(Datagram(token, HELLO, 0).encode())
            got = [await bench.loop.sock_recv(sock, 2000) for _ in range(10)]
            assert all(len(data) == 200 for data in got)
            assert [Datagram.decode(data).number for data in got] == list(range(10))
            flow.shutdown(socket.SHUT_WR)
            said = await bench.rest(flow)
            assert Progress.decode(said[-PROGRESS_SIZE:]).count == 10
            with pytest.raises(BlockingIOError):
                stranger.recv(2000)

    play(scenario)


def test_datagrams_are_measured_for_few_at_once() -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(speed_service.DATAGRAM_TESTS):
            await token_of(bench, bench.flow(Request(Mode.DATAGRAMS_UP, 1, 100, 8_000)))
        assert await bench.rest(bench.flow(Request(Mode.DATAGRAMS_UP, 1, 100, 8_000))) == b""

    play(scenario)


def test_a_pair_is_connected_to_itself() -> None:
    near, far = loopback_pair()
    with near, far:
        assert near.getpeername() == far.getsockname()
        assert far.getpeername() == near.getsockname()
        assert near.gettimeout() == far.gettimeout() == 0
