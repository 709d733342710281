"""Machines that lack something: permission for a TUN device, the device itself, IPv6."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.net.appliances import Process, wait_for
from tests.net.conftest import furnish
from tests.net.namespaces import Host, hosts, link
from tests.net.test_life import fails
from tests.netns import inside, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

WITHOUT_PERMISSION = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
WITHOUT_DEVICE = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    ("lacking", "texts"),
    [
        (WITHOUT_PERMISSION, ("CAP_NET_ADMIN", "run as root or give")),
        (WITHOUT_DEVICE, ("/dev/net/tun", "modprobe tun")),
    ],
    ids=["permission", "device"],
)
def test_a_tun_that_this_machine_refuses(
    role: str, lacking: tuple[str, ...], texts: tuple[str, ...], tmp_path: Path, certificate: tuple[Path, str]
) -> None:
    """One clear error and exit code 1 at once, before a worker is started; nothing is tried again and again."""
    fingerprint = furnish(tmp_path, certificate)
    configs: dict[str, dict[str, Any]] = {
        "server": {
            "listen": "127.0.0.1:4433",
            "tls": {"cert": "cert.pem", "key": "key.pem"},
            "auth": {"type": "password", "password": "s3cret"},
            "tun": {"address": ["10.9.0.1/24"], "nat": False},
        },
        "client": {"server": "127.0.0.1:4433", "auth": "s3cret", "tls": {"pinSHA256": fingerprint}, "tun": {}},
    }
    with hosts(1) as (host,):
        process = host.appliance(tmp_path / role, role, configs[role])
        furnish(tmp_path / role, certificate)
        process.prefix = (*host.enter, *lacking)
        fails(process, "error: tun: ", *texts)
        assert "data worker" not in process.log
        assert process.log.count("error") == 1
        assert "vantun0" not in host.output("ip", "link")


@dataclass
class Town:
    """Two hosts without IPv6, and an appliance in each."""

    near: Host
    server: Process
    client: Process


@contextmanager
def without_ipv6(folder: Path, certificate: tuple[Path, str]) -> Iterator[Town]:
    with hosts(2) as (near, far):
        for host in (near, far):
            for name in ("all", "default", "lo"):
                host.output("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        link(near, far, ["192.0.2.1/24"], ["192.0.2.2/24"])
        fingerprint = furnish(folder, certificate)
        server = far.appliance(
            folder,
            "server",
            {
                "listen": ":443",
                "tls": {"cert": "cert.pem", "key": "key.pem"},
                "auth": {"type": "password", "password": "s3cret"},
                "acl": {"inline": ["allow(192.0.2.0/24)"]},
                "tun": {"address": ["10.9.0.1/24", "fd00:9::1/64"], "nat": False},
                "limits": {"memory": "64 MB"},
            },
        )
        client = near.appliance(
            folder / "client",
            "client",
            {
                "server": "192.0.2.2:443",
                "auth": "s3cret",
                "tls": {"pinSHA256": fingerprint},
                "socks5": {"listen": ":1080", "username": "u", "password": "p"},
                "udpForwarding": [{"listen": ":5353", "remote": "192.0.2.2:53"}],
                "acl": {"inline": ["direct(192.0.2.2, udp/54)"]},
                "tun": {"route": {"ipv4": ["198.51.100.0/24"], "ipv6": ["2001:db8::/32"]}},
                "limits": {"memory": "64 MB"},
            },
        )
        yield Town(near, server, client)


def test_hosts_without_ipv6_carry_everything_over_ipv4(tmp_path: Path, certificate: tuple[Path, str]) -> None:
    with without_ipv6(tmp_path, certificate) as town, ExitStack() as stack:
        try:
            town.server.start()
            town.client.start()
            town.server.wait_ready()
            town.client.wait_ready()
            wait_for(lambda: town.client.status().get("tun", {}).get("state") == "up", "the tunnel is up")
            tun = town.client.status()["tun"]
            assert tun["addresses"] == ["10.9.0.2/24"]
            assert "vantun0 is up with 10.9.0.2/24\n" in town.client.log
            assert "198.51.100.0/24" in town.near.output("ip", "route", "show", "table", "all")
            town.near.output("ping", "-c", "1", "-W", "5", "10.9.0.1")
            with inside(town.near.name):
                program = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                control = stack.enter_context(socket.socket())
            far = town.server.prefix[-1]
            with inside(far):
                targets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
            for target, port in zip(targets, (53, 54), strict=True):
                target.bind(("192.0.2.2", port))
                target.settimeout(10)
            program.settimeout(10)
            program.sendto(b"who?", ("127.0.0.1", 5353))
            question, source = targets[0].recvfrom(100)
            assert question == b"who?"
            targets[0].sendto(b"me", source)
            assert program.recv(100) == b"me"
            control.connect(("127.0.0.1", 1080))
            control.sendall(b"\x05\x01\x02" + b"\x01\x01u\x01p" + b"\x05\x03\x00\x01" + bytes(6))
            told = b""
            while len(told) < 14:
                told += control.recv(14 - len(told))
            assert told[:6] == b"\x05\x02\x01\x00\x05\x00"
            relay = (socket.inet_ntoa(told[8:12]), int.from_bytes(told[12:], "big"))
            program.sendto(bytes(3) + b"\x01" + socket.inet_aton("192.0.2.2") + (54).to_bytes(2, "big") + b"x", relay)
            question, source = targets[1].recvfrom(100)
            assert (question, source[0]) == (b"x", "192.0.2.1"), "it came past the tunnel"
            assert "Traceback" not in town.client.log + town.server.log
        finally:
            print(town.server.log, town.client.log)  # noqa: T201 - pytest shows it when the test fails
