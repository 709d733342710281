"""Every way in for programs, with real processes: both proxies, rules, forwards in both directions."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.net.appliances import Pair, Process, curl, free_port, make_pair, origin, wait_for
from tests.net.conftest import furnish
from tests.net.test_death import standby

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"),
]

BLOB = random.Random(7).randbytes(300_000)


def reconfigure(process: Process, **sections: object) -> None:
    """Add sections to a configuration that is not read yet; None removes one."""
    config = {**yaml.safe_load(process.config_file.read_text()), **sections}
    config = {name: value for name, value in config.items() if value is not None}
    process.config_file.write_text(yaml.safe_dump(config))


@dataclass
class Site:
    """A pair with every way in, and an origin behind it."""

    pair: Pair
    origin: int
    both: int
    """Port of SOCKS5 and HTTP together, without a password."""
    http: int
    forward: int
    reverse: int
    direct: int
    """Port of an origin that the client reaches without the tunnel."""
    echo: int
    """UDP port that answers with what it gets, and a plus sign."""
    udp_forward: int
    udp_reverse: int


@contextmanager
def udp_echo() -> Iterator[int]:
    """Answer every datagram with itself and a plus sign; yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (got := sock.recvfrom(65536))[0]:  # an empty datagram ends it
                sock.sendto(got[0] + b"+", got[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def answered(sock: socket.socket, data: bytes, to: tuple[str, int]) -> bytes:
    """Send until an answer comes: datagrams may be lost."""
    sock.settimeout(0.5)
    for _ in range(60):
        sock.sendto(data, to)
        with suppress(TimeoutError):
            return sock.recv(65536)
    raise AssertionError("no answer within 30 s")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("proxies")
    pair = make_pair(folder, furnish(folder, certificate), free_port(socket.SOCK_DGRAM))
    http, forward, reverse = (free_port(socket.SOCK_STREAM) for _ in range(3))
    udp_forward, udp_reverse = (free_port(socket.SOCK_DGRAM) for _ in range(2))
    with ExitStack() as stack:
        echo = stack.enter_context(udp_echo())
        target = stack.enter_context(origin(BLOB))
        direct = stack.enter_context(origin(BLOB[::-1]))
        reconfigure(pair.server, reverse={"allow": {"alice": f"tcp/127.0.0.1:{reverse}, udp/127.0.0.1:{udp_reverse}"}})
        # The server may reach the one origin only, so what arrives at the other did not go through it.
        rules = [f"allow(127.0.0.0/8, tcp/{target})", f"allow(127.0.0.0/8, udp/{echo})", "reject(all, tcp/79)"]
        reconfigure(pair.server, acl={"inline": rules})
        reconfigure(
            pair.client,
            http={"listen": f"127.0.0.1:{pair.socks}"},
            tcpForwarding=[{"listen": f"127.0.0.1:{forward}", "remote": f"127.0.0.1:{target}"}],
            reverse=[
                {"listen": f"127.0.0.1:{reverse}", "target": f"127.0.0.1:{target}"},
                {"listen": "0.0.0.0:8", "target": "127.0.0.1:1"},
                {"listen": f"127.0.0.1:{udp_reverse}", "protocol": "udp", "target": f"127.0.0.1:{echo}"},
            ],
            udpForwarding=[{"listen": f"127.0.0.1:{udp_forward}", "remote": f"127.0.0.1:{echo}"}],
            acl={"inline": [f"direct(127.0.0.1, tcp/{direct})", "reject(suffix:reject.test)"]},
        )
        stack.callback(lambda: print(pair.logs()))  # noqa: T201 - pytest shows it when a test fails
        stack.callback(pair.kill)
        pair.start()
        yield Site(pair, target, pair.socks, http, forward, reverse, direct, echo, udp_forward, udp_reverse)


@pytest.fixture(scope="module")
def locked(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Yield a second client of the same server, whose proxies are on two ports and ask for passwords."""
    folder = tmp_path_factory.mktemp("locked")
    config = yaml.safe_load(site.pair.client.config_file.read_text())
    client = Process(folder, "client", {**config, "tcpForwarding": [], "udpForwarding": [], "reverse": []})
    reconfigure(
        client,
        socks5={"listen": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}", "username": "s", "password": "socks"},
        http={"listen": f"127.0.0.1:{site.http}", "username": "h", "password": "http: ü", "realm": "the office"},
        acl=None,
    )
    client.start()
    try:
        client.wait_ready()
        yield client
    finally:
        client.kill()
        print(client.log)  # noqa: T201


def proxies(port: int) -> list[list[str]]:
    where = f"127.0.0.1:{port}"
    return [
        ["--socks5", where],
        ["--socks5-hostname", where],
        ["--proxy", f"http://{where}"],
        ["--proxy", f"http://{where}", "--proxytunnel"],
    ]


@pytest.mark.parametrize("way", range(4), ids=["socks5", "socks5h", "http", "connect"])
def test_both_proxies_on_one_port(site: Site, tmp_path: Path, way: int) -> None:
    loaded = curl(*proxies(site.both)[way], f"http://127.0.0.1:{site.origin}/blob")
    assert loaded.stdout == BLOB, loaded.stderr
    (tmp_path / "up").write_bytes(BLOB)
    stored = curl(*proxies(site.both)[way], "-T", str(tmp_path / "up"), f"http://127.0.0.1:{site.origin}/up")
    assert len(stored.stdout) == 64, stored.stderr


def test_passwords(site: Site, locked: Process) -> None:
    url = f"http://127.0.0.1:{site.origin}/blob"
    socks = yaml.safe_load(locked.config_file.read_text())["socks5"]["listen"]
    http = f"http://127.0.0.1:{site.http}"
    for tunnel in ([], ["--proxytunnel"]):
        right = curl("--proxy", http, "--proxy-user", "h:http: ü", *tunnel, url)
        assert right.stdout == BLOB, right.stderr
        for user in ([], ["--proxy-user", "h:wrong"], ["--proxy-user", "x:http: ü"]):
            wrong = curl("--proxy", http, "-w", "%{http_code} %{http_connect}", *user, *tunnel, url)
            assert wrong.returncode in (22, 56), wrong.stderr
            assert b"407" in wrong.stdout, "the proxy, or its answer to CONNECT"
    negotiated = curl("--proxy", http, "--proxy-anyauth", "--proxy-user", "h:http: ü", url)
    assert negotiated.stdout == BLOB, negotiated.stderr
    assert curl("--socks5", socks, "--proxy-user", "s:socks", url).stdout == BLOB
    assert curl("--socks5", socks, "--proxy-user", "s:http: ü", url).returncode == 97
    assert "http: ü" not in locked.log


def refused_by_http(site: Site, url: str, *arguments: str) -> str:
    """Return what the proxy says about a target."""
    command = ["--proxy", f"http://127.0.0.1:{site.both}", "--no-fail", "-i", *arguments, url]
    return curl(*command).stdout.decode()


def test_errors_can_be_read(site: Site) -> None:
    closed = free_port(socket.SOCK_STREAM)
    assert refused_by_http(site, "http://no-such-host.invalid/").startswith("HTTP/1.1 502 ")
    answer = refused_by_http(site, f"http://127.0.0.1:{closed}/")
    assert answer.startswith("HTTP/1.1 403 "), "the server's list"
    assert "VANTUN: 127.0.0.1:" in answer
    assert refused_by_http(site, f"http://127.0.0.1:{site.both}/x", "--noproxy", "*").startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1",
        "localhost:1",
        "0x7f000001:1",
        "169.254.169.254",
        "10.1.2.3",
        "192.168.1.1:22",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]:1",
        "0.0.0.0:1",
        "8.8.8.8:79",
    ],
)
def test_what_the_server_refuses_by_default(site: Site, host: str) -> None:
    assert refused_by_http(site, f"http://{host}/").startswith("HTTP/1.1 403 ")
    socks = curl("--socks5-hostname", f"127.0.0.1:{site.both}", f"http://{host}/")
    assert socks.returncode == 97
    assert b"(2)" in socks.stderr, "connection not allowed by ruleset"


def test_rules_of_the_client(site: Site) -> None:
    before = site.pair.client.status()["access"]
    for proxy in proxies(site.both):
        assert curl(*proxy, f"http://127.0.0.1:{site.direct}/x").stdout == BLOB[::-1]
    for name in ("reject.test", "a.REJECT.test."):
        assert refused_by_http(site, f"http://{name}/").startswith("HTTP/1.1 403 ")
    after = site.pair.client.status()["access"]
    assert after["passed"] - before["passed"] == len(proxies(site.both))
    assert after["rejected"] - before["rejected"] == 2


def test_a_direct_connection_half_closes_and_resets(site: Site) -> None:
    """By the second rule's port: SOCKS5 by hand, to an origin that wants the whole request before it answers."""

    async def scenario() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.both)
        port = site.direct.to_bytes(2, "big")
        writer.write(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + port + b"GET / HTTP/1.0\r\n\r\n")
        writer.write_eof()
        assert (await reader.readexactly(12))[3] == 0
        assert (await reader.read()).endswith(BLOB[::-1])
        writer.close()

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_a_tcp_forward(site: Site) -> None:
    loaded = curl(f"http://127.0.0.1:{site.forward}/x")
    assert loaded.stdout == BLOB, loaded.stderr


def test_a_reverse_forward(site: Site) -> None:
    wait_for(lambda: site.pair.server.status()["reverse"], "the server listens")
    loaded = curl(f"http://127.0.0.1:{site.reverse}/x")
    assert loaded.stdout == BLOB, loaded.stderr
    wait_for(lambda: "not in the server's" in site.pair.client.status()["reverse"][1]["state"], "the other is refused")
    assert site.pair.client.status()["reverse"][0]["state"] == f"listening on port {site.reverse}"
    assert {entry["user"] for entry in site.pair.server.status()["reverse"]} == {"alice"}
    assert {entry["protocol"] for entry in site.pair.server.status()["reverse"]} == {"tcp", "udp"}


def test_udp_forwards_both_ways(site: Site) -> None:
    wait_for(lambda: len(site.pair.server.status()["reverse"]) == 2, "the server listens for both")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for port in (site.udp_forward, site.udp_reverse):
            for size in (1, 1000, 9000):
                assert answered(sock, b"x" * size, ("127.0.0.1", port)) == b"x" * size + b"+"


@pytest.mark.parametrize("host", [b"\x01\x7f\x00\x00\x01", b"\x03\x09localhost"])
def test_udp_associate(site: Site, host: bytes) -> None:
    with socket.create_connection(("127.0.0.1", site.both)) as control:
        control.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
        told = _exactly(control, 12)
        assert told[:6] == b"\x05\x00\x05\x00\x00\x01"
        relay = (socket.inet_ntoa(told[6:10]), int.from_bytes(told[10:], "big"))
        assert relay[0] == "127.0.0.1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            head = bytes(3) + host + site.echo.to_bytes(2, "big")
            answer = answered(sock, head + b"hello", relay)
            assert answer == bytes(3) + b"\x01\x7f\x00\x00\x01" + site.echo.to_bytes(2, "big") + b"hello+"
        assert site.pair.client.status()["access"]["udp_associations"] == 1
    wait_for(lambda: not site.pair.client.status()["access"]["udp_associations"], "it ends with its TCP connection")


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := sock.recv(size - len(data))):
        data += part
    return data


def test_programs_that_say_nothing_harm_nobody(site: Site) -> None:
    with ExitStack() as stack:
        for number in range(300):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", site.both)))
            idle.sendall(b"GET http://a"[: number % 13])
        assert curl("--proxy", f"http://127.0.0.1:{site.both}", f"http://127.0.0.1:{site.origin}/x").stdout == BLOB
        assert site.pair.client.status()["socks5"]["in_handshake"] >= 300


@pytest.mark.parametrize("role", ["client", "server"])
def test_udp_forwards_outlive_a_worker(site: Site, role: str) -> None:
    victim = getattr(site.pair, role)
    standby(victim)
    before = victim.worker
    os.kill(before, signal.SIGKILL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number, port in enumerate((site.udp_forward, site.udp_reverse)):
            assert answered(sock, b"after it %d" % number, ("127.0.0.1", port)).startswith(b"after it ")
    wait_for(lambda: victim.worker not in (0, before), "another worker serves")


def test_a_server_that_comes_back_listens_again(site: Site) -> None:
    """Last in this module: it restarts the server."""
    assert site.pair.server.terminate() == 0
    site.pair.server.start()
    site.pair.server.wait_ready()
    wait_for(lambda: curl(f"http://127.0.0.1:{site.reverse}/x").stdout == BLOB, "the reverse forward works again", 90)
