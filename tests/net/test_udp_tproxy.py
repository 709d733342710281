"""UDP of a host behind a gateway, caught by nft's tproxy: it speaks to the world, and the world answers it.

Three network namespaces: a host, a gateway with both ends of a tunnel in virtual time, and an origin. One process,
whose sockets stay in the namespace in which they were made.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from drivers.linux.transparent import transparent_socket
from drivers.shared import SharedPage
from tests.unit.vantun.dataplane.test_udp_judge import Judged
from tests.unit.vantun.dataplane.udp_lab import UdpLab, waiting
from vantun.control.udp_ends import bind_tproxies
from vantun.lab.network import SESSION
from vantun.udp_messages import NO_PEER, PORTS, CloseUdp, OpenUdp, UdpAction, UdpKind

_CLONE_NEWNET = 0x40000000
NFT = """table inet vantun {{ chain prerouting {{ type filter hook prerouting priority mangle;
iifname {{ "inner", "lo" }} meta l4proto udp tproxy ip to :{port} meta mark set 1 accept
iifname {{ "inner", "lo" }} meta l4proto udp tproxy ip6 to :{port} meta mark set 1 accept
}}
}}
"""
LOOP = """table inet loop { chain output { type route hook output priority mangle;
oifname "uplink" meta l4proto udp udp dport 54 meta mark set 1
}
}
"""
"""Leads what the gateway itself sends to one port back to it."""


def run(*words: str) -> str:
    """Run a command; return what it prints."""
    return subprocess.run(words, check=True, capture_output=True, timeout=30).stdout.decode()


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Have this thread's new sockets made in a namespace."""
    calls = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if calls.setns(there, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        calls.setns(home, _CLONE_NEWNET)
        os.close(there)
        os.close(home)


class Site:
    """Host, gateway and origin."""

    def __init__(self) -> None:
        tag = f"{os.getpid()}-{secrets.token_hex(2)}"
        self.host, self.gateway, self.origin = (f"vu-{part}-{tag}" for part in ("host", "gate", "orig"))

    def build(self) -> None:
        for name in (self.host, self.gateway, self.origin):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        self._wire(self.host, "outer", self.gateway, "inner", ("10.77.0.2", "10.77.0.1", "fd77::2", "fd77::1"))
        self._wire(
            self.origin, "world", self.gateway, "uplink", ("198.51.100.7", "198.51.100.1", "2001:db8::7", "2001:db8::1")
        )
        for family, gateway in (("-4", "10.77.0.1"), ("-6", "fd77::1")):
            run("ip", "-n", self.host, family, "route", "add", "default", "via", gateway)
            run("ip", "-n", self.gateway, family, "rule", "add", "fwmark", "1", "lookup", "100")
            run("ip", "-n", self.gateway, family, "route", "add", "local", "default", "dev", "lo", "table", "100")

    def _wire(self, left: str, here: str, right: str, there: str, addresses: tuple[str, str, str, str]) -> None:
        run("ip", "-n", left, "link", "add", here, "type", "veth", "peer", "name", there, "netns", right)
        for name, device, four, six in ((left, here, *addresses[::2]), (right, there, *addresses[1::2])):
            run("ip", "-n", name, "address", "add", f"{four}/24", "dev", device)
            run("ip", "-n", name, "address", "add", f"{six}/64", "dev", device, "nodad")
            run("ip", "-n", name, "link", "set", device, "up")
        for name, device, other, beyond, known in (
            (left, here, right, there, addresses[1::2]),
            (right, there, left, here, addresses[::2]),
        ):
            # known for ever: virtual time does not wait for a neighbour to be found
            link = run("ip", "-n", other, "-o", "link", "show", beyond)
            lladdr = link.partition("link/ether ")[2].split()[0]
            for address in known:
                run("ip", "-n", name, "neigh", "replace", address, "lladdr", lladdr, "dev", device, "nud", "permanent")

    def catch(self, port: int) -> None:
        """Bring the host's UDP to ``port`` of the gateway."""
        self.filter(NFT.format(port=port))

    def filter(self, rules: str) -> None:
        """Give the gateway more rules."""
        subprocess.run(
            ["ip", "netns", "exec", self.gateway, "nft", "-f", "-"],
            input=rules.encode(),
            check=True,
            capture_output=True,
            timeout=30,
        )

    def remove(self) -> None:
        for name in (self.host, self.gateway, self.origin):
            with suppress(subprocess.SubprocessError):
                run("ip", "netns", "delete", name)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    try:
        try:
            made.build()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs root and network namespaces: {error}")
        yield made
    finally:
        made.remove()


def bound(where: str, host: str, port: int) -> socket.socket:
    with inside(where):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, port))
        sock.settimeout(0)
        return sock


@pytest.mark.parametrize(
    ("inner", "listen", "origin"), [("10.77.0.2", "0.0.0.0", "198.51.100.7"), ("fd77::2", "::", "2001:db8::7")]
)
def test_a_host_behind_the_gateway_is_answered_by_whom_it_asked(
    site: Site, inner: str, listen: str, origin: str
) -> None:
    with bound(site.host, inner, 0) as program, bound(site.origin, origin, 53) as dns, inside(site.gateway):
        second = bound(site.origin, origin, 54)
        lab = UdpLab()
        caught = transparent_socket(listen, 0, listening=True)
        site.catch(caught.getsockname()[1])
        lab.near.serve(OpenUdp(1, SESSION, UdpKind.TPROXY, "", NO_PEER, 60.0, 8), caught)
        for server, port in ((dns, 53), (second, 54)):
            program.sendto(b"who?", (origin, port))
            question, source = lab.until(server)[0]
            assert question == b"who?"
            server.sendto(b"me, on port %d" % port, source)
            assert lab.until(program) == [(b"me, on port %d" % port, (origin, port))]
        assert lab.near.snapshot()["sources"] == 1
        assert [(ask.host, ask.port) for ask in lab.asked] == [(origin, 53), (origin, 54)]
        lab.near.serve(CloseUdp(1), None)
        lab.close()
        second.close()


@pytest.mark.parametrize(
    ("inner", "listen", "origin", "gateway"),
    [("10.77.0.2", "0.0.0.0", "198.51.100.7", "198.51.100.1"), ("fd77::2", "::", "2001:db8::7", "2001:db8::1")],
)
def test_what_goes_past_the_tunnel_is_answered_by_whom_it_asked_too(
    site: Site, inner: str, listen: str, origin: str, gateway: str
) -> None:
    with bound(site.host, inner, 0) as program, bound(site.origin, origin, 53) as dns, inside(site.gateway):
        lab = Judged()
        lab.verdicts = {origin: UdpAction.DIRECT}
        caught = transparent_socket(listen, 0, listening=True)
        site.catch(caught.getsockname()[1])
        lab.near.serve(OpenUdp(1, SESSION, UdpKind.TPROXY, "", NO_PEER, 60.0, 8), caught)
        program.sendto(b"who?", (origin, 53))
        question, source = lab.until(dns)[0]
        assert (question, source[0]) == (b"who?", gateway)
        dns.sendto(b"me", source)
        assert lab.until(program) == [(b"me", (origin, 53))]
        assert lab.far.snapshot()["associations"] == 0
        site.filter(LOOP)
        program.sendto(b"round and round?", (origin, 54))
        lab.settle()
        assert lab.near.snapshot()["sources"] == 1, "its own datagram is no new source"
        assert lab.drops(lab.near) == {"foreign": 1}
        lab.near.serve(CloseUdp(1), None)
        lab.close()


def test_several_workers_share_the_sources_and_know_each_others_datagrams(site: Site) -> None:
    count, origin = 24, "198.51.100.7"
    programs = [bound(site.host, "10.77.0.2", 0) for _ in range(count)]
    with bound(site.origin, origin, 53) as dns, inside(site.gateway), SharedPage.create(np.uint8, (PORTS,)) as page:
        labs = [Judged(), Judged()]
        group = bind_tproxies("0.0.0.0", 0, len(labs))
        site.catch(group[0].getsockname()[1])
        for worker, (lab, caught) in enumerate(zip(labs, group, strict=True)):
            lab.verdicts = {origin: UdpAction.DIRECT}
            lab.near.judge.ports.share(worker, [page.fd])
            lab.near.serve(OpenUdp(1, SESSION, UdpKind.TPROXY, "", NO_PEER, 60.0, count), caught)
        for program in programs:
            program.sendto(b"who?", (origin, 53))
            for lab in labs:
                lab.settle(0.05)
            ((question, source),) = waiting(dns)
            dns.sendto(question, source)
            for lab in labs:
                lab.settle(0.05)
            assert waiting(program) == [(b"who?", (origin, 53))]
        sources = [int(str(lab.near.snapshot()["sources"])) for lab in labs]
        assert sum(sources) == count
        assert min(sources) > 0, "2 ** -23 that one worker gets none"
        site.filter(LOOP)
        for program in programs:
            program.sendto(b"round and round?", (origin, 54))
            for lab in (*labs, *labs):  # what one has sent may be the other's
                lab.settle(0.05)
        assert [lab.near.snapshot()["sources"] for lab in labs] == sources, "their own datagrams are no new sources"
        assert sum(lab.drops(lab.near).get("foreign", 0) for lab in labs) == count
        for lab in labs:
            lab.near.serve(CloseUdp(1), None)
            lab.close()
        assert not page.array.any()
    for program in programs:
        program.close()
