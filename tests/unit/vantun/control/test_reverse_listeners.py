from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from vantun.config_forwards import ListenRule, parse_listen_rules
from vantun.control import reverse_listeners as module
from vantun.control.resolver import Resolver
from vantun.control.reverse_listeners import ReverseListeners
from vantun.control.session_messages import ListenCode, ListenRequest, Transport
from vantun.udp_messages import UdpKind
from vantun.worker_messages import StreamReply

ANY = ListenRequest(0, Transport.TCP, "127.0.0.1", 0)


class Worker:
    def __init__(self) -> None:
        self.opened: list[tuple[int, str]] = []
        self.alive = {1, 2, 3}
        self.udp: dict[int, tuple[int, str, int]] = {}
        self.places: tuple[int, ...] = (0,)
        self.workers: list[int] = []
        self.closed: list[int] = []

    def open_flow(self, session: int, target: str, sock: socket.socket, reply: StreamReply, first: bytes = b"") -> None:
        assert (reply, first) == (StreamReply(), b"")
        self.opened.append((session, target))
        sock.close()

    def udp_places(self, session: int) -> tuple[int, ...]:
        assert session in self.alive
        return self.places

    def open_udp(self, session: int, kind: UdpKind, sock: socket.socket, *, target: str = "", worker: int) -> int:
        assert kind is UdpKind.REVERSE
        self.workers.append(worker)
        self.udp[len(self.udp) + 1] = (session, target, sock.getsockname()[1])
        sock.close()
        return len(self.udp)

    def close_udp(self, number: int) -> None:
        self.closed.append(number)


def play(scenario: Callable[[ReverseListeners, Worker], Awaitable[None]], rules: str = "127.0.0.1:*") -> None:
    async def run() -> None:
        worker = Worker()
        allow = {"alice": parse_listen_rules(rules)}
        made = ReverseListeners(allow, Resolver(), worker, lambda session: session in worker.alive)
        try:
            async with asyncio.timeout(30):
                await scenario(made, worker)
        finally:
            await made.close()
        assert len(made) == 0

    asyncio.run(run())


def test_a_connection_becomes_a_flow() -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        answer = await made.request(1, "alice", replace(ANY, listener=5))
        assert (answer.listener, answer.code) == (5, ListenCode.LISTENING)
        _, writer = await asyncio.open_connection("127.0.0.1", answer.port)
        while not worker.opened:
            await asyncio.sleep(0.001)
        assert worker.opened == [(1, "reverse:5")]
        writer.close()
        assert made.status()[0]["user"] == "alice"
        await made.forget(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", answer.port)

    play(scenario)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_udp(host: str) -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        answer = await made.request(1, "alice", replace(ANY, listener=4, transport=Transport.UDP, host=host))
        assert answer.code is ListenCode.LISTENING, answer.reason
        assert worker.udp == {1: (1, "4", answer.port)}
        assert made.status()[0]["protocol"] == "udp"
        await made.forget(1)
        assert worker.closed == [1]

    play(scenario, "*:*")


def test_udp_is_listened_for_by_every_worker_that_has_a_slice() -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        worker.places = (2, 0)
        answer = await made.request(1, "alice", replace(ANY, listener=4, transport=Transport.UDP))
        assert worker.workers == [2, 0]
        assert {port for _, _, port in worker.udp.values()} == {answer.port}
        made.resume(lambda number: number == 2)
        assert (worker.workers[2:], worker.closed) == ([0], [2])
        await made.forget(1)
        assert worker.closed == [2, 1, 3]

    play(scenario, "*:*")


@pytest.mark.parametrize(
    ("user", "request_", "rules"),
    [
        ("bob", ANY, "*:*"),
        ("alice", ANY, "127.0.0.1:8000-8999"),
        ("alice", replace(ANY, port=7999), "127.0.0.1:8000-8999"),
        ("alice", replace(ANY, port=8000, host="127.0.0.2"), "127.0.0.1:8000-8999"),
        ("alice", replace(ANY, port=8000, host=""), "127.0.0.1:8000-8999, 0.0.0.0:8000"),
        ("alice", replace(ANY, port=8000, host="localhost"), "127.0.0.1:8000-8999"),
        ("alice", replace(ANY, port=8000, transport=Transport.UDP), "tcp/127.0.0.1:8000"),
    ],
)
def test_what_is_not_allowed(user: str, request_: ListenRequest, rules: str) -> None:
    async def scenario(made: ReverseListeners, _worker: Worker) -> None:
        answer = await made.request(1, user, request_)
        assert answer.code is ListenCode.NOT_ALLOWED
        assert "is not in the server's reverse.allow for this user" in answer.reason
        assert len(made) == 0

    play(scenario, rules)


def test_a_repeated_request_changes_nothing() -> None:
    async def scenario(made: ReverseListeners, _worker: Worker) -> None:
        first = await made.request(1, "alice", ANY)
        assert await made.request(1, "alice", ANY) == first
        other = await made.request(1, "alice", replace(ANY, port=first.port))
        assert other.port == first.port
        assert len(made) == 1, "the same number means the same listener"

    play(scenario)


def test_the_port_of_a_lost_session_is_taken_over() -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        port = (await made.request(1, "alice", ANY)).port
        wanted = replace(ANY, port=port)
        assert (await made.request(1, "alice", wanted)).code is ListenCode.LISTENING
        answer = await made.request(2, "alice", wanted)
        assert answer.code is ListenCode.IN_USE
        assert "Address already in use" in answer.reason
        worker.alive.discard(1)
        assert (await made.request(3, "alice", wanted)).code is ListenCode.LISTENING
        assert [entry["session"] for entry in made.status()] == ["3"]

    play(scenario)


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REVERSE", 2)

    async def scenario(made: ReverseListeners, _worker: Worker) -> None:
        codes = [(await made.request(1, "alice", replace(ANY, listener=number))).code for number in range(3)]
        assert codes == [ListenCode.LISTENING, ListenCode.LISTENING, ListenCode.NO_ROOM]

    play(scenario)


def test_rules() -> None:
    rules = parse_listen_rules("127.0.0.1:8000-8999, tcp/*:22, [::1]:*")
    assert rules[0] == ListenRule("127.0.0.1", 8000, 8999)
    assert rules[1].permits("192.0.2.1", 22, "tcp")
    assert not rules[1].permits("192.0.2.1", 22, "udp")
    assert rules[2].permits("0:0:0:0:0:0:0:1", 0, "udp"), "every port, so any"
    assert not rules[0].permits("127.0.0.1", 0, "tcp")
    for wrong in ("", "127.0.0.1", "a.test:1", "*:0", "*:9-1", "*:65536", "icmp/*:1"):
        with pytest.raises(ValueError, match=r"."):
            parse_listen_rules(wrong)


def test_permissions_that_are_withdrawn_close_what_listens() -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        tcp = await made.request(1, "alice", replace(ANY, listener=1))
        udp = await made.request(1, "alice", replace(ANY, listener=2, transport=Transport.UDP))
        assert tcp.code is udp.code is ListenCode.LISTENING
        await made.use({"alice": parse_listen_rules("udp/127.0.0.1:*")})
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", tcp.port)
        assert [entry["protocol"] for entry in made.status()] == ["udp"]
        assert (await made.request(1, "alice", replace(ANY, listener=1))).code is ListenCode.NOT_ALLOWED
        await made.use({})
        assert (made.status(), worker.closed) == ([], [1])
        await made.use({"*": parse_listen_rules("127.0.0.1:*")})
        assert (await made.request(1, "alice", replace(ANY, listener=1))).code is ListenCode.LISTENING

    play(scenario)


def test_udp_sockets_go_to_the_next_worker() -> None:
    async def scenario(made: ReverseListeners, worker: Worker) -> None:
        answer = await made.request(1, "alice", replace(ANY, listener=4, transport=Transport.UDP))
        await made.request(1, "alice", replace(ANY, listener=5))
        made.resume()
        assert worker.udp == {1: (1, "4", answer.port), 2: (1, "4", answer.port)}
        assert worker.closed == [1]
        await made.forget(1)
        assert worker.closed == [1, 2]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", answer.port))

    play(scenario)
