"""Visitors whose answers take I/O, by HTTP/3 in memory: whole, bounded, and not to be told from a web site."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import server_config
from tests.unit.vantun.control.visitor import Fields, Visitor, request
from vantun.config import AuthConfig, MasqueradeConfig, ServerConfig
from vantun.control import visits
from vantun.control.authentication import authorization
from vantun.control.path_events import VisitorCame
from vantun.control.quic import MAX_STREAM_DATA
from vantun.control.server_paths import ServerPaths
from vantun.control.visits import HIGH_WATER, Visitors
from vantun.control.web import Answer, Request, error, usual
from vantun.password_hash import make_hash

LARGE = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    folder = tmp_path_factory.mktemp("visits")
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<p>front")
    (folder / "www" / "large").write_bytes(LARGE)
    site = MasqueradeConfig(type="file", folder=folder / "www")
    users = AuthConfig("userpass", users={"alice": make_hash("s3cret", 10)})
    return replace(server_config(folder, users), masquerade=site)


class Echo:
    """An origin that sends back what it gets, and counts what it holds."""

    def __init__(self) -> None:
        self.taken = 0
        self.go = asyncio.Event()
        self.closed = False

    def answer_now(self, request: Request) -> Answer | None:
        return error(405, request) if request.method == b"CONNECT" else None

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            await self.go.wait()
            async for piece in body:
                self.taken += len(piece)
                yield piece

        return Answer(200, usual(b"text/plain", 0)[:3], pieces())

    async def close(self) -> None:
        self.closed = True


async def turns(visitor: Visitor, driver: Visitors, seconds: float = 0.5) -> None:
    """Let time pass on the link, and the tasks work."""
    for _ in range(round(seconds / 0.01)):
        visitor.run(0.01)
        for event in visitor.events:
            if isinstance(event, VisitorCame):
                driver.serve(event.visit)
        visitor.events.clear()
        for _ in range(3):
            await asyncio.sleep(0)


Act = Callable[[ServerPaths, Visitors, Visitor], Awaitable[None]]


def scene(config: ServerConfig, act: Act, origin: Echo | None = None) -> None:
    async def run() -> None:
        server = ServerPaths(config)
        if origin is not None:
            server.front.origin = origin
        driver = Visitors(server.front.origin, lambda: None)
        visitor = Visitor(server)
        visitor.run()
        assert visitor.ready
        try:
            await act(server, driver, visitor)
        finally:
            await driver.close()

    asyncio.run(run())


async def settle(visitor: Visitor, driver: Visitors, done: Callable[[], bool]) -> None:
    for _ in range(2000):
        if done():
            return
        await turns(visitor, driver, 0.01)
        await asyncio.sleep(0.001)  # threads read the files
    raise AssertionError("it does not come to an end")


def test_pages_of_a_folder(config: ServerConfig) -> None:
    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        streams = [visitor.http.request(request(b"GET", path)) for path in (b"/", b"/large", b"/missing")]
        await settle(visitor, driver, lambda: len(visitor.bodies.get(streams[1], b"")) == len(LARGE))
        assert [visitor.status[stream] for stream in streams] == [b"200", b"200", b"404"]
        assert visitor.bodies[streams[0]] == b"<p>front"
        assert visitor.bodies[streams[1]] == LARGE

    scene(config, act)


def test_who_does_not_acknowledge_gets_no_more_than_fits(config: ServerConfig) -> None:
    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        path = next(iter(server._paths))
        visitor.http.request(request(b"GET", b"/large"))
        visitor.run(0.02)
        for event in visitor.events:
            assert isinstance(event, VisitorCame)
            driver.serve(event.visit)
        for _ in range(200):
            await asyncio.sleep(0.001)
            server.transmit(visitor.now)  # into the void
        assert 0 < path.http.unsent <= HIGH_WATER + visits.PIECE
        assert driver.busy == 1

    scene(config, act)


def test_an_upload_waits_for_the_site(config: ServerConfig) -> None:
    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        origin = driver.origin
        assert isinstance(origin, Echo)
        stream = visitor.http.request(request(b"POST"))
        await turns(visitor, driver, 0.1)
        visitor.http.send(stream, bytes(200_000), end=True)
        await turns(visitor, driver, 1.0)
        far = next(iter(server._paths)).http.quic
        assert 0 < far.held[stream] <= MAX_STREAM_DATA, "the window stays where it was"
        origin.go.set()
        await settle(visitor, driver, lambda: len(visitor.bodies.get(stream, b"")) == 200_000)
        assert not far.held

    scene(config, act, Echo())


def test_a_visitor_who_goes_away(config: ServerConfig) -> None:
    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        visitor.http.request(request(b"POST"))
        await turns(visitor, driver, 0.1)
        assert driver.busy == 1
        origin = driver.origin
        assert isinstance(origin, Echo)
        origin.go.set()
        visitor.http.close()
        await turns(visitor, driver, 0.2)
        assert driver.busy == 0

    scene(config, act, Echo())


def test_more_visits_than_there_is_room_for(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MAX_VISITS", 2)

    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        streams = [visitor.http.request(request(b"GET")) for _ in range(3)]
        await turns(visitor, driver, 0.2)
        assert visitor.status[streams[2]] == b"503"
        assert driver.busy == 2

    scene(config, act, Echo())


def test_the_site_is_replaced(config: ServerConfig) -> None:
    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        before = driver.origin
        assert isinstance(before, Echo)
        visitor.http.request(request(b"POST"))
        await turns(visitor, driver, 0.1)
        driver.replace(Echo())
        await turns(visitor, driver, 0.1)
        assert not before.closed, "an answer is under way"
        before.go.set()
        visitor.http.close()
        await turns(visitor, driver, 0.2)
        assert before.closed

    scene(config, act, Echo())


@pytest.mark.parametrize("kind", ["", "string", "file", "proxy"])
def test_wrong_credentials_are_answered_as_the_site_answers(config: ServerConfig, kind: str, tmp_path: Path) -> None:
    """Byte by byte: CONNECT with wrong, malformed, right-but-unusable and no credentials, for tunnels and others."""
    site = {"": MasqueradeConfig(), "string": MasqueradeConfig("hello", {"x-a": "b"}, 403, "string")}
    site |= {"file": MasqueradeConfig(type="file", folder=tmp_path)}
    site |= {"proxy": MasqueradeConfig(type="proxy", url="http://127.0.0.1:1")}
    vantun: Fields = [(b":protocol", b"vantun")]
    tries: list[Fields] = [[], vantun, [(b":protocol", b"websocket")]]
    wrong = (authorization("alice:x"), authorization("nobody:s3cret"), b"Basic ?", b"Bearer x", b"")
    tries += [[*vantun, (b"authorization", value)] for value in wrong]
    tries += [[(b":protocol", b"websocket"), (b"authorization", authorization("alice:s3cret"))]]

    async def act(server: ServerPaths, driver: Visitors, visitor: Visitor) -> None:
        streams = [visitor.http.request(request(b"CONNECT", b"/", more)) for more in tries]
        await turns(visitor, driver, 1.0)
        expected = server.front.origin.answer_now(Request(b"CONNECT", b"gw.example", b"/"))
        assert expected is not None
        for stream in streams:
            assert visitor.status[stream] == b"%d" % expected.status
            assert visitor.bodies[stream] == expected.body
            shown = [entry for entry in visitor.fields[stream] if entry[0] not in (b":status", b"date")]
            assert shown == [entry for entry in expected.headers if entry[0] != b"date"]

    scene(replace(config, masquerade=site[kind]), act)
