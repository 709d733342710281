"""IP through the tunnel: two data planes, two kernels, real programs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from drivers.linux.tun import TCP_OFFLOADS, TunOffload
from tests.net.tun_tunnel import CLIENT, CLIENT6, SERVER, SERVER6, End, Tunnel, payload, tunnel
from tests.netns import inside, ip, why_not
from tests.unit.vantun.dataplane.worker_pair import SESSION
from vantun.acl import AccessList, Guard
from vantun.dataplane.warm import warm
from vantun.lab.network import lab_engines
from vantun.tun_messages import OpenTun, SetPacketRules, SetTunRoutes, TunFlow, TunLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    """Compile every kernel first: a lane that hears nothing for as long as that takes is dead."""
    warm(lab_engines)


@pytest.fixture
def running() -> Iterator[Tunnel]:
    with tunnel() as made:
        made.start()
        yield made


def transfer(between: Tunnel, near: End, far: End, address: str, size: int) -> None:
    """Send ``size`` bytes by TCP from one namespace to the other, and half of them back; compare."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    data = payload(size)
    with inside(far.namespace):
        listener = socket.create_server((address, 0), family=family)
    with inside(near.namespace):
        one = socket.socket(family)
    one.setblocking(False)
    listener.setblocking(False)
    assert one.connect_ex(listener.getsockname()[:2]) == errno.EINPROGRESS
    others: list[socket.socket] = []

    def accepted() -> bool:
        with suppress(BlockingIOError):
            others.append(listener.accept()[0])
        return bool(others)

    between.run(accepted)
    other = others[0]
    other.setblocking(False)
    there, back, sent, answered = bytearray(), bytearray(), 0, 0

    def done() -> bool:
        nonlocal sent, answered
        with suppress(BlockingIOError):
            sent += one.send(data[sent : sent + 262_144])
        with suppress(BlockingIOError):
            there.extend(other.recv(1 << 20))
        with suppress(BlockingIOError):
            answered += other.send(data[answered : min(answered + 262_144, size // 2)])
        with suppress(BlockingIOError):
            back.extend(one.recv(1 << 20))
        return len(there) == size and len(back) == size // 2

    between.run(done)
    for sock in (one, other, listener):
        sock.close()
    assert bytes(there) == data
    assert bytes(back) == data[: size // 2]


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_ping(running: Tunnel, address: str) -> None:
    done = running.run_program(running.client, "ping", "-c", "3", "-i", "0.2", "-W", "5", address)
    assert done.returncode == 0, done.stdout
    assert " 0% packet loss" in done.stdout


def test_a_server_pings_its_client(running: Tunnel) -> None:
    done = running.run_program(running.server, "ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", "4000", CLIENT)
    assert " 0% packet loss" in done.stdout


@pytest.mark.parametrize("offloads", [TCP_OFFLOADS, TunOffload.NONE])
@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_tcp_both_ways(address: str, offloads: TunOffload) -> None:
    with tunnel(offloads) as between:
        between.start()
        transfer(between, between.client, between.server, address, 3_000_000)
        for end in (between.client, between.server):
            for way in end.dropped.values():
                assert set(way) <= {"no_room", "multicast"}


def test_a_kernel_without_headers_carries_packets_all_the_same() -> None:
    with tunnel(TunOffload.NONE, plain=True) as between:
        assert between.client.device.plain
        assert not between.server.device.plain
        between.start()
        for address in (SERVER, SERVER6):
            transfer(between, between.client, between.server, address, 1_000_000)
        for end in (between.client, between.server):
            for way in end.dropped.values():
                assert set(way) <= {"no_room", "multicast"}


def test_tcp_while_every_twentieth_packet_is_lost(running: Tunnel) -> None:
    running.lose = 20
    transfer(running, running.server, running.client, CLIENT6, 1_000_000)


def test_udp_superpackets_arrive_as_the_packets_they_are(running: Tunnel) -> None:
    pair = []
    for end, address in ((running.client, CLIENT), (running.server, SERVER)):
        with inside(end.namespace):
            pair.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        pair[-1].bind((address, 0))
        pair[-1].setblocking(False)
    near, far = pair
    near.setsockopt(socket.IPPROTO_UDP, 103, 1000)
    data = payload(20_400)
    near.sendto(data, far.getsockname())
    got: list[bytes] = []

    def done() -> bool:
        with suppress(BlockingIOError):
            while True:
                got.append(far.recv(65_536))
        return sum(map(len, got)) == len(data)

    running.run(done)
    near.close()
    far.close()
    assert [len(each) for each in got] == [1000] * 20 + [400]
    assert b"".join(got) == data


def _send_from(end: End, source: str, target: str) -> None:
    with inside(end.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.sendto(b"it was not me", (target, 9))
    sock.close()


def test_a_forged_source_is_dropped_by_the_server_and_counted(running: Tunnel) -> None:
    ip("-n", running.client.namespace, "address", "add", "10.99.0.1/32", "dev", "vt0")
    running.client.tun.serve(SetTunRoutes(SESSION, (), ()), [])  # a client that checks nothing
    _send_from(running.client, "10.99.0.1", SERVER)
    running.run(lambda: running.server.dropped["in"].get("spoofed", 0) >= 1)
    snapshot = running.server.tun.snapshot()
    assert isinstance(snapshot["sessions"], list)
    (session,) = snapshot["sessions"]
    assert session["session"] == f"{SESSION:x}"
    assert session["in"]["dropped"] >= 1


def test_a_client_does_not_send_what_would_be_dropped(running: Tunnel) -> None:
    ip("-n", running.client.namespace, "address", "add", "10.99.0.1/32", "dev", "vt0")
    _send_from(running.client, "10.99.0.1", SERVER)
    running.run(lambda: running.client.dropped["out"].get("spoofed", 0) >= 1)
    assert "spoofed" not in running.server.dropped["in"]


def test_rules_hold_for_packets(running: Tunnel) -> None:
    rows = AccessList.parse(["reject(all, udp/9)"], Guard.NONE).packet_rules()
    running.server.tun.serve(SetPacketRules(rows), [])
    _send_from(running.client, CLIENT, SERVER)
    running.run(lambda: running.server.dropped["in"].get("acl", 0) == 1)


def test_a_device_that_goes_is_reported_and_another_takes_its_place(running: Tunnel) -> None:
    running.client.device.close()
    ip("-n", running.client.namespace, "link", "del", "vt0")
    running.run(lambda: any(isinstance(report, TunLost) for report in running.client.reports))
    lost = next(report for report in running.client.reports if isinstance(report, TunLost))
    assert (lost.number, "vt0 cannot be used" in lost.reason) == (1, True)
    with inside(running.client.namespace):
        running.client.device = type(running.client.device).open("vt1")
    ip("-n", running.client.namespace, "address", "add", f"{CLIENT}/24", "dev", "vt1")
    ip("-n", running.client.namespace, "link", "set", "vt1", "up")
    running.add_device(running.client)
    done = running.run_program(running.client, "ping", "-c", "1", "-W", "5", SERVER)
    assert done.returncode == 0, done.stdout
    running.client.device.close()


def test_a_second_flow_takes_the_place_of_the_first(running: Tunnel) -> None:
    for end in (running.client, running.server):
        end.reports.clear()
    running.open()
    assert TunFlow(SESSION, open=False, code=0) not in running.client.reports
    done = running.run_program(running.client, "ping", "-c", "1", "-W", "5", SERVER)
    assert done.returncode == 0, done.stdout


def test_without_a_device_the_server_refuses(running: Tunnel) -> None:
    ip("-n", running.server.namespace, "link", "del", "vt0")
    running.run(lambda: any(isinstance(report, TunLost) for report in running.server.reports))
    running.client.tun.serve(OpenTun(SESSION), [])
    running.run(lambda: TunFlow(SESSION, open=False, code=1) in running.client.reports)
    assert not os.get_blocking(running.client.device.fileno())


def test_a_session_that_ends_takes_its_routes_along(running: Tunnel) -> None:
    for end in (running.server, running.client):
        end.plane.end_session(SESSION, 0.0)
        end.tun.end_session(SESSION)
        snapshot = end.tun.snapshot()
        assert snapshot["sessions"] == []
        assert snapshot["prefixes"] == 0
