"""What one worker finds of an engine, the others are told, once."""

from __future__ import annotations

import logging

import pytest

from accel.life import Cause, Life, State
from vantun.control.engine_notes import EngineNotes
from vantun.worker_messages import Quarantine

WHY = "1 of 64 rows differ from software's"
FOUND = Quarantine("aead.seal", "simd", WHY)


class Worker:
    """One that keeps what it is told."""

    def __init__(self, notes: EngineNotes) -> None:
        self.told: list[Quarantine] = []
        self.tell = self.told.append
        self._notes = notes
        notes.join(self.tell)

    def shows(self, *found: Quarantine, clears: int = 0) -> None:
        watch = [
            {
                "operation": each.operation,
                "rungs": [
                    {"engine": each.engine, "reason": each.reason, "until_cleared": True},
                    {"engine": "openssl", "reason": "a rest", "until_cleared": False},
                ],
            }
            for each in found
        ]
        self._notes.look({"engine_watch": watch}, clears, self.tell)


def test_the_others_are_told_once_and_the_log_has_one_line(caplog: pytest.LogCaptureFixture) -> None:
    notes = EngineNotes()
    workers = [Worker(notes) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        workers[1].shows()
        workers[1].shows(FOUND)
        for worker in workers:  # by now all of them show it
            worker.shows(FOUND)
    assert [worker.told for worker in workers] == [[FOUND], [], [FOUND]]
    assert notes.all() == [FOUND]
    (line,) = caplog.messages
    assert line == f"engine simd is kept out of aead.seal in all 3 workers until it is cleared: {WHY}"


def test_what_was_shown_before_it_was_cleared_tells_nothing() -> None:
    notes = EngineNotes()
    one, other = Worker(notes), Worker(notes)
    one.shows(FOUND)
    before = notes.clears
    notes.clear()
    assert notes.all() == []
    one.shows(FOUND, clears=before)  # asked before, answered after
    assert other.told == [FOUND]
    one.shows(FOUND, clears=notes.clears)
    assert other.told == [FOUND, FOUND]


def test_a_worker_that_was_told_keeps_it_out_and_counts_it_apart() -> None:
    life = Life()
    life.failed(Cause.TOLD, WHY, 1.0)
    assert (life.state, life.until_cleared, life.reason) == (State.QUARANTINED, True, WHY)
    assert (life.counts[Cause.TOLD], life.counts[Cause.WRONG]) == (1, 0)
    life.clear(2.0)
    assert life.due(2.0)
