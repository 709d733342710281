"""When a worker rests and when it watches: a question is answered at once, a stream is gathered."""

from __future__ import annotations

import pytest

from vantun.dataplane.wake import COALESCE, FEW, SPIN, Wake


def turns(wake: Wake, gap: float, packets: int, count: int = 200) -> list[float]:
    """Make so many turns at a distance of ``gap`` seconds; return the rests."""
    rests = []
    for number in range(count):
        wake.note(packets, 100.0 + number * gap, busy=True)
        rests.append(wake.rest)
    return rests


@pytest.mark.parametrize(("gap", "packets"), [(5e-3, 8), (1e-3, 2), (0.1, 15)])
def test_questions_and_answers_never_wait(gap: float, packets: int) -> None:
    assert set(turns(Wake(), gap, packets)) == {0.0}


@pytest.mark.parametrize(("gap", "packets"), [(1e-4, 1), (1e-3, 10), (2e-4, 3)])
def test_a_stream_is_gathered_soon_and_its_end_is_noticed(gap: float, packets: int) -> None:
    wake = Wake()
    rests = turns(wake, gap, packets)
    assert rests[0] == 0.0
    assert set(rests[100:]) == {COALESCE}
    wake.note(1, 100.0 + 200 * gap + 0.05, busy=True)
    assert wake.rest == 0.0


def test_a_full_turn_is_followed_at_once() -> None:
    assert set(turns(Wake(), 1e-3, FEW)) == {0.0}


def test_a_turn_without_effect_needs_no_rest() -> None:
    wake = Wake()
    turns(wake, 1e-4, 5)
    wake.note(0, 100.02, busy=False)
    assert (wake.rest, wake.spin) == (0.0, 0.0)


def test_with_the_goal_latency_there_is_no_rest_and_what_follows_traffic_is_watched_for() -> None:
    wake = Wake(latency=True)
    assert set(turns(wake, 1e-4, 5)) == {0.0}
    assert wake.spin == SPIN
    wake.note(0, 100.5, busy=False)
    assert wake.spin == 0.0
