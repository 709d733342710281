"""Associations of the server: bounds, verdicts about destinations, lookups."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from vantun.acl import AccessList
from vantun.control import udp_connector
from vantun.control.resolver import Address, Resolver
from vantun.control.udp_connector import UdpConnector, UdpLimits
from vantun.control.udp_link import UdpLink
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import AttachUdp, ResolveUdp, UdpTarget
from vantun.worker_messages import Command

OPEN = AccessList.parse(["allow(127.0.0.0/8)"])


class Link(UdpLink):
    """Keeps what would go to the worker."""

    def __init__(self) -> None:
        self.posted: list[Command] = []

    def _post(self, message: Command, sock: socket.socket | None = None) -> None:
        self.posted.append(message)
        if sock is not None:
            sock.close()

    def targets(self) -> list[tuple[str, int]]:
        """Return the answers about destinations."""
        return [(message.host, message.port) for message in self.posted if isinstance(message, UdpTarget)]


def look_up(host: str, port: int) -> list[Address]:
    """Resolve the names of these tests."""
    known = {
        "good.example": ["192.0.2.7"],
        "rebinding.example": ["10.1.2.3", "127.0.0.1"],
        "both.example": ["10.1.2.3", "192.0.2.9"],
        "mapped.example": ["::ffff:127.0.0.1"],
    }
    if host not in known:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return [Address(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip, port) for ip in known[host]]


def scenario(play: Callable[[UdpConnector, Link], Awaitable[None]], access: AccessList | None = None) -> None:
    async def run() -> None:
        link = Link()
        connector = UdpConnector(link, Resolver(look_up), access, UdpLimits(per_session=2, per_user=3))
        await play(connector, link)
        await connector.close()

    asyncio.run(run())


async def ask(connector: UdpConnector, link: Link, host: str) -> tuple[str, int]:
    """Return what the worker is told about a destination."""
    before = len(link.posted)
    connector.resolve(ResolveUdp(1, before, host, 53))
    while len(link.posted) == before:
        await asyncio.sleep(0)
    return link.targets()[-1]


def test_a_flow_gets_a_socket_and_the_idle_time() -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        assert connector.open(1, 7, "alice") is None
        assert link.posted == [AttachUdp(1, ("", 0), 120.0)]
        assert len(connector) == 1

    scenario(play)


def test_associations_are_bounded_per_session_and_user() -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        assert [connector.open(handle, 7, "alice") for handle in (1, 2)] == [None, None]
        assert connector.open(3, 7, "alice") == RefusalCode.GENERAL
        assert connector.open(3, 8, "alice") is None
        assert connector.open(4, 9, "alice") == RefusalCode.GENERAL
        assert connector.open(4, 9, "bob") is None
        connector.cancel(1)
        connector.cancel(1)
        assert connector.open(5, 7, "alice") is None
        assert len(connector) == 4

    scenario(play)


def test_a_machine_without_descriptors_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> socket.socket:
        raise ResourceError("none left; raise the limit")

    async def play(connector: UdpConnector, link: Link) -> None:
        monkeypatch.setattr(udp_connector, "association_socket", none_left)
        assert connector.open(1, 7, "alice") == RefusalCode.GENERAL
        assert len(connector) == 0

    scenario(play)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "224.0.0.251",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "0.0.0.0",
    ],
)
def test_the_neighbourhood_of_the_server_is_refused_by_default(host: str) -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        connector.open(1, 7, "alice")
        assert await ask(connector, link, host) == ("", 0)

    scenario(play)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("good.example", ("192.0.2.7", 53)),
        ("both.example", ("192.0.2.9", 53)),
        ("rebinding.example", ("127.0.0.1", 53)),
        ("mapped.example", ("", 0)),
        ("::ffff:127.0.0.1", ("", 0)),
        ("missing.example", ("", 0)),
    ],
)
def test_a_destination_is_resolved_and_every_address_of_it_is_judged(host: str, answer: tuple[str, int]) -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        connector.open(1, 7, "alice")
        assert await ask(connector, link, host) == answer

    scenario(play, OPEN)


def test_questions_of_associations_that_are_gone_are_not_answered() -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        connector.open(1, 7, "alice")
        connector.resolve(ResolveUdp(1, 1, "good.example", 53))
        connector.cancel(1)
        connector.resolve(ResolveUdp(1, 2, "192.0.2.1", 53))
        await asyncio.sleep(0)
        assert link.targets() == []

    scenario(play)


def test_lookups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(connector: UdpConnector, link: Link) -> None:
        monkeypatch.setattr(udp_connector, "LOOKUPS", 1)
        connector.open(1, 7, "alice")
        connector.resolve(ResolveUdp(1, 1, "good.example", 53))
        connector.resolve(ResolveUdp(1, 2, "good.example", 53))
        assert link.posted[-1] == UdpTarget(1, 2, "", 0)

    scenario(play)


def test_a_service_of_the_server_s_own_is_neither_looked_up_nor_judged() -> None:
    async def run() -> None:
        link = Link()
        served = {"own.invalid": (True, ("127.0.0.1", 9)), "idle.invalid": (True, None)}
        connector = UdpConnector(link, Resolver(look_up), built_in=lambda host: served.get(host, (False, None)))
        connector.open(1, 7, "alice")
        assert await ask(connector, link, "own.invalid") == ("127.0.0.1", 9)
        assert await ask(connector, link, "idle.invalid") == ("", 0)
        assert await ask(connector, link, "127.0.0.1") == ("", 0)  # the same address by its own name
        assert connector.denied == 1
        await connector.close()

    asyncio.run(run())
