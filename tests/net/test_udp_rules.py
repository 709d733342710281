"""The client's rules on UDP, with real processes: one target rejected, one direct, one tunnelled, and a reload."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.net.appliances import Pair, free_port, make_pair, wait_for
from tests.net.conftest import furnish
from tests.net.test_death import standby
from tests.net.test_proxies import answered, reconfigure, udp_echo
from vantun import cli
from vantun.udp_address import encode_address

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Site:
    """A pair, and three targets that answer."""

    pair: Pair
    tunnelled: int
    direct: int
    rejected: int
    forward: int
    """Port of a forward to the direct target."""

    @property
    def counts(self) -> dict[str, Any]:
        """The client's counters of UDP flows."""
        found: dict[str, Any] = self.pair.client.status().get("udp_flows", {})
        return found

    def follow(self, *rules: str) -> None:
        """Give the client other rules while it runs."""
        reconfigure(self.pair.client, acl={"inline": list(rules)})
        assert cli.main(["reload", "--socket", str(self.pair.client.socket)]) == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("rules")
    pair = make_pair(folder, furnish(folder, certificate), free_port(socket.SOCK_DGRAM))
    forward = free_port(socket.SOCK_DGRAM)
    with ExitStack() as stack:
        tunnelled, direct, rejected = (stack.enter_context(udp_echo()) for _ in range(3))
        # The server may reach one target only: what the others answer did not come through it.
        reconfigure(pair.server, acl={"inline": [f"allow(127.0.0.0/8, udp/{tunnelled})"]})
        reconfigure(
            pair.client,
            udpForwarding=[{"listen": f"127.0.0.1:{forward}", "remote": f"127.0.0.1:{direct}"}],
            acl={
                "inline": [
                    f"reject(all, udp/{rejected})",
                    f"direct(127.0.0.0/8, udp/{direct})",
                    f"direct(localhost, udp/{direct})",
                ]
            },
        )
        stack.callback(lambda: print(pair.logs()))  # noqa: T201 - pytest shows it when a test fails
        stack.callback(pair.kill)
        pair.start()
        yield Site(pair, tunnelled, direct, rejected, forward)


@contextmanager
def associated(socks: int) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """Yield a program's socket and its relay."""
    with (
        socket.create_connection(("127.0.0.1", socks)) as control,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        control.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
        told = b""
        while len(told) < 12:
            told += control.recv(12 - len(told))
        assert told[:6] == b"\x05\x00\x05\x00\x00\x01"
        yield sock, (socket.inet_ntoa(told[6:10]), int.from_bytes(told[10:], "big"))


def ask(sock: socket.socket, relay: tuple[str, int], host: str, port: int) -> None:
    """Have a target answer through a relay."""
    text = secrets.token_hex(8).encode()
    expected = bytes(3) + encode_address("127.0.0.1", port) + text + b"+"
    answer = answered(sock, bytes(3) + encode_address(host, port) + text, relay)
    while text not in answer:  # late answers to what was asked before
        answer = sock.recv(65536)
    assert answer == expected


def test_one_association_three_targets(site: Site) -> None:
    with associated(site.pair.socks) as (sock, relay):
        before = int(site.counts["drops"]["refused"])
        sock.sendto(bytes(3) + encode_address("127.0.0.1", site.rejected) + b"hello", relay)
        wait_for(lambda: site.counts["drops"]["refused"] > before, "the rejected datagram is counted")
        seen = site.pair.server.status()["udp_flows"]
        ask(sock, relay, "127.0.0.1", site.direct)
        ask(sock, relay, "localhost", site.direct)
        after = site.pair.server.status()["udp_flows"]
        assert (after["destinations"], after["packets_out"]) == (seen["destinations"], seen["packets_out"])
        ask(sock, relay, "127.0.0.1", site.tunnelled)
        assert site.pair.server.status()["udp_flows"]["destinations"] == seen["destinations"] + 1
        direct = site.counts["direct"]
        assert direct["judged"]
        assert direct["sockets"] == 1
        assert direct["packets_out"] >= direct["packets_in"] >= 2
        assert site.pair.client.status()["udp_rules"]["rejected"] >= 1
    wait_for(lambda: site.counts["direct"]["sockets"] == 0, "the socket ends with its association")


def test_a_forward_past_the_tunnel(site: Site) -> None:
    def associations() -> int:
        return int(site.pair.server.status()["udp_flows"]["associations"])

    wait_for(lambda: associations() == 0, "what other tests associated has ended at the server, too")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert answered(sock, b"x" * 9000, ("127.0.0.1", site.forward)) == b"x" * 9000 + b"+"
        assert associations() == 0


def test_a_reload_reaches_associations_that_are_open(site: Site) -> None:
    with associated(site.pair.socks) as (sock, relay):
        ask(sock, relay, "127.0.0.1", site.tunnelled)
        ask(sock, relay, "127.0.0.1", site.direct)
        site.follow(f"reject(all, udp/{site.direct})", f"direct(127.0.0.1, udp/{site.rejected})")
        before = int(site.counts["drops"]["refused"])
        sock.sendto(bytes(3) + encode_address("127.0.0.1", site.direct) + b"hello", relay)
        wait_for(lambda: site.counts["drops"]["refused"] > before, "what was direct is rejected")
        ask(sock, relay, "127.0.0.1", site.rejected)
        ask(sock, relay, "127.0.0.1", site.tunnelled)
        site.follow()
        wait_for(lambda: not site.counts["direct"]["judged"], "without rules nothing is asked for")
        ask(sock, relay, "127.0.0.1", site.tunnelled)


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_association_outlives_a_worker(site: Site, role: str) -> None:
    site.follow(f"direct(127.0.0.0/8, udp/{site.direct})")
    victim = getattr(site.pair, role)
    standby(victim)
    with associated(site.pair.socks) as (sock, relay):
        for port in (site.tunnelled, site.direct):
            ask(sock, relay, "127.0.0.1", port)
        before = victim.worker
        os.kill(before, signal.SIGKILL)
        for port in (site.tunnelled, site.direct):
            ask(sock, relay, "127.0.0.1", port)
        wait_for(lambda: victim.worker not in (0, before), "another worker serves")
        wait_for(lambda: site.pair.client.status()["access"]["udp_associations"] == 1, "only this association is left")
