"""When a worker rests and when it watches: a question is answered at once, a stream is gathered."""

from __future__ import annotations

import pytest

from vantun.dataplane.wake import (
    ALONE,
    BRIEF,
    COALESCE,
    CROWD,
    FEW,
    IN_AT,
    LONELY,
    LONGEST,
    MANY,
    MEMORY,
    OUT_AT,
    PATIENCE,
    PATIENT_FOR,
    PAUSE,
    SHARE,
    SPIN,
    SPIN_LONGEST,
    STEADY,
    TAKEN,
    Wake,
    is_alone,
    note_turn,
    note_ways,
)


def turns(wake: Wake, gap: float, moved: tuple[int, int], took: float = 0.0, count: int = 200) -> list[float]:
    """Make so many turns at a distance of ``gap`` seconds; return the rests."""
    rests = []
    for number in range(count):
        wake.note(moved, 100.0 + number * gap, busy=True, took=took)
        rests.append(wake.rest)
    return rests


@pytest.mark.parametrize(("gap", "moved"), [(5e-3, (4, 4)), (1e-3, (2, 0)), (0.1, (0, 15))])
def test_questions_and_answers_never_wait(gap: float, moved: tuple[int, int]) -> None:
    assert set(turns(Wake(), gap, moved)) == {0.0}


@pytest.mark.parametrize(("gap", "moved"), [(1e-4, (1, 0)), (1e-3, (5, 5)), (2e-4, (1, 2))])
def test_a_stream_is_gathered_soon_and_its_end_is_noticed(gap: float, moved: tuple[int, int]) -> None:
    wake = Wake()
    rests = turns(wake, gap, moved)
    assert rests[0] == 0.0
    assert set(rests[100:]) == {COALESCE}
    wake.note((1, 0), 100.0 + 200 * gap + 0.05, busy=True)
    assert wake.rest == 0.0


def test_packets_that_go_one_way_are_gathered_for_as_long_as_bounds_the_share_of_turns() -> None:
    took = 20e-6
    assert turns(Wake(), 1e-3, (1, 10), took)[-1] == pytest.approx(took / SHARE, rel=1e-3)
    assert turns(Wake(), 1e-3, (10, 1), 1.0)[-1] == LONGEST
    assert turns(Wake(), 1e-3, (10, 1), 1e-6)[-1] == COALESCE


def test_packets_that_go_both_ways_may_be_answers_and_are_not_kept_for_longer() -> None:
    assert turns(Wake(), 1e-3, (6, 6), 1.0)[-1] == COALESCE


@pytest.mark.parametrize("moved", [(20, 20), (40, 1), (1, 40)])
def test_a_transfer_waits_for_rests_no_longer_than_a_flood_of_single_packets_needs(moved: tuple[int, int]) -> None:
    gap = sum(moved) * MEMORY / (2 * MANY)
    assert turns(Wake(), gap, moved, 1.0)[-1] == BRIEF
    assert turns(Wake(), 3 * gap, moved, 1.0)[-1] >= COALESCE


def lonely_rest(gap: float, moved: tuple[int, int], *, latency: bool = False) -> float:
    """Return the rest after turns of packets that nobody answers."""
    wake = Wake(latency=latency)
    for number in range(200):
        note_turn(wake.words, moved, 100.0 + number * gap, True, 50e-6, 0.0, True)
    return wake.rest


def test_packets_that_nobody_answers_are_gathered_for_longer_while_there_are_neither_few_nor_many() -> None:
    assert lonely_rest(2.5e-3, (0, 27)) == lonely_rest(2.5e-3, (1, 27)) == LONELY
    assert lonely_rest(MEMORY / STEADY * 1.3, (0, 1)) == lonely_rest(MEMORY / STEADY * 1.3, (1, 0)) < LONELY
    assert lonely_rest(2.5e-3, (13, 13)) == COALESCE
    assert lonely_rest(40 * MEMORY / (2 * MANY), (40, 0)) == BRIEF
    assert lonely_rest(2.5e-3, (0, 27), latency=True) == 0.0


@pytest.mark.parametrize(("gap", "rest"), [(1.1 * LONGEST, 0.0), (0.9 * LONGEST, LONGEST)])
def test_who_receives_what_nobody_answers_takes_a_turn_when_it_comes_unless_that_is_often(
    gap: float, rest: float
) -> None:
    """Two bursts of the other end at once would be too much for the socket that they are for; timers can wait."""
    wake = Wake()
    for number in range(200):
        note_turn(wake.words, (27, 1), 100.0 + number * gap, True, 50e-6, 0.0, True)
    assert wake.rest == rest
    assert wake.words[PATIENT_FOR] == PATIENCE
    wake.note((27, 1), 100.0 + 200 * gap, busy=True)
    assert wake.words[PATIENT_FOR] == 0.0
    note_turn(wake.words, (1, 27), 200.0, True, 50e-6, 0.0, True)
    assert wake.words[PATIENT_FOR] == 0.0


def test_nobody_waits_for_an_answer_once_there_was_none_for_a_while() -> None:
    words = Wake().words
    assert is_alone(words, 100.0)
    words[[OUT_AT, IN_AT]] = 100.0, 99.0
    assert is_alone(words, 100.0)
    words[IN_AT] = 100.0
    assert not is_alone(words, 100.0 + 0.9 * ALONE)
    assert is_alone(words, 100.0 + 1.1 * ALONE)


@pytest.mark.parametrize("ways", [(1, 0), (0, 1)])
def test_a_crowd_is_not_gathered_for_longer_though_nobody_answers(ways: tuple[int, int]) -> None:
    """The device's queue would overflow, or the socket at the far end; however many turns they come in."""
    words = Wake().words

    def carry(rate: float, seconds: float, since: float) -> float:
        for number in range(int(seconds * 1000)):
            now = since + number / 1000
            note_ways(words, ways[0] * int(rate / 1000), ways[1] * int(rate / 1000), now)
        return now

    most = CROWD / MEMORY
    now = carry(0.8 * most, 2 * ALONE, 100.0)
    assert is_alone(words, now)
    now = carry(1.5 * most, 0.1, now)
    assert not is_alone(words, now)
    assert not is_alone(words, carry(0.8 * most, 0.9 * ALONE, now))
    assert is_alone(words, carry(0.8 * most, 2 * ALONE, now))


def test_a_turn_in_one_way_is_no_answer() -> None:
    words = Wake().words
    note_ways(words, 1, 0, 100.0)
    assert (words[OUT_AT], words[IN_AT]) == (100.0, 0.0)
    note_ways(words, 0, 1, 101.0)
    note_ways(words, 0, 0, 102.0)
    assert (words[OUT_AT], words[IN_AT]) == (100.0, 101.0)


def test_a_full_turn_is_followed_at_once() -> None:
    assert set(turns(Wake(), 1e-3, (0, FEW))) == {0.0}
    assert set(turns(Wake(), 1e-3, (FEW // 2, FEW // 2))) == {0.0}


def test_a_turn_without_effect_needs_no_rest() -> None:
    wake = Wake()
    turns(wake, 1e-4, (5, 0))
    wake.note((0, 0), 100.02, busy=False)
    assert (wake.rest, wake.spin) == (0.0, 0.0)


def test_with_the_goal_latency_there_is_no_rest_and_what_follows_traffic_is_watched_for() -> None:
    wake = Wake(latency=True)
    assert set(turns(wake, 1e-5, (5, 0))) == {0.0}
    assert wake.spin == SPIN
    wake.note((0, 0), 100.5, busy=False)
    assert wake.spin == 0.0


def test_the_watch_lasts_until_the_next_packet_should_come_unless_that_is_far_away() -> None:
    wake = Wake(latency=True)
    turns(wake, 2e-3, (1, 1))
    assert wake.spin == pytest.approx(4e-3, rel=0.01)
    wake = Wake(latency=True)
    turns(wake, SPIN_LONGEST, (1, 1))
    assert wake.spin == SPIN


def test_what_comes_close_together_in_between_does_not_end_the_watch_for_the_next_question() -> None:
    """A question every 4 ms, an answer, a RECEIPT each way: the mean of these distances is 1 ms."""
    wake = Wake(latency=True)
    now = 100.0
    for _ in range(100):
        for gap in (2.9e-3, 0.1e-3, 0.9e-3, 0.1e-3):
            now += gap
            wake.note((1, 1), now, busy=True)
            assert now < 100.1 or wake.spin >= 2 * 2.5e-3
    for _ in range(200):
        now += 0.5e-3
        wake.note((1, 1), now, busy=True)
    assert wake.spin < 2e-3  # it is over, and forgotten
    now += 1.0
    wake.note((1, 1), now, busy=True)
    assert wake.spin < 2e-3  # nothing that a watch could last for


def test_a_core_that_others_need_is_not_watched_on_for_longer_and_longer() -> None:
    wake = Wake(latency=True)
    wake.note((1, 1), 100.0, busy=True)
    wake.note((1, 1), 100.001, busy=True, away=TAKEN / 2)  # a program has read what came
    assert wake.spin > 0.0
    wake.note((1, 1), 100.002, busy=True, away=TAKEN)
    assert wake.spin == 0.0
    wake.note((1, 1), 100.002 + 0.9 * PAUSE, busy=True)
    assert wake.spin == 0.0
    wake.note((1, 1), 100.002 + 1.1 * PAUSE, busy=True)
    assert wake.spin > 0.0
    wake.note((1, 1), 100.02, busy=True, away=TAKEN)
    wake.note((1, 1), 100.02 + 1.1 * PAUSE, busy=True)
    assert wake.spin == 0.0
    wake.note((1, 1), 100.5, busy=True)
    assert wake.spin > 0.0
    wake.note((1, 1), 100.6, busy=True, away=TAKEN)
    wake.note((1, 1), 100.6 + 1.1 * PAUSE, busy=True)
    assert wake.spin > 0.0
