"""How long the next worker waits: not at all after a long life, longer and longer after short ones."""

from __future__ import annotations

import asyncio

import pytest

from vantun.control import revival
from vantun.control.revival import LONGEST_PAUSE, SHORT_LIFE, STARTS, Deaths, pause_after, revive
from vantun.errors import WorkerError


def test_a_death_every_five_seconds_costs_no_pause() -> None:
    now = 0.0
    deaths = Deaths(lambda: now)
    for _ in range(20):
        deaths.began()
        now += 5.0
        assert deaths.pause() == 0.0


def test_short_lives_cost_more_and_more() -> None:
    now = 0.0
    deaths = Deaths(lambda: now)
    pauses = []
    for _ in range(10):
        deaths.began()
        now += SHORT_LIFE / 2
        pauses.append(deaths.pause())
    assert pauses == sorted(pauses)
    assert pauses[0] == pause_after(1) > 0.0
    assert pauses[-1] == LONGEST_PAUSE
    deaths.began()
    now += 2 * SHORT_LIFE
    assert deaths.pause() == 0.0


class _Link:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.started = 0

    async def replace(self) -> None:
        self.started += 1
        if self.started <= self.failures:
            raise WorkerError("no memory")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revival, "LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_starts_that_fail_are_tried_again() -> None:
    link = _Link(STARTS - 1)
    asyncio.run(revive(link, Deaths(lambda: 0.0)))
    assert link.started == STARTS


@pytest.mark.usefixtures("no_pause")
def test_too_many_that_fail_end_it() -> None:
    link = _Link(STARTS)
    with pytest.raises(WorkerError, match="no memory"):
        asyncio.run(revive(link, Deaths(lambda: 0.0)))
    assert link.started == STARTS
