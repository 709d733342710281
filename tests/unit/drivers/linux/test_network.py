"""Against the real kernel, in a namespace, and its fake; what was set is read back here and by `ip`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_interface, ip_network

import pytest

from drivers.errors import SystemCallError
from drivers.linux.network import MAIN_TABLE, Network, Route, RouteKind, Rule, RuleAction
from tests.netns import inside, ip, namespaces, why_not
from tests.unit.drivers.linux.fake_network import FakeNetwork

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

TABLE = 22016
Made = tuple[Network | FakeNetwork, str]


@pytest.fixture
def namespace() -> Iterator[str]:
    with namespaces(1) as (name,):
        ip("-n", name, "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        ip("-n", name, "link", "set", "d1", "up")
        yield name


def _real(name: str) -> Network:
    with inside(name):
        return Network()


def _fake(_name: str) -> FakeNetwork:
    fake = FakeNetwork()
    fake.add_link("d0")
    return fake


@pytest.fixture(params=[_real, _fake], ids=["kernel", "fake"])
def network(request: pytest.FixtureRequest, namespace: str) -> Iterator[Network | FakeNetwork]:
    make: Callable[[str], Network | FakeNetwork] = request.param
    made = make(namespace)
    yield made
    made.close()


def index_of(network: Network | FakeNetwork) -> int:
    link = network.link("d0")
    assert link is not None
    return link.index


def test_an_interface(network: Network | FakeNetwork) -> None:
    assert network.link("nobody") is None
    index = index_of(network)
    network.set_link(index, mtu=1380)
    link = network.link("d0")
    assert link is not None
    assert (link.mtu, link.up) == (1380, False)
    network.set_link(index, up=True)
    link = network.link("d0")
    assert link is not None
    assert (link.mtu, link.up) == (1380, True)
    with pytest.raises(SystemCallError):
        network.set_link(4711, up=True)


def test_addresses(network: Network | FakeNetwork) -> None:
    index = index_of(network)
    network.set_link(index, up=True)
    addresses = {ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64")}
    for _ in range(2):
        for address in addresses:
            network.add_address(index, address)
        assert network.addresses(index) == addresses
    for _ in range(2):
        for address in addresses:
            network.remove_address(index, address)
        assert network.addresses(index) == set()


def test_routes(network: Network | FakeNetwork) -> None:
    index = index_of(network)
    network.set_link(index, up=True)
    routes = [
        Route(ip_network("10.77.0.0/16"), index, TABLE, mtu=1300),
        Route(ip_network("0.0.0.0/0"), index, TABLE),
        Route(ip_network("::/0"), index, TABLE, mtu=1300),
        Route(ip_network("10.77.1.0/24"), 0, TABLE, kind=RouteKind.THROW),
        Route(ip_network("fd77::/64"), 0, TABLE, kind=RouteKind.THROW),
    ]
    for _ in range(2):
        for route in routes:
            network.set_route(route)
        assert set(network.routes(TABLE)) == set(routes)
    changed = Route(ip_network("10.77.0.0/16"), index, TABLE, mtu=1290)
    network.set_route(changed)
    assert set(network.routes(TABLE)) == {changed, *routes[1:]}
    assert network.routes(MAIN_TABLE) == []
    for _ in range(2):
        for route in [changed, *routes[1:]]:
            network.remove_route(route)
    assert network.routes(TABLE) == []


def test_a_route_with_a_metric_leaves_the_machines_own_alone(namespace: str) -> None:
    network = _real(namespace)
    index = index_of(network)
    network.set_link(index, up=True)
    ip("-n", namespace, "address", "add", "192.168.7.1/24", "dev", "d0")
    ours = Route(ip_network("192.168.7.0/24"), index, metric=2000, mtu=1300)
    network.set_route(ours)
    assert network.routes() == [ours]
    network.remove_route(ours)
    shown = subprocess.run(["ip", "-n", namespace, "route"], capture_output=True, text=True, check=True).stdout
    assert "192.168.7.0/24 dev d0 proto kernel" in shown
    network.close()


def test_rules(network: Network | FakeNetwork) -> None:
    rules = {
        Rule(4, 21999, RuleAction.NOP),
        Rule(4, 21000, RuleAction.GOTO, 21999, mark=0x5600),
        Rule(4, 21001, RuleAction.LOOKUP, MAIN_TABLE, ip_network("10.0.0.0/8"), suppress=7),
        Rule(4, 21002, RuleAction.LOOKUP, TABLE, ip_network("10.0.0.0/8")),
        Rule(6, 21003, RuleAction.LOOKUP, MAIN_TABLE, suppress=0),
        Rule(6, 21004, RuleAction.LOOKUP, TABLE),
    }
    for _ in range(2):
        for rule in rules:
            network.add_rule(rule)
        assert set(network.rules()) == rules
    for _ in range(2):
        for rule in rules:
            network.remove_rule(rule)
    assert network.rules() == []


def test_ip_reads_what_was_set(namespace: str) -> None:
    network = _real(namespace)
    index = index_of(network)
    network.set_link(index, up=True)
    network.set_route(Route(ip_network("10.77.0.0/16"), index, TABLE, metric=7, mtu=1300))
    network.add_rule(Rule(4, 21001, RuleAction.LOOKUP, MAIN_TABLE, ip_network("10.0.0.0/8"), 0x5600, 7))
    network.close()
    [route] = json.loads(_ip(namespace, "-j", "route", "show", "table", str(TABLE)))
    assert (route["dst"], route["metric"], route["metrics"]) == ("10.77.0.0/16", 7, [{"mtu": 1300}])
    shown = _ip(namespace, "rule", "show", "priority", "21001")
    assert "from all to 10.0.0.0/8 fwmark 0x5600 lookup main suppress_prefixlength 7 proto 86" in shown


def _ip(namespace: str, *arguments: str) -> str:
    return subprocess.run(["ip", "-n", namespace, *arguments], capture_output=True, text=True, check=True).stdout
