"""The life of an engine that serves: what befalls it, and what it may still be given.

::

    declared -> probed -> opened -> self-tested -> calibrated -> serving <-> suspect -> quarantined -> retired

A fault makes it suspect: it gets one batch in a hundred, and every row of that is checked. A fault while suspect
quarantines it for a while, which doubles; then it must pass the whole self-test and is suspect again. A wrong result
quarantines it until somebody clears it. The third quarantine within an hour retires it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How far an engine has come."""

    DECLARED = "declared"
    PROBED = "probed"
    OPENED = "opened"
    SELF_TESTED = "self-tested"
    CALIBRATED = "calibrated"
    SERVING = "serving"
    SUSPECT = "suspect"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Cause(Enum):
    """Why an engine changed its state."""

    CHOSEN = "chosen"
    FAULT = "fault"
    """It said so itself, or raised an exception."""
    TIMEOUT = "timeout"
    FULL = "full"
    """It took no work for many batches in a row."""
    SLOW = "slow"
    UNWELL = "unwell"
    """Its own health report."""
    WRONG = "wrong"
    """A result that differs from software's."""
    TOLD = "told"
    """Another process has seen a wrong result of it, or given it up."""
    GUARD = "guard"
    """It wrote outside of its rows."""
    REARMED = "re-armed"
    PROVEN = "proven"
    """Enough good batches on probation."""
    SELF_TEST = "self-test"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Change:
    """One step of a life.

    Attributes
    ----------
    at
        Seconds, on the clock of whoever told.
    reason
        What happened, as a sentence's part.
    """

    state: State
    cause: Cause
    reason: str
    at: float


PROBATION_SHARE = 100
"""A suspect engine gets one batch in so many."""
_PROBATION = 8
"""Good batches that make a suspect engine serve again."""
_FIRST_REST, _LONGEST_REST = 1.0, 300.0
"""Seconds of quarantine."""
_HOUR = 3600.0
_MOST_QUARANTINES = 3
_REMEMBERED = 16
_FOR_GOOD = frozenset({Cause.WRONG, Cause.TOLD, Cause.GUARD})


class Life:
    """The state of one engine for one operation; sans-IO: whoever calls says what time it is.

    Attributes
    ----------
    history
        The last changes, newest last.
    counts
        How often each cause was reported.
    """

    def __init__(self, now: float = 0.0, reason: str = "chosen") -> None:
        self.history: deque[Change] = deque([Change(State.SERVING, Cause.CHOSEN, reason, now)], _REMEMBERED)
        self.counts = dict.fromkeys(Cause, 0)
        self._rest = _FIRST_REST
        self._wake: float | None = None
        self._good = 0
        self._quarantines: deque[float] = deque(maxlen=_MOST_QUARANTINES)

    @property
    def state(self) -> State:
        """What it is now."""
        return self.history[-1].state

    @property
    def reason(self) -> str:
        """Why it is that."""
        return self.history[-1].reason

    @property
    def until_cleared(self) -> bool:
        """Whether it stays out until somebody clears it."""
        return self.state is State.RETIRED or (self.state is State.QUARANTINED and self._wake is None)

    def failed(self, cause: Cause, reason: str, now: float) -> None:
        """Learn of something that must not happen."""
        self.counts[cause] += 1
        if self.state not in (State.SERVING, State.SUSPECT):
            return
        if cause in _FOR_GOOD:
            self._quarantine(cause, reason, now, None)
        elif self.state is State.SERVING:
            self._good = 0
            self._change(State.SUSPECT, cause, reason, now)
        else:
            self._quarantine(cause, reason, now, now + self._rest)
            self._rest = min(2 * self._rest, _LONGEST_REST)

    def worked(self, now: float) -> None:
        """Learn of a batch on probation that was right."""
        self._good += 1
        if self.state is State.SUSPECT and self._good >= _PROBATION:
            self._change(State.SERVING, Cause.PROVEN, f"{self._good} batches on probation were right", now)

    def due(self, now: float) -> bool:
        """Return whether it is to be tested now for being re-armed."""
        return self.state is State.QUARANTINED and self._wake is not None and now >= self._wake

    def rearmed(self, now: float) -> None:
        """Learn that it has passed the self-test after its rest."""
        self._good = 0
        self._change(State.SUSPECT, Cause.REARMED, "passed the self-test after its rest", now)

    def refused(self, reason: str, now: float) -> None:
        """Learn that it has not passed; it rests for twice as long."""
        self.counts[Cause.SELF_TEST] += 1
        self._change(State.QUARANTINED, Cause.SELF_TEST, reason, now)
        self._wake = now + self._rest
        self._rest = min(2 * self._rest, _LONGEST_REST)

    def clear(self, now: float) -> None:
        """Let somebody's word stand for what it did: it is to be tested at once."""
        if self.until_cleared:
            self._quarantines.clear()
            self._rest = _FIRST_REST
            self._change(State.QUARANTINED, Cause.CLEARED, "cleared; to be tested", now)
            self._wake = now

    def _quarantine(self, cause: Cause, reason: str, now: float, wake: float | None) -> None:
        if self._quarantines and now - self._quarantines[-1] > _HOUR:
            self._rest = _FIRST_REST
            wake = None if wake is None else now + self._rest
        self._quarantines.append(now)
        self._wake = wake
        if len(self._quarantines) == _MOST_QUARANTINES and now - self._quarantines[0] <= _HOUR:
            text = f"{reason}; the third quarantine within an hour"
            self._change(State.RETIRED, cause, text, now)
        else:
            self._change(State.QUARANTINED, cause, reason, now)

    def _change(self, state: State, cause: Cause, reason: str, now: float) -> None:
        self.history.append(Change(state, cause, reason, now))
