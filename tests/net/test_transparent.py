"""Connections that nft diverts: TPROXY and REDIRECT, IPv4 and IPv6, and what would loop.

Two namespaces, a host and its gateway. The gateway's listener runs in this process, inside the namespace; what the
tunnel would carry is answered here with the target's name.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.net.namespaces import Host, hosts, link
from tests.netns import inside, ip, why_not
from vantun.acl import AccessList, Guard
from vantun.config_kinds import Endpoint
from vantun.control.dialer import Dialer
from vantun.control.listeners import Listener, Place
from vantun.control.resolver import Resolver
from vantun.control.transparent import Transparent
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed: apt-get install nftables"),
]

PORT = 2500
WORLD = [("198.51.100.7", 80), ("2001:db8:9::7", 443)]
"""Targets that no host of the test has."""
TPROXY = """table inet t {
chain pre { type filter hook prerouting priority mangle; policy accept;
iifname "INNER" meta l4proto tcp tproxy ip to :PORT meta mark set 1 accept
iifname "INNER" meta l4proto tcp tproxy ip6 to :PORT meta mark set 1 accept
}
}"""
REDIRECT = """table inet r {
chain pre { type nat hook prerouting priority dstnat; policy accept;
iifname "INNER" ip daddr 198.51.100.0/24 meta l4proto tcp redirect to :PORT
iifname "INNER" ip6 daddr 2001:db8:9::/48 meta l4proto tcp redirect to :PORT
}
chain out { type nat hook output priority -100; policy accept;
ip daddr 198.51.100.0/24 meta l4proto tcp redirect to :PORT
}
}"""


@pytest.fixture
def site() -> Iterator[tuple[Host, Host, str]]:
    """Yield a host, its gateway, and the gateway's interface towards it."""
    with hosts(2) as (host, gateway):
        _, inner = link(host, gateway, ["10.77.0.2/24", "fd77::2/64"], ["10.77.0.1/24", "fd77::1/64"])
        for family, via in (("-4", "10.77.0.1"), ("-6", "fd77::1")):
            ip("-n", host.name, family, "route", "add", "default", "via", via)
            ip("-n", gateway.name, family, "route", "add", "default", "dev", inner)
            ip("-n", gateway.name, family, "rule", "add", "fwmark", "1", "lookup", "100")
            ip("-n", gateway.name, family, "route", "add", "local", "default", "dev", "lo", "table", "100")
        yield host, gateway, inner


def divert(gateway: Host, rules: str, inner: str) -> None:
    rules = rules.replace("INNER", inner).replace("PORT", str(PORT))
    subprocess.run([*gateway.enter, "nft", "-f", "-"], input=rules, text=True, check=True, timeout=30)


def answer(host: Host, target: tuple[str, int]) -> bytes:
    """Connect from a namespace and return what comes back; empty when it is closed without a word."""
    with inside(host.name):
        sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
    with sock:
        sock.settimeout(20)
        sock.connect(target)
        data = b""
        try:
            while part := sock.recv(100):
                data += part
        except ConnectionResetError:
            return data
        return data


async def name_target(target: Endpoint, sock: socket.socket, _reply: StreamReply, _first: bytes) -> RefusalCode | None:
    await asyncio.get_running_loop().sock_sendall(sock, str(target).encode())
    sock.close()
    return None


Ask = Callable[[Host, tuple[str, int]], Awaitable[bytes]]


def play(
    gateway: Host, scenario: Callable[[Listener, Ask], Awaitable[None]], *rules: str, redirected: bool = False
) -> None:
    async def run() -> None:
        dialer = Dialer(AccessList.parse(rules, Guard.NONE), Resolver(), name_target)
        place = Place("tcpTProxy.listen", Endpoint("", PORT), transparent=not redirected)
        listener = await Listener.start(place, Resolver(), Transparent(dialer, redirected=redirected).serve)

        async def ask(host: Host, target: tuple[str, int]) -> bytes:
            return await asyncio.to_thread(answer, host, target)

        try:
            async with asyncio.timeout(60):
                await scenario(listener, ask)
        finally:
            await listener.close()
            await dialer.close()

    with inside(gateway.name):
        asyncio.run(run())


@pytest.mark.parametrize("redirected", [False, True], ids=["tproxy", "redirect"])
def test_the_target_is_what_the_program_wanted(site: tuple[Host, Host, str], redirected: bool) -> None:
    host, gateway, inner = site
    divert(gateway, REDIRECT if redirected else TPROXY, inner)

    async def scenario(listener: Listener, ask: Ask) -> None:
        for target in WORLD:
            assert await ask(host, target) == str(Endpoint(*target)).encode()
        assert listener.failed == 0
        # From the gateway itself nothing is diverted to these: they would lead back to the proxy.
        for own in ("127.0.0.1", "::1", "10.77.0.1"):
            assert await ask(gateway, (own, PORT)) == b""
        assert listener.failed == 3

    play(gateway, scenario, redirected=redirected)


def test_a_direct_connection_that_is_led_back(site: tuple[Host, Host, str], caplog: pytest.LogCaptureFixture) -> None:
    """The firewall redirects what the gateway sends, the client's own connections included."""
    host, gateway, inner = site
    divert(gateway, REDIRECT, inner)
    caplog.set_level("INFO")

    async def scenario(listener: Listener, ask: Ask) -> None:
        assert await ask(host, WORLD[0]) == b""
        while listener.failed < 1:
            await asyncio.sleep(0.01)
        assert (listener.accepted, listener.failed) == (2, 1)
        assert "it is this client's own" in caplog.text

    play(gateway, scenario, "direct(all)", redirected=True)


def test_rules_hold(site: tuple[Host, Host, str]) -> None:
    host, gateway, inner = site
    divert(gateway, TPROXY, inner)

    async def scenario(listener: Listener, ask: Ask) -> None:
        assert await ask(host, WORLD[0]) == b""
        assert await ask(host, WORLD[1]) == str(Endpoint(*WORLD[1])).encode()
        assert listener.failed == 1

    play(gateway, scenario, "reject(198.51.100.0/24)")
