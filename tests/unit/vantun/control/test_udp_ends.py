"""UDP sockets for the worker: what they are bound and connected to, and what the errors say."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.unit.vantun.control.test_udp_connector import Link
from vantun.config_kinds import Endpoint
from vantun.control.resolver import Address, Resolver
from vantun.control.udp_ends import (
    association_socket,
    attach_reverse,
    bind_listeners,
    bind_relay,
    bind_tproxies,
    connected_socket,
)
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import AttachUdp


def test_a_relay_is_bound_where_the_program_can_reach_it() -> None:
    with bind_relay("127.0.0.1") as sock:
        host, port = sock.getsockname()
        assert host == "127.0.0.1"
        assert port > 0
        assert sock.getblocking() is False


def test_a_listener_of_every_address_hears_both_families() -> None:
    (sock,) = bind_listeners("", 0)
    with sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
        sock.settimeout(10)
        assert sock.recv(10) == b"x"


def test_a_port_that_is_taken_is_named() -> None:
    group = bind_listeners("127.0.0.1", 0, 2)
    for count in (1, 2):
        with pytest.raises(ResourceError, match=r"127\.0\.0\.1:[0-9]+ cannot be bound"):
            bind_listeners("127.0.0.1", group[0].getsockname()[1], count)
    for sock in group:
        sock.close()


def heard(group: list[socket.socket], senders: list[socket.socket]) -> list[int]:
    """Return which of a group gets the datagrams of each sender."""
    for number, sender in enumerate(senders):
        sender.sendto(bytes([number]), ("127.0.0.1", group[0].getsockname()[1]))
    found = {}
    for place, sock in enumerate(group):
        sock.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                found[sock.recv(10)[0]] = place
    return [found[number] for number in range(len(senders))]


PRIVILEGED = pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN for a transparent socket")


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        (bind_listeners, "127.0.0.1"),
        (bind_listeners, ""),
        pytest.param(bind_tproxies, "127.0.0.1", marks=PRIVILEGED),
        pytest.param(bind_tproxies, "0.0.0.0", marks=PRIVILEGED),
    ],
)
def test_several_workers_share_an_address_and_each_source_stays_with_one(
    bind: Callable[[str, int, int], list[socket.socket]], host: str
) -> None:
    group = bind(host, 0, 2)
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(32)]
    first = heard(group, senders)
    assert set(first) == {0, 1}
    assert heard(group, senders) == first
    assert {sock.getsockname()[1] for sock in group} == {group[0].getsockname()[1]}
    for sock in (*group, *senders):
        sock.close()


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70000)])
def test_what_cannot_be_bound(host: str, port: int) -> None:
    with pytest.raises(ResourceError, match="choose an address"):
        bind_listeners(host, port)


def test_without_ipv6_an_association_has_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", without)
        made = association_socket()
    with made:
        assert made.family == socket.AF_INET
    with association_socket() as both:
        assert both.getsockname()[1] > 0


def test_a_name_is_no_place_for_tproxy() -> None:
    with pytest.raises(ResourceError, match="not an IP address"):
        bind_tproxies("localhost", 0)


def test_the_first_address_with_a_route_is_connected_to() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
        target.bind(("127.0.0.1", 0))
        where = Address(socket.AF_INET, *target.getsockname())
        sock, address = connected_socket([Address(socket.AF_INET, "255.255.255.255", 9), where])
        with sock:
            assert address == where
            assert sock.getpeername() == target.getsockname()
    with pytest.raises(OSError, match="without addresses"):
        connected_socket([])


def test_a_reverse_flow_gets_the_configured_target() -> None:
    async def scenario() -> None:
        link = Link()
        assert await attach_reverse(link, Resolver(), 5, Endpoint("127.0.0.1", 9)) is None
        assert link.posted == [AttachUdp(5, ("127.0.0.1", 9), 60.0)]
        refused = await attach_reverse(link, Resolver(), 5, Endpoint("255.255.255.255", 9))
        assert refused == RefusalCode.NOT_ALLOWED

    asyncio.run(scenario())
