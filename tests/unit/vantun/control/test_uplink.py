"""Finding the server; what happens on the path itself is in tests/net, with real processes."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest

from vantun.config import ClientConfig, Endpoint, PathConfig
from vantun.control.crew import Crew
from vantun.control.membership import Membership
from vantun.control.resolver import Address, Lookup, Resolver
from vantun.control.udp_sockets import UdpSockets
from vantun.control.uplink import Tunnel, Uplink
from vantun.control.volumes import Volumes
from vantun.errors import ConnectError, ResourceError, VantunError

SERVER = Endpoint("gw.example", 443)


def run(lookup: Lookup, source: str = "") -> tuple[VantunError, str, str]:
    """Run a path that cannot get as far as its first packet; return its error, state and reason."""

    async def scenario() -> tuple[VantunError, str, str]:
        path = PathConfig("dsl", SERVER, source)
        no_worker = cast("Crew", None)
        members = Membership(lambda _session: None)
        tunnel = Tunnel(ClientConfig(SERVER, "a:b", (path,)), no_worker, Resolver(lookup), UdpSockets(), members)
        uplink = Uplink(tunnel, path)
        running = asyncio.create_task(uplink.run())
        async with asyncio.timeout(30):
            while uplink.state == "connecting":
                await asyncio.sleep(0.001)
        if uplink.state == "waiting":
            running.cancel()
            await asyncio.wait([running])
            return VantunError(), uplink.state, str(uplink.report()["reason"])
        return await running, uplink.state, uplink.reason

    return asyncio.run(scenario())


def failing(code: int) -> Lookup:
    def lookup(_host: str, _port: int) -> list[Address]:
        raise socket.gaierror(code, "on purpose")

    return lookup


def test_a_name_that_does_not_exist_is_given_up() -> None:
    error, state, reason = run(failing(socket.EAI_NONAME))
    assert isinstance(error, ConnectError)
    assert state == "failed"
    assert "'gw.example' cannot be found" in reason
    assert "check the spelling" in reason


def test_a_name_server_that_is_away_is_asked_again() -> None:
    _, state, reason = run(failing(socket.EAI_AGAIN))
    assert state == "waiting"
    assert "is the name server reachable?" in reason


def test_the_server_needs_an_address_of_the_sources_family() -> None:
    error, state, _ = run(lambda _host, port: [Address(socket.AF_INET6, "2001:db8::1", port)], "192.0.2.10")
    assert state == "failed"
    assert "it has no IPv4 address" in str(error)


def test_an_uplink_that_has_lost_its_address_is_tried_again() -> None:
    _, state, reason = run(lambda _host, port: [Address(socket.AF_INET, "192.0.2.1", port)], "192.0.2.10")
    assert state == "waiting"
    assert "choose an address of this machine" in reason


def test_sockets_say_once_what_the_kernel_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vantun.control.udp_sockets.buffer_warning", lambda *_: "run `sysctl ...`")
    sockets = UdpSockets()
    for _ in range(2):
        sockets.bind_towards(Address(socket.AF_INET, "127.0.0.1", 1), "")[0].close()
    assert caplog.text.count("run `sysctl ...`") == 1
    assert sockets.fallbacks() == [{"what": "smaller UDP socket buffers", "reason": "run `sysctl ...`"}]


def test_a_name_is_no_address_to_bind_to() -> None:
    with pytest.raises(ResourceError, match="is not an IP address"):
        UdpSockets().bind("localhost", 0)


def test_an_interface_that_is_missing_is_waited_for() -> None:
    async def scenario() -> list[tuple[str, str]]:
        path = PathConfig("lte", SERVER, interface="nobody0")
        tunnel = Tunnel(
            ClientConfig(SERVER, "a:b", (path,)),
            cast("Crew", None),
            Resolver(lambda _host, port: [Address(socket.AF_INET, "192.0.2.1", port)]),
            UdpSockets(),
            Membership(lambda _session: None),
        )
        uplink = Uplink(tunnel, path)
        uplink.lacks = "the interface nobody0 is missing"
        running = asyncio.create_task(uplink.run())
        seen = []
        async with asyncio.timeout(30):
            while uplink.state != "waiting":
                await asyncio.sleep(0)
            seen.append((uplink.state, uplink.reason))
            assert not tunnel.trying, "no server is to blame"
            uplink.lacks = ""
            uplink.wake()
            while "failed" not in uplink.reason:
                await asyncio.sleep(0)
            seen.append((uplink.state, uplink.reason))
        assert tunnel.trying == {"lte"}
        running.cancel()
        await asyncio.wait([running])
        return seen

    waiting, trying = asyncio.run(scenario())
    assert waiting == ("waiting", "the interface nobody0 is missing; it begins when that comes")
    assert trying[0] == "waiting"
    assert "using the interface nobody0 alone failed: No such device; connect or create it" in trying[1]


def test_a_path_without_volume_says_until_when_it_is_closed(tmp_path: Path) -> None:
    async def scenario() -> dict[str, object]:
        path = PathConfig("lte", SERVER, cap=10**9)
        tunnel = Tunnel(
            ClientConfig(SERVER, "a:b", (path,)),
            cast("Crew", None),
            Resolver(),
            UdpSockets(),
            Membership(lambda _session: None),
        )
        tunnel.volumes = Volumes({"lte": 10**9}, tmp_path, lambda: datetime(2026, 11, 25))
        lane = {"session": "5e", "path": 0, "sent": 0, "received": 0, "sent_bytes": 10**9, "received_bytes": 0}
        tunnel.volumes.count([lane], {("5e", 0): "lte"})
        uplink = Uplink(tunnel, path)
        running = asyncio.create_task(uplink.run())
        async with asyncio.timeout(30):
            while uplink.state != "capped":
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        return uplink.report()

    report = asyncio.run(scenario())
    assert report["reason"] == "its volume of 1 GB is used up; it is closed until 2026-12-01 00:00"
    assert (report["cap"], report["cap_used"], report["closed_until"]) == (10**9, 10**9, "2026-12-01T00:00:00")
    assert (report["priority"], report["origin"], report["interface"]) == ("primary", "configured", "")
