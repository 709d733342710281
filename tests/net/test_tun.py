"""What programs do through the TUN of real appliances, in namespaces: a client with everything in the tunnel."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net import services
from tests.net.appliances import wait_for
from tests.net.tun_town import EVERYTHING, SERVER, TARGET, TARGET6, Client, Town, town
from tests.netns import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

NO_OFFLOAD = {"mtu": 1400, "offload": False}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Town]:
    """Yield a running server with NAT, alice with superpackets and bob without; the target serves everything."""
    folder = tmp_path_factory.mktemp("town")
    sections = {"alice": EVERYTHING, "bob": {**EVERYTHING, **NO_OFFLOAD}}
    with town(folder, certificate, {}, sections) as made:
        made.target.serve("services", str(folder), TARGET, TARGET6)
        made.target.spawn("iperf3", "-s")
        try:
            made.start()
            yield made
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when a test fails


@pytest.fixture(params=["alice", "bob"])
def client(request: pytest.FixtureRequest, place: Town) -> Client:
    return place.clients[request.param]


@pytest.fixture
def alice(place: Town) -> Client:
    return place.clients["alice"]


def test_ping_of_both_families(client: Client) -> None:
    for target in (TARGET, TARGET6, "10.9.0.1", "fd00:9::1", SERVER):
        client.host.output("ping", "-c", "3", "-i", "0.05", "-W", "5", target)


def test_http_and_dns(client: Client) -> None:
    shown = client.host.output("curl", "-sS", "--max-time", "20", f"http://{TARGET}/who")
    assert shown.strip() == "198.51.100.1", "the server's address: it has translated ours"
    for address in (TARGET, f"[{TARGET6}]"):
        page = client.host.output("curl", "-sS", "--max-time", "20", f"http://{address}/")
        assert page.encode() == services.BODY
    answer = client.host.output("dig", "+short", "+time=5", f"@{TARGET}", "www.example.org", "A")
    assert answer.strip() == TARGET


def test_a_websocket_and_http3(alice: Client) -> None:
    done = alice.host.output(sys.executable, "-m", "tests.net.programs", TARGET, TARGET6)
    assert done.split("\n")[:-1] == [
        f"{it} {address}" for address in (TARGET, TARGET6) for it in ("http3", "websocket")
    ]


def test_traceroute(alice: Client) -> None:
    shown = alice.host.output("traceroute", "-n", "-q", "1", "-w", "3", "-m", "4", TARGET)
    hops = re.findall(r"^ *\d+ +([0-9.*]+)", shown, re.MULTILINE)
    assert hops == ["10.9.0.1", TARGET], shown


@pytest.mark.parametrize("way", [(), ("-R",)], ids=["up", "down"])
@pytest.mark.parametrize("kind", [(), ("-u", "-b", "2M", "-l", "1200")], ids=["tcp", "udp"])
def test_iperf3(client: Client, kind: tuple[str, ...], way: tuple[str, ...]) -> None:
    wait_for(lambda: client.host.run("iperf3", "-c", TARGET, "-n", "1K").returncode == 0, "the iperf3 server is free")
    end = measured(client, *kind, *way)
    if kind:
        assert end["sum"]["packets"] > 100
        assert end["sum"]["lost_percent"] < 20
    else:
        assert end["sum_received"]["bytes"] > 100_000


def measured(client: Client, *options: str) -> dict[str, Any]:
    """Return the end of iperf3's report; one without it, of a server that was not free yet, is asked for again."""
    said = ""
    for _ in range(5):
        said = client.host.run("iperf3", "-J", "-c", TARGET, "-t", "1", *options).stdout
        end: dict[str, Any] = json.loads(said)["end"]
        if {"sum", "sum_received"} & end.keys():
            return end
    raise AssertionError(f"iperf3 gives no report: {said}")


def test_what_does_not_fit_is_answered_by_its_size(place: Town, alice: Client) -> None:
    mtu = place.mtu_of("alice")
    assert mtu >= 1280
    for target, head in ((TARGET, 28), (TARGET6, 48)):
        alice.host.output("ping", "-c", "1", "-W", "5", "-M", "do", "-s", str(mtu - head), target)
        done = alice.host.run("ping", "-c", "1", "-W", "5", "-M", "do", "-s", str(mtu - head + 1), target)
        assert f"mtu={mtu}" in (done.stdout + done.stderr).replace("mtu: ", "mtu=").replace("mtu = ", "mtu=")
        # the first answer in IPv6 is lost: the target learns from the server that the way back is narrower
        alice.host.output("ping", "-c", "3", "-i", "0.1", "-W", "5", "-M", "dont", "-s", "4000", target)


def test_the_tunnel_is_never_sent_into_itself(alice: Client) -> None:
    mark = str(alice.tun["mark"])
    outside = alice.host.json("ip", "-j", "route", "get", SERVER, "mark", mark)[0]["dev"]
    inside = alice.host.json("ip", "-j", "route", "get", SERVER)[0]["dev"]
    assert inside == "vantun0", "the server's address is in the tunnel for everybody else"
    assert outside != "vantun0"
    assert alice.host.json("ip", "-j", "route", "get", "192.0.2.1")[0]["dev"] == outside, "its own network is not"
    assert alice.tun["counters"]["looped"] == 0


def test_a_source_that_is_not_the_clients_is_dropped_and_counted(alice: Client) -> None:
    def dropped() -> int:
        return int(alice.tun["packets"]["dropped"]["out"].get("spoofed", 0))

    alice.host.output("ip", "address", "add", "10.9.0.99/32", "dev", "vantun0")
    try:
        before = dropped()
        alice.host.run("ping", "-c", "2", "-i", "0.05", "-W", "1", "-I", "10.9.0.99", TARGET)
        wait_for(lambda: dropped() >= before + 2, "both packets are counted")
    finally:
        alice.host.output("ip", "address", "del", "10.9.0.99/32", "dev", "vantun0")


def test_clients_do_not_reach_each_other(place: Town, alice: Client) -> None:
    bob = place.clients["bob"]
    assert alice.host.run("ping", "-c", "2", "-i", "0.05", "-W", "1", bob.address).returncode
    assert bob.host.run("ping", "-c", "2", "-i", "0.05", "-W", "1", alice.address).returncode


def test_status(place: Town, alice: Client) -> None:
    assert alice.tun["state"] == "up"
    assert {client["user"] for client in place.tun["clients"]} == {"alice", "bob"}
    assert all(client["flow"] for client in place.tun["clients"])
    assert place.tun["nat"]
    assert not place.tun["client_to_client"]
    assert place.clients["bob"].tun["mtu"] == 1400
    assert place.clients["bob"].tun["offloads"] == []
    assert not [it for it in place.process.status()["fallbacks"] if "TUN" in it["what"]]
