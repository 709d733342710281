"""Shares of a path's rate: max-min fair, never more together than the path has, all of it for whoever is alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vantun.session.limits import SLICES
from vantun.session.path_share import (
    EVERY,
    LEAST,
    STALE,
    allot,
    demand_of,
    leave_share,
    share_dtype,
    take_share,
)

LIMIT = 1e6
WINDOW = 0.1


@given(st.floats(0, 1e9), st.lists(st.floats(0, 2e9), min_size=1, max_size=SLICES))
def test_an_allotment_is_max_min_fair(limit: float, demands: list[float]) -> None:
    shares = allot(limit, demands)
    assert abs(sum(shares) - limit) <= 1e-6 * limit + 1e-9
    spare = max(0.0, limit - sum(demands)) / len(demands)
    level = max(shares)
    for share, demand in zip(shares, demands, strict=True):
        satisfied = share >= demand - 1e-6 * limit - 1e-9
        assert satisfied or share >= level - spare - 1e-6 * limit - 1e-9, "who lacks something has no less than anybody"


class Crew:
    """Workers that send what they may of what they want; ``wants`` says what, by worker and time."""

    def __init__(self, count: int, wants: Callable[[int, float], float]) -> None:
        self.page = np.zeros((1, SLICES), share_dtype)
        self.page["at"] = -np.inf
        self.grants = [0.0] * count
        self.sent: list[list[tuple[float, float]]] = [[] for _ in range(count)]
        self.wants = wants
        self.dead: set[int] = set()
        self.now = 10.0

    def run(self, seconds: float, phases: list[float]) -> None:
        step = EVERY / 4
        last = [self.now] * len(self.grants)
        begun = self.now
        while self.now < begun + seconds:
            for worker in range(len(self.grants)):
                if worker in self.dead:
                    continue
                want = self.wants(worker, self.now)
                if self.now - last[worker] >= EVERY * (1 + phases[worker]) - 1e-9:
                    took = sum(size for at, size in self.sent[worker] if at > last[worker])
                    demand = demand_of(took, want > self.grants[worker], LIMIT, self.now - last[worker])
                    self.grants[worker] = take_share(self.page, (0, worker), LIMIT, demand, self.now)
                    last[worker] = self.now
                self.sent[worker].append((self.now + step, min(want, self.grants[worker]) * step))
            self.now += step

    def rate(self, worker: int, since: float) -> float:
        return sum(size for at, size in self.sent[worker] if at > since) / (self.now - since)


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 3.0]), min_size=4, max_size=4), min_size=1, max_size=6),
    st.lists(st.floats(0, 0.9), min_size=6, max_size=6),
    st.sets(st.integers(0, 5), max_size=2),
)
@settings(max_examples=25, deadline=None)
def test_together_they_never_send_more_than_the_path_has(
    wants: list[list[float]], phases: list[float], dying: set[int]
) -> None:
    begun = 10.0
    crew = Crew(len(wants), lambda worker, now: LIMIT * wants[worker][min(3, int(now - begun))])
    crew.run(2.0, phases)
    crew.dead = dying
    crew.run(2.0, phases)
    sums: dict[float, float] = {}
    for row in crew.sent:
        for at, size in row:
            sums[round(at, 6)] = sums.get(round(at, 6), 0.0) + size
    times = sorted(sums)
    width = round(WINDOW / (EVERY / 4))
    sizes = [sums[at] for at in times]
    for first in range(0, len(sizes), width // 2):
        assert sum(sizes[first : first + width]) <= LIMIT * WINDOW * 1.001


def test_whoever_is_alone_gets_everything_and_two_share_equally() -> None:
    crew = Crew(2, lambda worker, now: 3 * LIMIT if worker == 0 or now > 12.0 else 0.0)
    crew.run(2.0, [0.0, 0.5])
    assert crew.rate(0, 11.0) >= 0.97 * LIMIT
    crew.run(2.0, [0.0, 0.5])
    for worker in (0, 1):
        assert abs(crew.rate(worker, 13.0) / LIMIT - 0.5) < 0.03


def test_a_small_demand_is_met_beside_greedy_ones() -> None:
    crew = Crew(3, lambda worker, _now: 0.1 * LIMIT if worker == 0 else 5 * LIMIT)
    crew.run(3.0, [0.1, 0.5, 0.8])
    assert crew.rate(0, 12.0) >= 0.099 * LIMIT
    for worker in (1, 2):
        assert abs(crew.rate(worker, 12.0) / LIMIT - 0.45) < 0.03


def test_the_share_of_a_dead_worker_goes_to_the_others() -> None:
    crew = Crew(2, lambda _worker, _now: 3 * LIMIT)
    crew.run(1.0, [0.0, 0.5])
    crew.dead = {1}
    crew.run(STALE + 4 * EVERY, [0.0, 0.5])
    since = crew.now
    crew.run(0.2, [0.0, 0.5])
    assert crew.rate(0, since) >= 0.97 * LIMIT
    crew.dead = set()
    leave_share(crew.page, 0, 1)
    assert crew.page[0, 1]["grant"] == 0.0


def test_a_lane_that_sends_nothing_keeps_a_little() -> None:
    crew = Crew(2, lambda worker, _now: 3 * LIMIT if worker else 0.0)
    crew.run(1.0, [0.0, 0.5])
    assert crew.grants[0] >= LEAST * LIMIT / SLICES
