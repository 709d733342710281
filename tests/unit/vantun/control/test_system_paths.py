"""Which interfaces become paths, and what a configured path misses."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from drivers.linux.interfaces import Connections, DefaultRoute, InterfaceState, LocalAddress
from vantun.config_kinds import Endpoint
from vantun.config_paths import MultipathConfig, PathConfig
from vantun.control.system_paths import Wanted, missing, select

BASE = PathConfig("default", Endpoint("gw.example", 443), up=7)
AUTO = Wanted(MultipathConfig(auto=True), BASE)
HOME = Connections(
    (
        InterfaceState(1, "lo", up=True, loopback=True),
        InterfaceState(2, "eth0", up=True),
        InterfaceState(3, "wwan0", up=True),
        InterfaceState(4, "docker0", up=True),
        InterfaceState(5, "tun0", up=True),
        InterfaceState(6, "eth1", up=False),
        InterfaceState(7, "lan", up=True),
        InterfaceState(8, "six", up=True),
    ),
    tuple(
        LocalAddress(index, ip_address(text), everywhere)
        for index, text, everywhere in (
            (1, "127.0.0.1", False),
            (2, "192.0.2.10", True),
            (2, "2001:db8::10", True),
            (2, "fe80::1", False),
            (3, "198.51.100.7", True),
            (4, "172.17.0.1", True),
            (5, "10.9.0.2", True),
            (6, "203.0.113.9", True),
            (7, "10.0.0.1", True),
            (8, "2001:db8:8::1", True),
        )
    ),
    (
        *(DefaultRoute(index, 4, metric) for index, metric in ((3, 700), (2, 100), (4, 1), (5, 1), (6, 1))),
        DefaultRoute(2, 6, 1024),
        DefaultRoute(8, 6, 1024),
    ),
)


def names(now: Connections, wanted: Wanted, present: dict[str, PathConfig] | None = None) -> list[str]:
    return [path.name for path in select(now, wanted, present or {})]


def test_what_has_a_global_address_and_a_default_route() -> None:
    found = select(HOME, replace(AUTO, own={"tun0"}), {})
    assert [(path.name, path.interface, path.sources) for path in found] == [
        ("eth0", "eth0", ("192.0.2.10", "2001:db8::10")),
        ("wwan0", "wwan0", ("198.51.100.7",)),
        ("six", "six", ("2001:db8:8::1",)),
    ]
    assert {(path.origin, path.up, path.server) for path in found} == {("system", 7, BASE.server)}
    assert "tun0" in names(HOME, AUTO), "only the tunnel's own one is left out"


def test_nothing_without_auto() -> None:
    assert select(HOME, Wanted(MultipathConfig(), BASE), {}) == []


def test_patterns_and_most() -> None:
    rules = MultipathConfig(auto=True, exclude=("e*", "tun?"), most=2)
    assert names(HOME, replace(AUTO, rules=rules)) == ["docker0", "wwan0"]


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (PathConfig("dsl", BASE.server, interface="eth0"), ["wwan0", "six"]),
        (PathConfig("dsl", BASE.server, source="198.51.100.7"), ["eth0", "six"]),
        (PathConfig("dsl", BASE.server), ["eth0", "wwan0", "six"]),
        (PathConfig("wwan0", BASE.server, source="203.0.113.200"), ["eth0", "wwan0-auto", "six"]),
    ],
)
def test_configured_paths_keep_their_interfaces_and_names(path: PathConfig, left: list[str]) -> None:
    # without interface and source a path takes the best default route: here that of tun0, which is the last of metric 1
    rules = MultipathConfig(auto=True, exclude=("docker*", "tun*"))
    assert names(HOME, replace(AUTO, rules=rules, configured=(path,))) == left


def test_the_kernels_choice_is_the_best_default_route() -> None:
    now = replace(HOME, routes=(DefaultRoute(3, 4, 700), DefaultRoute(2, 4, 100)))
    assert names(now, replace(AUTO, configured=(PathConfig("dsl", BASE.server),))) == ["wwan0"]


def test_what_is_in_use_keeps_its_place_and_address() -> None:
    one = replace(AUTO, own={"tun0"}, rules=MultipathConfig(auto=True, most=1))
    [lte] = [path for path in select(HOME, replace(AUTO, own={"tun0"}), {}) if path.name == "wwan0"]
    assert names(HOME, one) == ["eth0"]
    assert names(HOME, one, {"wwan0": lte}) == ["wwan0"]
    more = replace(HOME, addresses=(LocalAddress(3, ip_address("198.51.100.6")), *HOME.addresses))
    assert [path.source for path in select(more, one, {"wwan0": lte})] == ["198.51.100.7"]
    assert [path.source for path in select(more, replace(one, own={"tun0", "eth0"}), {})] == ["198.51.100.6"]


def test_a_lasting_address_is_better_than_a_temporary_one() -> None:
    brief = LocalAddress(8, ip_address("2001:db8:8::77"), lasting=False)
    now = replace(HOME, addresses=(brief, *HOME.addresses))
    assert [path.source for path in select(now, AUTO, {}) if path.name == "six"] == ["2001:db8:8::1"]


@pytest.mark.parametrize(
    ("interface", "source", "lacks"),
    [
        ("eth0", "", ""),
        ("eth0", "192.0.2.10", ""),
        ("", "192.0.2.10", ""),
        ("", "127.0.0.1", ""),
        ("", "", ""),
        ("wlan0", "", "the interface wlan0 is missing"),
        ("eth1", "", "the interface eth1 is down or not connected"),
        ("", "203.0.113.9", "203.0.113.9 is no address of this machine"),
        ("wwan0", "192.0.2.10", "192.0.2.10 is no address of wwan0"),
        ("", "192.0.2.99", "192.0.2.99 is no address of this machine"),
    ],
)
def test_what_a_configured_path_misses(interface: str, source: str, lacks: str) -> None:
    assert missing(HOME, PathConfig("dsl", BASE.server, source, interface=interface)) == lacks
