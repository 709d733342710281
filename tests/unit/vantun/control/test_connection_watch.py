"""The watch over interfaces, against the kernel of a namespace."""

from __future__ import annotations

import asyncio

import pytest

from drivers.errors import SystemCallError
from drivers.linux.interfaces import Connections, look
from drivers.linux.netlink import NetlinkSocket
from tests.netns import inside, ip, namespaces, why_not
from vantun.control import connection_watch
from vantun.control.connection_watch import ConnectionWatch


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_what_changes_is_said_and_a_look_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[int] = []

    async def scenario(name: str) -> None:
        said: asyncio.Queue[Connections] = asyncio.Queue()
        with inside(name):
            watch = ConnectionWatch.start(said.put_nowait)
        assert watch is not None
        async with asyncio.timeout(30):
            assert [each.name for each in (await said.get()).interfaces if not each.loopback] == []

            def look_once(netlink: NetlinkSocket) -> Connections:
                monkeypatch.setattr(connection_watch, "look", look)
                failures.append(1)
                raise SystemCallError("listing interfaces", 4, "try again")

            monkeypatch.setattr(connection_watch, "look", look_once)
            ip("-n", name, "link", "add", "d0", "type", "veth", "peer", "name", "d1")
            names: set[str] = set()
            while not {"d0", "d1"} <= names:
                names = {each.name for each in (await said.get()).interfaces}
            ip("-n", name, "link", "del", "d0")
            while names & {"d0", "d1"}:
                names = {each.name for each in (await said.get()).interfaces}
        watch.close()

    with namespaces(1) as (name,):
        asyncio.run(scenario(name))
    assert failures == [1]


def test_a_kernel_that_says_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise SystemCallError("opening a routing socket", 1, "give it")

    async def scenario() -> None:
        monkeypatch.setattr(connection_watch, "open_changes", refuse)
        assert ConnectionWatch.start(lambda _now: None) is None

    asyncio.run(scenario())
    assert "paths do not follow the system's interfaces: opening a routing socket" in caplog.text
