from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.bench.contest import (
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    Contestant,
    Effort,
    Outcome,
    compete,
    geometric_mean,
    pinned,
    pool,
    spread,
)


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    def work(self, name: str, ns: int) -> Callable[[], None]:
        def run() -> None:
            self.now += ns
            self.calls.append(name)

        return run


def test_ratios_are_exact_when_time_is() -> None:
    clock = Clock()
    fast, slow = Contestant("fast", clock.work("fast", 100)), Contestant("slow", clock.work("slow", 250))
    outcome = compete([fast, slow], Effort(budget_s=1e-4, sample_s=1e-6), clock)
    assert outcome.time("fast").median == 100
    assert outcome.ratio("fast", "slow").document() == {"median": 2.5, "q1": 2.5, "q3": 2.5}
    assert outcome.ratio("slow", "fast").median == 0.4
    assert outcome.excess("slow", "fast").median == 150


def test_a_change_of_speed_hits_both_sides() -> None:
    """The machine becomes three times as slow halfway; medians of times would be off, ratios are not."""
    clock = Clock()
    began: list[str] = []

    def work(name: str, ns: int) -> Callable[[], None]:
        def run() -> None:
            began.append(name)
            clock.now += ns * (3 if clock.now > 50_000 else 1)

        return run

    outcome = compete([Contestant("a", work("a", 1000)), Contestant("b", work("b", 2000))], Effort(2e-4, 1e-6), clock)
    assert outcome.time("a").low < outcome.time("a").high
    assert outcome.ratio("a", "b").median == pytest.approx(2.0)
    assert began.count("a") >= FEWEST_ROUNDS


def test_they_take_turns_in_alternating_order() -> None:
    clock = Clock()
    both = [Contestant(name, clock.work(name, 1000)) for name in "ab"]
    compete(both, Effort(budget_s=1e-9, sample_s=1e-6), clock)
    assert "".join(clock.calls[-2 * FEWEST_ROUNDS :]) == ("abba" * FEWEST_ROUNDS)[: 2 * FEWEST_ROUNDS]


def test_a_sample_has_as_many_passes_as_fit() -> None:
    clock = Clock()
    compete([Contestant("a", clock.work("a", 100))], Effort(budget_s=1e-9, sample_s=2e-6), clock)
    warm = 1 + 2 + 4 + 8 + 16
    assert len(clock.calls) == warm + 20 * FEWEST_ROUNDS


def test_an_interrupted_sample_is_taken_again() -> None:
    clock = Clock()
    switches = 0

    def run() -> None:
        nonlocal switches
        late = len(clock.calls) % 3 == 2  # every third pass the CPU goes to somebody else meanwhile
        switches += late
        clock.work("a", 10_000 if late else 1000)()

    outcome = compete([Contestant("a", run)], Effort(1e-9, 1e-6), clock, lambda: switches)
    assert set(outcome.ns["a"]) == {1000}
    assert outcome.repeated > 0


def test_who_is_always_interrupted_has_a_figure_all_the_same() -> None:
    clock = Clock()
    contestant = Contestant("a", clock.work("a", 1000))
    outcome = compete([contestant], Effort(1e-9, 1e-6), clock, lambda: len(clock.calls))
    assert list(outcome.ns["a"]) == [1000.0] * FEWEST_ROUNDS
    assert outcome.repeated == 4 * FEWEST_ROUNDS


def test_rounds_are_bounded() -> None:
    clock = Clock()
    outcome = compete([Contestant("a", clock.work("a", 10))], Effort(budget_s=10, sample_s=1e-8), clock)
    assert len(outcome.ns["a"]) == MOST_ROUNDS


def test_the_collector_is_off_meanwhile_and_on_again() -> None:
    clock = Clock()
    seen = []

    def run() -> None:
        clock.now += 1000
        seen.append(gc.isenabled())

    compete([Contestant("a", run)], Effort(1e-9, 1e-6), clock)
    assert seen[-1] is False
    assert gc.isenabled()


def test_two_of_one_name() -> None:
    with pytest.raises(ValueError, match="names of their own, given are a, a"):
        compete([Contestant("a", int), Contestant("a", int)])


@pytest.mark.parametrize(("budget", "sample"), [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0)])
def test_no_effort(budget: float, sample: float) -> None:
    with pytest.raises(ValueError, match="an effort is positive"):
        Effort(budget, sample)


def test_spread() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]).document() == {"median": 3.0, "q1": 2.0, "q3": 4.0}
    assert spread([7.0]).document() == {"median": 7.0, "q1": 7.0, "q3": 7.0}
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_a_geometric_mean_lies_between(values: list[float]) -> None:
    mean = geometric_mean(values)
    assert min(values) * (1 - 1e-9) <= mean <= max(values) * (1 + 1e-9)
    assert geometric_mean([1 / value for value in values]) == pytest.approx(1 / mean)


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [-1.0]])
def test_a_geometric_mean_of_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="takes positive values"):
        geometric_mean(values)


def test_a_ratio_needs_both_of_a_round() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        Outcome({"a": [1.0, 2.0], "b": [1.0]}).ratio("a", "b")


def test_contests_are_pooled() -> None:
    pooled = pool([Outcome({"a": [1.0], "b": [2.0], "c": [1.0]}, 1), Outcome({"b": [3.0, 4.0], "a": [5.0, 6.0]}, 2)])
    assert pooled == Outcome({"a": [1.0, 5.0, 6.0], "b": [2.0, 3.0, 4.0]}, 3)


def test_pinned_to_one_cpu_and_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned() as cpu:
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
