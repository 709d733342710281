"""Paths that come and go with the system; what each of them does is replaced by a wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

import pytest

from drivers.linux.interfaces import Connections, DefaultRoute, InterfaceState, LocalAddress
from vantun.config import ClientConfig, Endpoint, MultipathConfig, PathConfig
from vantun.control.crew import Crew
from vantun.control.membership import Membership
from vantun.control.resolver import Resolver
from vantun.control.udp_sockets import UdpSockets
from vantun.control.uplink import Tunnel, Uplink
from vantun.control.uplinks import Uplinks
from vantun.errors import ConnectError, VantunError

SERVER = Endpoint("gw.example", 443)


def system(**addresses: str) -> Connections:
    """Return a system with these interfaces, which all have a default route."""
    names = list(addresses)
    return Connections(
        tuple(InterfaceState(index, name, up=True) for index, name in enumerate(names)),
        tuple(LocalAddress(index, ip_address(addresses[name])) for index, name in enumerate(names)),
        tuple(DefaultRoute(index, 4) for index in range(len(names))),
    )


class Stage:
    """Uplinks whose paths do nothing until they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: ClientConfig) -> None:
        tunnel = Tunnel(config, cast("Crew", None), Resolver(), UdpSockets(), Membership(lambda _session: None))
        self.happened: list[str] = []
        self.endings: dict[str, asyncio.Future[VantunError]] = {}
        monkeypatch.setattr(Uplink, "run", lambda uplink: self.run(uplink))
        monkeypatch.setattr(Uplink, "lose", lambda uplink, why: self.happened.append(f"{uplink.config.name}: {why}"))
        monkeypatch.setattr(Uplink, "wake", lambda uplink: self.happened.append(f"{uplink.config.name} wakes"))
        self.uplinks = Uplinks(tunnel)

    async def run(self, uplink: Uplink) -> VantunError:
        name = uplink.config.name
        self.happened.append(f"{name} begins by {uplink.config.source or 'any'}")
        self.endings[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.endings[name]
        finally:
            self.happened.append(f"{name} ends")

    async def settle(self, now: Connections) -> list[str]:
        """Return what has happened then."""
        self.happened.clear()
        self.uplinks.settle(now)
        for _ in range(3):
            await asyncio.sleep(0)
        return sorted(self.happened)


def play(
    monkeypatch: pytest.MonkeyPatch, scene: Callable[[Stage], Awaitable[None]], *paths: PathConfig, auto: bool = True
) -> None:
    async def scenario() -> None:
        stage = Stage(monkeypatch, ClientConfig(SERVER, "a:b", paths, multipath=MultipathConfig(auto=auto)))
        await scene(stage)
        await stage.uplinks.close()

    asyncio.run(scenario())


def test_interfaces_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        assert await stage.settle(system()) == []
        assert await stage.settle(system(eth0="192.0.2.1")) == ["eth0 begins by 192.0.2.1"]
        assert await stage.settle(system(eth0="192.0.2.1")) == []
        both = system(eth0="192.0.2.1", wwan0="198.51.100.1")
        assert await stage.settle(both) == ["wwan0 begins by 198.51.100.1"]
        assert [report["origin"] for report in stage.uplinks.report()] == ["system", "system"]
        assert await stage.settle(system(eth0="192.0.2.1")) == ["wwan0 ends"]
        assert await stage.settle(both) == ["wwan0 begins by 198.51.100.1"]
        moved = system(eth0="192.0.2.1", wwan0="198.51.100.2")
        assert await stage.settle(moved) == ["wwan0 wakes", "wwan0: its address has changed"]

    play(monkeypatch, scene)


def test_an_interface_that_was_made_anew_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        now = system(eth0="192.0.2.1")
        await stage.settle(now)
        again = Connections(
            (InterfaceState(9, "eth0", up=True),),
            (LocalAddress(9, ip_address("192.0.2.1")),),
            (DefaultRoute(9, 4),),
        )
        assert await stage.settle(again) == ["eth0 wakes", "eth0: its interface was made anew"]

    play(monkeypatch, scene)


def test_a_configured_path_waits_for_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    dsl = PathConfig("dsl", SERVER, interface="eth0")
    lte = PathConfig("lte", SERVER, "198.51.100.1")

    async def scene(stage: Stage) -> None:
        assert await stage.settle(system()) == [
            "dsl begins by any",
            "dsl: the interface eth0 is missing",
            "lte begins by 198.51.100.1",
            "lte: 198.51.100.1 is no address of this machine",
        ]
        assert await stage.settle(system(eth0="192.0.2.1")) == [
            "dsl wakes",
            "lte: 198.51.100.1 is no address of this machine",
        ]
        both = system(eth0="192.0.2.1", wwan0="198.51.100.1")
        assert await stage.settle(both) == ["dsl wakes", "lte wakes"], "a new way may be what any path waits for"
        assert await stage.settle(both) == []
        assert await stage.settle(replace(both, interfaces=both.interfaces[1:])) == [
            "dsl: the interface eth0 is missing"
        ]

    play(monkeypatch, scene, dsl, lte, auto=False)


def test_it_is_over_when_none_can_work(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        running = asyncio.create_task(stage.uplinks.run())
        await stage.settle(system(eth0="192.0.2.1", wwan0="198.51.100.1"))
        stage.endings["wwan0"].set_result(ConnectError("second"))
        await stage.settle(system(eth0="192.0.2.1", wwan0="198.51.100.1"))
        assert not running.done()
        stage.endings["eth0"].set_result(ConnectError("first"))
        assert str(await running) == "first"

    play(monkeypatch, scene)


def test_without_word_from_the_system_there_is_one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        stage.uplinks.use_default()
        stage.uplinks.use_default()
        assert [report["name"] for report in stage.uplinks.report()] == ["default"]
        assert stage.uplinks.names() == {}
        stage.uplinks.close_full(["default", "nobody"])
        assert stage.happened == ["default: its volume is used up"]

    play(monkeypatch, scene)
