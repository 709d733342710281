"""Time in which the process was stopped does not count; sleep that was meant does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vantun.dataplane.steady_clock import ALLOWED, GAP, SteadyClock


class Bench:
    """A steady clock over ``now``."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = SteadyClock(lambda: self.now)

    def read_after(self, seconds: float) -> float:
        self.now += seconds
        return self.clock()


def test_short_gaps_are_time() -> None:
    bench = Bench()
    assert bench.read_after(0.01) == 1000.01
    assert bench.read_after(GAP) == 1000.01 + GAP
    assert (bench.clock.jumps, bench.clock.lost) == (0, 0.0)


@pytest.mark.parametrize("ahead", [GAP + 0.1, 30.0, 3600.0, 1e9])
def test_a_jump_counts_as_a_moment(ahead: float) -> None:
    bench = Bench()
    assert bench.read_after(ahead) == pytest.approx(1000.0 + ALLOWED)
    assert bench.read_after(0.5) == pytest.approx(1000.5 + ALLOWED, abs=1e-6)
    assert bench.clock.jumps == 1
    assert bench.clock.lost == pytest.approx(ahead - ALLOWED)


def test_sleep_that_was_meant_is_time() -> None:
    bench = Bench()
    bench.clock.expect(600.0)
    assert bench.read_after(600.0 + GAP) == 1600.0 + GAP
    bench.clock.expect(float("inf"))
    assert bench.read_after(1e6) == 1001600.0 + GAP
    assert bench.clock.jumps == 0


def test_a_jump_in_such_a_sleep_counts_as_its_end() -> None:
    bench = Bench()
    bench.clock.expect(5.0)
    assert bench.read_after(3600.0) == pytest.approx(1005.0 + ALLOWED)


def test_an_expectation_is_of_one_reading() -> None:
    bench = Bench()
    bench.clock.expect(600.0)
    bench.read_after(1.0)
    assert bench.read_after(500.0) == pytest.approx(1001.0 + ALLOWED)


def test_a_clock_that_goes_back_stands_still() -> None:
    bench = Bench()
    assert bench.read_after(-50.0) == 1000.0
    assert bench.read_after(1.0) == 1001.0


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0.0, 1e3)), max_size=50))
def test_it_never_goes_back(steps: list[tuple[float, float]]) -> None:
    bench = Bench()
    before = bench.clock()
    for seconds, meant in steps:
        bench.clock.expect(meant)
        now = bench.read_after(seconds)
        assert before - 1e-6 <= now <= before + meant + GAP + 1e-6
        before = now
