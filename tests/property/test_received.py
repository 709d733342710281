"""Replay window and range list against sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peer import Peer
from tests.property.kernels import report, take_number
from vantun.session.tables import REPLAY_WORDS, RX_RANGES

WINDOW = REPLAY_WORDS * 64
STEPS = st.one_of(
    st.integers(-40, 40),
    st.integers(-WINDOW - 10, WINDOW + 10),
    st.sampled_from([-WINDOW - 1, -WINDOW, -WINDOW + 1, WINDOW - 1, WINDOW, WINDOW + 1, 1 << 31]),
)


@given(st.lists(STEPS, min_size=1, max_size=80))
def test_replay_window(steps: list[int]) -> None:
    t = Peer().end.plane.context.tables
    seen: set[int] = set()
    largest, number = -1, 0
    for step in steps:
        number = max(0, number + step)
        new = number not in seen and number > largest - WINDOW
        assert take_number(t.root, 0, number) == new
        if new:
            seen.add(number)
            largest = max(largest, number)
        assert int(t.lane[0]["largest_rx"]) == largest
    for probe in range(max(0, largest - 200), largest + 1):
        if probe not in seen:
            assert take_number(t.root, 0, probe)
            seen.add(probe)


@pytest.mark.parametrize("first", [0, 1, 8191, 8192, 8193, 1 << 40])
def test_every_number_once(first: int) -> None:
    t = Peer().end.plane.context.tables
    assert take_number(t.root, 0, first)
    assert not take_number(t.root, 0, first)
    assert take_number(t.root, 0, first + WINDOW)
    assert not take_number(t.root, 0, first)  # below the window now
    assert take_number(t.root, 0, first + 1)


def ranges_of(numbers: set[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges


@given(st.lists(st.integers(0, 120), max_size=120))
def test_range_list(numbers: list[int]) -> None:
    t = Peer().end.plane.context.tables
    for i, number in enumerate(numbers):
        report(t.root, 0, number)
        assert t.rx_range[0, : int(t.lane[0]["rx_ranges"])].tolist() == ranges_of(set(numbers[: i + 1]))


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000), min_size=100, max_size=400))
def test_range_list_that_overflows_keeps_the_newest(numbers: list[int]) -> None:
    t = Peer().end.plane.context.tables
    known: set[int] = set()
    for number in numbers:
        report(t.root, 0, number)
        known.add(number)
        ranges = ranges_of(known)
        if len(ranges) > RX_RANGES:
            low, high = ranges[0]
            known -= set(range(low, high + 1))
            ranges = ranges[1:]
        assert t.rx_range[0, : int(t.lane[0]["rx_ranges"])].tolist() == ranges
