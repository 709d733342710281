"""Against the real kernel, in a namespace: what is there, and that a change is heard of."""

from __future__ import annotations

import select
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from drivers.linux.interfaces import DefaultRoute, InterfaceState, LocalAddress, look, open_changes, skip_changes
from drivers.linux.netlink import NetlinkSocket
from tests.netns import inside, ip, namespaces, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture
def namespace() -> Iterator[str]:
    with namespaces(1) as (name,):
        ip("-n", name, "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        yield name


def test_interfaces_addresses_and_default_routes(namespace: str) -> None:
    with inside(namespace), NetlinkSocket() as netlink:
        states = {each.name: each for each in look(netlink).interfaces}
        assert states["lo"].loopback
        assert states["d0"] == InterfaceState(states["d0"].index, "d0", up=False)
        index = states["d0"].index
        ip("-n", namespace, "link", "set", "d1", "up")
        ip("-n", namespace, "link", "set", "d0", "up")
        ip("-n", namespace, "address", "add", "192.0.2.10/24", "dev", "d0")
        ip("-n", namespace, "address", "add", "192.0.2.11/24", "dev", "d0")
        ip("-n", namespace, "address", "add", "2001:db8::10/64", "dev", "d0", "nodad")
        ip("-n", namespace, "route", "add", "default", "via", "192.0.2.1", "metric", "700")
        ip("-n", namespace, "route", "add", "198.51.100.0/24", "via", "192.0.2.1")
        ip("-n", namespace, "route", "add", "blackhole", "default", "metric", "9000")
        ip("-n", namespace, "-6", "route", "add", "default", "via", "2001:db8::1", "metric", "5")
        now = look(netlink)
        assert InterfaceState(index, "d0", up=True) in now.interfaces
        for expected in (
            LocalAddress(index, ip_address("192.0.2.10")),
            LocalAddress(index, ip_address("192.0.2.11"), lasting=False),
            LocalAddress(index, ip_address("2001:db8::10")),
            LocalAddress(1, ip_address("127.0.0.1"), everywhere=False),
        ):
            assert expected in now.addresses
        assert set(now.routes) == {DefaultRoute(index, 4, 700), DefaultRoute(index, 6, 5)}


def test_a_default_route_over_two_interfaces(namespace: str) -> None:
    for name, address in (("d0", "192.0.2.10/24"), ("d1", "198.51.100.10/24")):
        ip("-n", namespace, "link", "set", name, "up")
        ip("-n", namespace, "address", "add", address, "dev", name)
    hops = ("nexthop", "via", "192.0.2.1", "dev", "d0", "nexthop", "via", "198.51.100.1", "dev", "d1")
    ip("-n", namespace, "route", "add", "default", *hops)
    with inside(namespace), NetlinkSocket() as netlink:
        now = look(netlink)
    index = {each.name: each.index for each in now.interfaces}
    assert set(now.routes) == {DefaultRoute(index["d0"], 4), DefaultRoute(index["d1"], 4)}


@pytest.mark.parametrize(
    "change",
    [
        ("link", "set", "d0", "up"),
        ("link", "del", "d0"),
        ("address", "add", "192.0.2.10/24", "dev", "lo"),
        ("address", "add", "2001:db8::1/64", "dev", "lo"),
        ("route", "add", "default", "dev", "lo"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_a_change_is_heard_of(change: tuple[str, ...], namespace: str) -> None:
    with inside(namespace):
        changes = open_changes()
    with changes:
        assert not skip_changes(changes)
        ip("-n", namespace, *change)
        readable, _, _ = select.select([changes], [], [], 10.0)
        assert readable
        assert skip_changes(changes)
