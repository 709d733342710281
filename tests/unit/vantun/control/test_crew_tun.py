"""The queues of a TUN: which worker each bucket of flows goes to, who knows whose routes, and who is relieved when."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.errors import SystemCallError
from drivers.linux.tun_steering import IPNetwork, TunSteering
from vantun.control.bucket_row import Buckets
from vantun.control.busy import BusyTimes
from vantun.control.crew_buckets import HOLD, LOOKS, Move, Thief
from vantun.control.crew_routes import CrewRoutes
from vantun.control.crew_tun import CrewTun
from vantun.control.slices import Slice
from vantun.tun_messages import BUCKET_NUMBERS, BUCKETS, SetTunRoutes


def refuse(_descriptor: int, _row: object) -> TunSteering:
    raise SystemCallError("loading a program", errno.EPERM, "be root")


def test_a_kernel_that_chooses_has_the_queues_that_a_session_can_use() -> None:
    async def run() -> list[tuple[int, bool]]:
        used: list[tuple[int, bool]] = []
        tun = CrewTun((10, 11, 12), use=lambda descriptor, wanted: used.append((descriptor, wanted)), steer=refuse)
        assert "Operation not permitted" in tun.reason
        for session, workers in ((1, (0, 2)), (2, (0, 1))):
            for worker in workers:
                tun.flow(session, worker, is_open=True)
            tun.settle()
        tun.forget(2)
        tun.settle()
        tun.lost(2)
        tun.close()
        return used

    assert asyncio.run(run()) == [(12, True), (11, True), (11, False), (12, False)]


class Program:
    """Stands where TunSteering would, and keeps its tables."""

    def __init__(self, _descriptor: int, row: Sequence[int]) -> None:
        self.rows = {0: list(row)}
        self.routes: dict[object, int] = {}

    def set_row(self, number: int, row: Sequence[int]) -> None:
        self.rows[number] = list(row)

    def set_routes(self, rows: dict[IPNetwork, int]) -> None:
        self.routes = {str(network): row for network, row in rows.items()}

    def close(self) -> None:
        self.rows = {}


def steered(workers: int) -> tuple[CrewTun, Program, list[tuple[int, bool]]]:
    made: list[Program] = []
    used: list[tuple[int, bool]] = []

    def steer(descriptor: int, row: Sequence[int]) -> Program:
        made.append(Program(descriptor, row))
        return made[0]

    tun = CrewTun(
        range(10, 10 + workers),
        lambda session: (f"10.0.0.{session}", f"fd00::{session}"),
        lambda descriptor, wanted: used.append((descriptor, wanted)),
        steer,
    )
    return tun, made[0], used


def test_our_program_chooses_among_those_that_can_carry() -> None:
    async def run() -> None:
        tun, program, used = steered(3)
        assert used == [(11, True), (12, True)]
        assert program.rows[0] == [0] * BUCKETS, "until somebody has a flow"
        everywhere = [bucket % 3 for bucket in range(BUCKETS)]
        for worker in range(3):
            tun.flow(1, worker, is_open=True)
        tun.settle()
        assert (program.rows[0], program.routes) == (everywhere, {})
        tun.flow(2, 1, is_open=True)
        tun.settle()
        assert program.rows[0] == everywhere
        row = program.routes["10.0.0.2/32"]
        assert program.rows[row] == [1] * BUCKETS
        assert program.routes == {"10.0.0.1/32": 0, "fd00::1/128": 0, "10.0.0.2/32": row, "fd00::2/128": row}
        tun.forget(2)
        tun.settle()
        assert program.routes == {}
        tun.close()

    asyncio.run(run())


def test_the_buckets_of_a_worker_that_dies_go_to_the_living_at_once() -> None:
    async def run() -> None:
        tun, program, _ = steered(3)
        for worker in range(3):
            tun.flow(1, worker, is_open=True)
        tun.flow(2, 1, is_open=True)
        tun.settle()
        tun.lost(1)
        assert 1 not in program.rows[0]
        assert set(program.rows[0]) == {0, 2}
        assert [each for each in program.rows[0] if each == 0][:1] == [0]
        assert program.rows[program.routes["10.0.0.2/32"]] == [1] * BUCKETS, "what nobody else can carry waits"
        assert all(program.rows[0][bucket] == bucket % 3 for bucket in range(BUCKETS) if bucket % 3 != 1)
        tun.returned(1)
        tun.flow(1, 1, is_open=True)
        tun.settle()
        assert program.rows[0] == [bucket % 3 for bucket in range(BUCKETS)]
        tun.close()

    asyncio.run(run())


def test_a_worker_without_a_slice_of_a_session_knows_who_has_one() -> None:
    routes, session = CrewRoutes(3), SetTunRoutes(7, ("10.0.0.7",), ())
    slices = [Slice(0, 1, 7), Slice(1, 1, 99)]
    everybody = (0, 1, 2)
    told = dict(routes.settle(session, slices[:1], {1}, everybody))
    away = SetTunRoutes(7, ("10.0.0.7",), (), away=1)
    assert told == {0: away, 1: session, 2: away}
    assert not list(routes.settle(session, slices[:1], {1}, everybody))
    assert list(routes.settle(session, slices, {1}, everybody)) == [(1, SetTunRoutes(99, (), (), beside=7))]
    moved = [*slices, Slice(2, 0, 100)]
    assert list(routes.settle(session, moved, {0, 1}, everybody)) == [
        (0, SetTunRoutes(7, (), ())),
        (0, SetTunRoutes(100, ("10.0.0.7",), (), away=1)),
        (1, SetTunRoutes(7, ("10.0.0.7",), (), away=0)),
        (2, SetTunRoutes(7, (), ())),
        (2, SetTunRoutes(100, ("10.0.0.7",), (), away=0)),
    ]
    routes.lost(1)
    assert [worker for worker, _ in routes.settle(session, moved, {0}, everybody)] == [0, 1, 1]
    assert list(routes.forget(7, moved)) == [(2, SetTunRoutes(100, (), ()))]
    assert not routes.knows(7)


class Load:
    """Workers with flows of so much load each, looked at twice a second; flows follow their buckets."""

    def __init__(self, flows: dict[int, float], workers: int = 2, *, client: bool = False) -> None:
        self.flows = flows
        self.buckets = Buckets(workers)
        self.thief = Thief(self.buckets, workers, client=client)
        self.counts: NDArray[np.int64] = np.zeros((workers, BUCKETS, BUCKET_NUMBERS), np.int64)
        self.usable = frozenset(range(workers))
        self.other = [0.0] * workers
        """Load that is not the TUN's."""
        self.now = 0.0
        self.moves: list[Move] = []
        self.look()

    def busy(self) -> list[float]:
        loads = list(self.other)
        for bucket, load in self.flows.items():
            loads[self.buckets.assigned[bucket]] += load
        return loads

    def look(self, times: int = 1) -> list[Move]:
        """Let time pass; return the moves."""
        found: list[Move] = []
        for _ in range(times):
            self.now += 0.5
            busy = [min(1.0, load) for load in self.busy()]
            for bucket, load in self.flows.items():
                row = self.counts[self.buckets.assigned[bucket], bucket]
                row += (int(load * 1000), int(load * 1e6), 0, 0)
            found += self.thief.look(self.now, busy, self.counts, self.usable)
        self.moves += found
        return found


def test_a_flow_of_an_overloaded_worker_moves_to_one_with_room() -> None:
    load = Load({0: 0.5, 2: 0.45})
    assert not load.look(LOOKS - 1), "a moment is no overload"
    assert load.look() == [Move((2,), 0, 1, (0.95, 0.0))]
    assert not load.look(200)
    assert load.busy() == [0.5, 0.45]


def test_one_flow_alone_is_left_where_it_is() -> None:
    load = Load({4: 1.0})
    assert not load.look(100)
    load.other = [0.0, 0.5]
    assert not load.look(100)


def test_small_flows_move_together_and_the_large_one_stays() -> None:
    load = Load({0: 0.55, **{bucket: 0.02 for bucket in range(2, 42, 2)}})
    (move,) = load.look(LOOKS)
    assert 0 not in move.buckets
    assert max(load.busy()) < 0.85
    assert not load.look(200)


def test_nothing_moves_where_nobody_has_room_or_nothing_of_it_is_the_tuns() -> None:
    load = Load({0: 0.5, 2: 0.5, 1: 0.7})
    assert not load.look(100)
    other = Load({})
    other.other = [1.0, 0.0]
    assert not other.look(100)


def test_no_ping_pong_when_both_are_overloaded_in_turn() -> None:
    load = Load({0: 0.45, 2: 0.45})
    load.look(LOOKS)
    assert len(load.moves) == 1
    moved_at = load.now
    load.other = [0.0, 0.5]  # now the other one has too much: what came to it a moment ago stays
    assert not load.look(int(HOLD / 0.5) - 1)
    load.look(200)
    assert load.now > moved_at + HOLD
    assert len(load.moves) <= 2


def test_a_worker_that_some_session_cannot_use_gets_nothing() -> None:
    load = Load({0: 0.5, 3: 0.5}, workers=3)
    load.usable = frozenset((0, 2))
    assert {move.target for move in load.look(100)} <= {2}
    assert load.moves


def arrive(load: Load, bucket: int, worker: int) -> list[Move]:
    load.counts[worker, bucket, 2:] += (100, 100_000)
    return load.look()


@pytest.mark.parametrize("client", [True, False])
def test_an_end_follows_what_the_other_has_moved(client: bool) -> None:
    load = Load({}, client=client)
    assert not arrive(load, 6, 0)
    (move,) = arrive(load, 6, 1)
    assert move == Move((6,), 0, 1, (0.0, 0.0))
    assert not arrive(load, 6, 1)
    assert not arrive(load, 8, 1), "a peer that chose another way from the beginning has moved nothing"


def test_of_two_ends_that_move_the_same_the_client_gives_in() -> None:
    for client in (True, False):
        load = Load({0: 0.5, 3: 0.5}, workers=3, client=client)
        arrive(load, 3, 2)
        (mine,) = load.look(LOOKS - 1)
        ours = mine.buckets[0]
        load.thief._came[ours] = 2
        moves = arrive(load, ours, 0)
        assert bool(moves) == client


def test_busy_is_who_runs_or_waits_for_a_processor(tmp_path: Path) -> None:
    times = BusyTimes(tmp_path)

    def spend(pid: int, ran: float, waited: float) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "schedstat").write_text(f"{int(ran * 1e9)} {int(waited * 1e9)} 77\n", encoding="ascii")

    spend(5, 10.0, 1.0)
    spend(6, 3.0, 0.0)
    assert times.look([5, 6, 0], 100.0) == [0.0, 0.0, 0.0]
    spend(5, 10.6, 1.3)
    assert times.look([5, 6, 0], 101.0) == pytest.approx([0.9, 0.0, 0.0])
    assert times.look([7, 6], 102.0) == [0.0, 0.0]
    (tmp_path / "6" / "schedstat").unlink()
    (tmp_path / "6" / "stat").write_text(
        "6 (a) b) " + " ".join(["0"] * 11 + ["350", "50"] + ["0"] * 10), encoding="ascii"
    )
    assert times.look([6], 103.0)[0] >= 0.0
