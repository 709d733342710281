"""Two LANs joined by their clients through one server, and what is left of all that afterwards: nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.appliances import Process, wait_for
from tests.net.namespaces import Host, route
from tests.net.tun_town import EVERYTHING, PREFIXES, SERVER, TARGET, Town, town
from tests.netns import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

SETTINGS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.src_valid_mark")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Town]:
    """Yield running clients with a LAN each, which reach each other, and nothing else goes into the tunnel."""
    folder = tmp_path_factory.mktemp("sites")
    sections = {
        user: {"announce": PREFIXES[user], "route": {"ipv4": [PREFIXES[other][0]], "ipv6": [PREFIXES[other][1]]}}
        for user, other in (("alice", "bob"), ("bob", "alice"))
    }
    with town(folder, certificate, {"clientToClient": True, "nat": False}, sections) as made:
        try:
            made.start()
            yield made
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when a test fails


def test_two_lans_reach_each_other(sites: Town) -> None:
    lan = sites.clients["alice"].lan
    for target in ("192.168.8.2", "fd08::2", "192.168.8.1"):
        lan.output("ping", "-c", "3", "-i", "0.05", "-W", "5", target)
    far = sites.clients["bob"].lan
    far.spawn("iperf3", "-s")
    wait_for(lambda: lan.run("iperf3", "-c", "192.168.8.2", "-n", "1K").returncode == 0, "the iperf3 server is there")
    result = json.loads(lan.output("iperf3", "-J", "-c", "192.168.8.2", "-t", "1"))
    assert result["end"]["sum_received"]["bytes"] > 100_000


def test_clients_reach_each_other_where_it_is_allowed(sites: Town) -> None:
    alice, bob = sites.clients["alice"], sites.clients["bob"]
    alice.host.output("ping", "-c", "2", "-i", "0.05", "-W", "5", bob.address)


def test_too_big_is_answered_by_the_machine_before_the_tunnel(sites: Town) -> None:
    mtu = sites.mtu_of("alice")
    lan = sites.clients["alice"].lan
    for target, head in (("192.168.8.2", 28), ("fd08::2", 48)):
        shown = lan.run("ping", "-c", "2", "-i", "0.05", "-W", "2", "-M", "do", "-s", "1400", target)
        assert f"mtu={mtu}" in shown.stdout.replace("mtu: ", "mtu=").replace("mtu = ", "mtu="), shown
        lan.output("ping", "-c", "1", "-W", "5", "-M", "do", "-s", str(mtu - head), target)
    route(sites.target, "192.168.7.0/24", "198.51.100.1")
    shown = sites.target.run("ping", "-c", "2", "-i", "0.05", "-W", "2", "-M", "do", "-s", "1400", "192.168.7.2")
    assert "From 198.51.100.1" in shown.stdout, "the server answers for the way to its client"
    assert f"mtu={mtu}" in shown.stdout.replace("mtu = ", "mtu="), shown
    sites.target.output("ip", "route", "del", "192.168.7.0/24")


def test_the_rest_of_the_world_is_not_in_the_tunnel(sites: Town) -> None:
    alice = sites.clients["alice"]
    assert alice.host.json("ip", "-j", "route", "get", TARGET)[0]["dev"] != "vantun0"
    assert alice.tun["accepted"] == PREFIXES["alice"]
    assert alice.tun["counters"]["looped"] == sites.tun["counters"]["looped"] == 0


def test_what_is_not_allowed_is_not_routed(sites: Town) -> None:
    clients = {client["user"]: client for client in sites.tun["clients"]}
    assert clients["alice"]["prefixes"] == PREFIXES["alice"]
    routes = sites.server.json("ip", "-j", "route", "show", "proto", "86")
    assert {entry["dst"] for entry in routes} == {
        *(PREFIXES[user][0] for user in PREFIXES),
        *(client["addresses"][0] for client in clients.values()),
    }


def left(host: Host) -> list[str]:
    """Return what is left of an appliance on a host."""
    found = [f"{name}={value}" for name in SETTINGS if (value := host.output("sysctl", "-n", name).strip()) != "0"]
    for version in ("-4", "-6"):
        found += [line for line in host.output("ip", version, "rule").splitlines() if "proto 86" in line]
        found += host.output("ip", version, "route", "show", "table", "all", "proto", "86").splitlines()
    found += host.output("nft", "list", "tables").splitlines()
    found += host.run("ip", "link", "show", "vantun0").stdout.splitlines()
    return found


def ended(process: Process, number: signal.Signals) -> None:
    process.terminate(number)


def test_nothing_is_left_and_a_crash_is_undone_by_the_next_start(tmp_path: Path, certificate: tuple[Path, str]) -> None:
    with town(tmp_path, certificate, {}, {"alice": {**EVERYTHING, "announce": PREFIXES["alice"]}}) as made:
        alice = made.clients["alice"]
        made.start()
        alice.host.output("ping", "-c", "1", "-W", "5", TARGET)
        for host in (made.server, alice.host):
            assert len(left(host)) > 4
        for process in (alice.process, made.process):
            process.terminate(signal.SIGKILL)
        wait_for(lambda: not alice.host.run("ip", "link", "show", "vantun0").stdout, "the worker has ended, too")
        for host in (made.server, alice.host):
            assert [line for line in left(host) if "vantun_vantun0" in line], "a crash leaves its table"
        made.start()
        for process in (alice.process, made.process):
            assert "did not stop in order" in process.log
        alice.host.output("ping", "-c", "1", "-W", "5", TARGET)
        assert len(alice.host.json("nft", "-j", "list", "tables")["nftables"]) == 2, "metainfo and one table"
        for process in (alice.process, made.process):
            assert process.terminate() == 0
        for host in (made.server, alice.host):
            assert left(host) == [], made.logs()
        assert alice.host.json("ip", "-j", "route", "get", SERVER)[0]["dev"] != "vantun0"
