"""A clock that stands still while the process does, so that nothing is late because everything was stopped.

A virtual machine that was paused, a frozen container, a stopped process: the monotonic clock goes on, or jumps, and
all that was measured from before is hours long. A packet that was in flight would give a round trip of an hour, every
lane would have been silent for too long, every packet flow would be overdue. So the time in which the worker did not
run does not count. An idle worker sleeps long, too, but it knows for how long it means to.
"""

from __future__ import annotations

import time
from collections.abc import Callable

GAP = 2.0
"""Seconds that may pass unexpectedly between two readings; a turn of a worker takes a hundredth of that."""
ALLOWED = 0.1
"""Seconds that a longer gap counts as. Not 0, else packets in flight would measure too short a round trip; no more,
else lanes would be suspected of silence."""


class SteadyClock:
    """Readings of ``source`` in seconds, less the gaps in them; never less than the last one.

    Attributes
    ----------
    jumps
        Gaps left out so far.
    lost
        Seconds left out so far.
    """

    def __init__(self, source: Callable[[], float] = time.monotonic) -> None:
        self.jumps = 0
        self.lost = 0.0
        self._source = source
        self._last = source()
        self._limit = self._last + GAP

    def __call__(self) -> float:
        """Return the time."""
        raw = self._source()
        if not self._last <= raw <= self._limit:
            self._leap(raw)
        self._last = raw
        self._limit = raw + GAP
        return raw - self.lost

    def expect(self, seconds: float) -> None:
        """Say that the next reading may be ``seconds`` later than the last, because the caller means to sleep."""
        self._limit = self._last + seconds + GAP

    def follow(self, last: float, seconds: float = 0.0) -> None:
        """Go on from a reading of the source that compiled code has made; the next is meant to be so much later."""
        self._last = last
        self._limit = last + seconds + GAP

    def _leap(self, raw: float) -> None:
        meant = self._limit - GAP + ALLOWED if raw > self._limit else self._last
        self.jumps += 1
        self.lost += raw - meant
