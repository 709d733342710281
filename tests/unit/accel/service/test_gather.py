from __future__ import annotations

import pytest

from accel.service.gather import FORGOTTEN, Asked, Gathering, Guest
from accel.service.ring import MOST_PARITIES, MOST_ROWS
from accel.service.trays import Heard

BUDGET = 200_000


def ask(guest: Guest, size: int = 100, rows: int = 1, parities: int = 0) -> Asked:
    return Asked(guest, 0, 1, Heard(rows, parities, size))


def test_it_waits_for_others_until_the_budget_is_spent() -> None:
    gathering, here, away = Gathering(BUDGET, 1 << 20), Guest(), Guest()
    assert not gathering.due(0, [here, away])
    gathering.add(ask(here), 1000)
    assert not gathering.due(1000, [here, away])
    assert gathering.until() == 1000 + BUDGET
    assert gathering.due(1000 + BUDGET, [here, away])


def test_nobody_waits_when_everybody_has_asked() -> None:
    gathering, first, second = Gathering(BUDGET, 1 << 20), Guest(), Guest()
    gathering.add(ask(first), 0)
    gathering.add(ask(second), 1)
    assert gathering.due(1, [first, second])
    assert [each.guest for each in gathering.take([first, second])] == [first, second]
    assert len(gathering) == 0


def test_who_stays_away_is_not_waited_for_until_it_comes_back() -> None:
    gathering, here, away = Gathering(BUDGET, 1 << 20), Guest(), Guest()
    for turn in range(FORGOTTEN):
        gathering.add(ask(here), turn)
        assert not gathering.due(turn, [here, away])
        gathering.take([here, away])
    gathering.add(ask(here), 0)
    assert gathering.due(0, [here, away])
    gathering.add(ask(away), 0)
    gathering.take([here, away])
    gathering.add(ask(here), 0)
    assert not gathering.due(0, [here, away])


def test_a_full_lane_goes_at_once_and_the_rest_stays() -> None:
    gathering, here, away = Gathering(BUDGET, 3000), Guest(), Guest()
    for _ in range(3):
        gathering.add(ask(here, 1400), 0)
    assert gathering.due(0, [here, away])
    assert len(gathering.take([here, away])) == 2
    assert not gathering.due(0, [here, away])
    assert len(gathering) == 1


def test_one_that_is_larger_than_a_lane_goes_alone() -> None:
    gathering, here = Gathering(BUDGET, 1000), Guest()
    gathering.add(ask(here, 5000), 0)
    gathering.add(ask(here, 10), 0)
    assert [each.heard.size > 1000 for each in gathering.take([here])] == [True]


def test_what_somebody_asked_who_is_gone_is_dropped() -> None:
    gathering, here, gone = Gathering(BUDGET, 3000), Guest(), Guest()
    gathering.add(ask(gone, 2900), 0)
    gathering.add(ask(here, 200), 5)
    assert gathering.due(5, [here, gone])
    gathering.forget(gone)
    assert gathering.until() == 5 + BUDGET
    assert [each.guest for each in gathering.take([here])] == [here]


@pytest.mark.parametrize(("rows", "parities"), [(MOST_ROWS, 0), (2, MOST_PARITIES)])
def test_what_a_tray_does_not_hold_goes_later(rows: int, parities: int) -> None:
    """Spans of no bytes take no room in a lane, but in a tray."""
    gathering, here = Gathering(BUDGET, 3000), Guest()
    for _ in range(2):
        gathering.add(ask(here, 0, rows, parities), 0)
    assert len(gathering.take([here])) == 1
    assert len(gathering) == 1
