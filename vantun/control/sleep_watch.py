"""Notices that the machine was asleep: the clock that timers use stood still, and the rest of the world did not."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG_SLEEP = 15.0
"""Seconds after which paths are set up anew: their peer has given them up, or is about to."""


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SleepWatch:
    """Compares CLOCK_MONOTONIC with CLOCK_BOOTTIME, which goes on during suspend. Times in seconds."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, boottime: Callable[[], float] = _boottime
    ) -> None:
        self._monotonic = monotonic
        self._boottime = boottime
        self._offset = boottime() - monotonic()

    def slept(self) -> float:
        """Return for how long the machine has slept since the last call, 0 for what is too short to matter."""
        before, self._offset = self._offset, self._boottime() - self._monotonic()
        return self._offset - before if self._offset - before > 0.5 else 0.0
