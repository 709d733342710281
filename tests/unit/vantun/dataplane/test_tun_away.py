"""Packets for a session whose flow is on another worker, slices of one session on one worker, and buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from drivers.batch import PacketBatch
from drivers.linux import tun_steering
from tests.packets import ICMP, PLAIN, TCP, UDP, packet, transport
from tests.unit.vantun.dataplane.test_tun_pump import LARGE, ONE, OUTSIDE, TWO, Town, made
from vantun.control.crew_mesh import inbox
from vantun.dataplane.handover import Handover
from vantun.dataplane.poller import Poller
from vantun.dataplane.tun_away import TunAway
from vantun.dataplane.tun_filter import judge_incoming
from vantun.dataplane.tun_parse import bucket_of, parse
from vantun.dataplane.tun_pump import EMPTY, MORE, put_handed, read_tun
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import HEAD, NO_ROOM, NO_ROUTE, OK, OUT, SPOOFED, make_tun_tables

THREE = "10.8.0.4"


@pytest.fixture
def town() -> Iterator[Town]:
    there = Town()
    there.sessions.set_routes(3, (THREE,), (), away=5)
    yield there
    there.close()


def test_a_packet_of_another_workers_session_is_kept_for_it(town: Town) -> None:
    sizes = (100, LARGE, LARGE, 1400)
    packets = [made(target, size) for size in sizes for target in (THREE, ONE)]
    town.offer(*packets)
    given = town.sessions.take_away()
    assert [worker for worker, _ in given] == [5] * len(sizes)
    assert [bytes(data) for _, data in given] == [PLAIN + each for each in packets[::2]]
    assert town.sessions.take_away() == []
    assert town.arrived(0) == packets[1::2]
    assert town.count(OUT, NO_ROUTE) == 0
    assert town.count(OUT, OK) == len(sizes), "who sends it on counts it"


def test_more_than_there_is_room_for_waits_in_the_device(town: Town) -> None:
    for _ in range(12):
        town.far.send(PLAIN + made(THREE, 60_000))
    got = 0
    for _ in range(8):
        status, _ = read_tun(town.plane.context.tables.root, town.sessions.tables, town.now)
        got += len(town.sessions.take_away())
        if status == EMPTY:
            break
        assert status == MORE
    assert got == 12


def test_what_is_handed_over_goes_by_the_flow_that_is_here(town: Town) -> None:
    packets = [made(ONE, size) for size in (100, LARGE)]
    for each in packets:
        data = np.frombuffer(b"xyz" + PLAIN + each, np.uint8).copy()
        root = town.plane.context.tables.root
        assert put_handed(root, town.sessions.tables, data, 3, len(data) - 3, town.now) == OK
    assert town.arrived(0) == packets
    data = np.frombuffer(PLAIN + made(THREE, 100), np.uint8).copy()
    root = town.plane.context.tables.root
    assert put_handed(root, town.sessions.tables, data, 0, len(data), town.now) == NO_ROUTE, "nor is it handed on"
    assert town.sessions.take_away() == []
    assert put_handed(root, town.sessions.tables, data, 0, 5, town.now) != OK


def test_a_session_that_comes_here_is_served_here(town: Town) -> None:
    town.sessions.set_routes(3, (), ())
    assert not town.sessions.any_away
    town.offer(made(THREE, 100))
    assert town.sessions.take_away() == []
    assert town.count(OUT, NO_ROUTE) == 1


def test_packets_travel_by_the_mesh(town: Town) -> None:
    poller = Poller()
    mine, theirs = inbox(), inbox()
    came: list[bytes] = []
    handover = Handover(poller, lambda _batch, _count, _number: None)
    handover.join(0, mine[0])
    handover.connect(5, theirs[1])
    away = TunAway(town.plane, town.sessions, lambda: town.now)
    away.join(handover)
    far = Handover(poller, lambda _batch, _count, _number: None)
    far.join(5, theirs[0])

    def take(batch: PacketBatch, count: int) -> None:
        places = zip(batch.offset[:count].tolist(), batch.length[:count].tolist(), strict=True)
        came.extend(batch.memory[start : start + size].tobytes() for start, size in places)

    far.take_packets = take
    packets = [made(THREE, size) for size in (60, 1400, 65_535, 60, LARGE, LARGE, LARGE)]
    away.pass_on([(5, memoryview(PLAIN + each)) for each in packets])
    away.pass_on([(6, memoryview(PLAIN + packets[0]))])
    while poller.wait(0.0):
        pass
    assert came == [PLAIN + each for each in packets]
    assert away.snapshot() == {"handed_over": len(packets), "taken_over": 0}
    assert town.count(OUT, NO_ROOM) == 1, "nobody has that number"
    for end in (handover, far):
        end.close()
    mine[1].close()
    poller.close()


def test_two_slices_of_one_session_on_one_worker_share_its_addresses() -> None:
    sessions = TunSessions()
    sessions.use_device(-1, 0x7F, client=False, client_to_client=False)
    sessions.set_routes(7, (ONE,), ())
    sessions.set_routes(99, (), (), beside=7)
    sessions.set_routes(8, (TWO,), ())
    first, second, other = (sessions.hold(number) for number in (7, 99, 8))
    data = np.zeros(HEAD, np.uint8)
    whole = PLAIN + packet(ONE, OUTSIDE)
    data[: len(whole)] = np.frombuffer(whole, np.uint8)

    def judge(slot: int) -> int:
        return int(judge_incoming(sessions.tables.root[0], data, len(whole), len(whole), slot))

    assert (judge(first), judge(second), judge(other)) == (OK, OK, SPOOFED)
    sessions.disconnect(99)
    assert judge(sessions.hold(99)) == OK
    sessions.set_routes(99, (), ())
    sessions.disconnect(99)
    assert judge(sessions.hold(99)) == SPOOFED


@pytest.mark.parametrize(
    ("made", "ports"),
    [
        (packet("10.8.0.2", "192.0.2.7", UDP, ports=(1000, 2000)), (1000, 2000)),
        (packet("10.8.0.2", "192.0.2.7", TCP, ports=(65_535, 1)), (65_535, 1)),
        (packet("10.8.0.2", "192.0.2.7", ICMP, b"12345678"), None),
        (packet("10.8.0.2", "192.0.2.7", UDP, place=0x2000), None),
        (packet("10.8.0.2", "192.0.2.7", UDP, options=bytes([1] * 8), ports=(5, 6)), (5, 6)),
        (packet("fd00::2", "2001:db8::7", TCP, ports=(443, 50_000)), (443, 50_000)),
        (packet("fd00::2", "2001:db8::7", 60, transport(UDP), options=bytes([UDP, 0, 1, 4, 0, 0, 0, 0])), None),
    ],
)
def test_a_worker_counts_the_bucket_that_the_kernel_has_chosen(made: bytes, ports: tuple[int, int] | None) -> None:
    tables, arena = make_tun_tables()
    with closing(arena):
        described = tables.root[0]["packet"][0]
        assert parse(np.frombuffer(made, np.uint8).copy(), 0, len(made), len(made), tables.root[0]["packet"][0]) == OK
        source, target = ("10.8.0.2", "192.0.2.7") if made[0] >> 4 == 4 else ("fd00::2", "2001:db8::7")
        assert bucket_of(described) == tun_steering.bucket_of(source, target, ports)
        described["source"], described["target"] = described["target"].copy(), described["source"].copy()
        assert bucket_of(described) == tun_steering.bucket_of(target, source, ports)


def test_what_passes_is_counted_by_bucket(town: Town) -> None:
    page = np.zeros_like(town.sessions.tables.buckets)
    town.sessions.count_by(page)
    town.offer(made(ONE, 100), made(ONE, LARGE), made(THREE, 100))
    town.sessions.take_away()
    bucket = tun_steering.bucket_of(OUTSIDE, ONE, (1000, 2000))
    assert page[bucket].tolist() == [2, 100 + LARGE, 0, 0]
    assert page.sum() == page[bucket].sum()
