from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from accel.life import Cause, Life, State


def states(life: Life) -> list[State]:
    return [change.state for change in life.history]


def test_a_fault_then_eight_good_batches() -> None:
    life = Life()
    life.failed(Cause.FAULT, "it said so", 1.0)
    assert (life.state, life.reason) == (State.SUSPECT, "it said so")
    for _ in range(8):
        life.worked(2.0)
    assert states(life) == [State.SERVING, State.SUSPECT, State.SERVING]


def test_a_fault_on_probation_is_a_rest_that_doubles() -> None:
    life = Life()
    life.failed(Cause.TIMEOUT, "late", 0.0)
    life.failed(Cause.TIMEOUT, "late again", 1.0)
    assert (life.state, life.until_cleared) == (State.QUARANTINED, False)
    assert not life.due(1.9)
    assert life.due(2.0)
    life.refused("wrong bytes", 2.0)
    assert not life.due(3.9)
    assert life.due(4.0)
    for _ in range(12):
        life.refused("wrong bytes", 10.0)
    assert not life.due(10.0 + 299)
    assert life.due(10.0 + 300)
    life.rearmed(400.0)
    assert life.state is State.SUSPECT
    assert life.counts[Cause.SELF_TEST] == 13


def test_a_wrong_result_stays_until_it_is_cleared() -> None:
    life = Life()
    life.failed(Cause.WRONG, "3 rows differ", 0.0)
    assert life.until_cleared
    assert not life.due(1e9)
    life.clear(50.0)
    assert life.due(50.0)
    life.rearmed(50.0)
    assert life.state is State.SUSPECT


def test_the_third_quarantine_within_an_hour_retires() -> None:
    life = Life()
    for start in (0.0, 1000.0, 2000.0):
        life.failed(Cause.FAULT, "dead", start)
        life.failed(Cause.FAULT, "dead", start)
        if life.state is State.QUARANTINED:
            life.rearmed(start + 500)
            for _ in range(8):
                life.worked(start + 600)
    assert life.state is State.RETIRED
    assert life.reason == "dead; the third quarantine within an hour"
    life.clear(3000.0)
    assert life.due(3000.0)


def test_quarantines_far_apart_do_not_retire() -> None:
    life = Life()
    for start in range(0, 40_000, 4000):
        life.failed(Cause.FAULT, "dead", start)
        life.failed(Cause.FAULT, "dead", start)
        assert life.due(start + 1.0)
        life.rearmed(start + 1.0)
    assert life.state is State.SUSPECT


EVENTS = st.sampled_from(["failed", "worked", "rearm", "clear"])


@given(st.lists(st.tuples(EVENTS, st.sampled_from(Cause)), max_size=60))
def test_any_order_of_events(events: list[tuple[str, Cause]]) -> None:
    """Whatever comes, an engine that was wrong does not serve before it was cleared and tested."""
    life = Life()
    disgraced = False
    for now, (event, cause) in enumerate(events):
        if event == "failed":
            wrong = cause in (Cause.WRONG, Cause.GUARD) and life.state in (State.SERVING, State.SUSPECT)
            disgraced |= wrong
            life.failed(cause, "x", now)
        elif event == "worked":
            life.worked(now)
        elif event == "rearm" and life.due(now):
            assert not disgraced
            life.rearmed(now)
        elif event == "clear":
            life.clear(now)
            disgraced = False
        assert not (disgraced and life.state in (State.SERVING, State.SUSPECT))
        assert len(life.history) <= 16
