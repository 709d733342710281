"""Memory that handshakes have left is given back once they are over."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from drivers.linux.heap import give_back

_SHARE = 0.01
"""Of the time, at most, for tidying: a collection looks at all that is there, however little has come."""


class Tidy:
    """Collects garbage and empties the heap when something has come or gone; by itself neither would be done for long.

    Handshakes leave cycles that nobody would look for as long as little is allocated, and holes in the heap.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: frozenset[object] = frozenset()
        self._left = 2
        self._rests_until = -1.0

    def look(self, there: frozenset[object]) -> None:
        """Tidy up if other things are there than at the look before, and once more after that."""
        if there != self._seen:
            self._seen, self._left = there, 2
        began = self._clock()
        if self._left == 0 or began < self._rests_until:
            return
        self._left -= 1
        gc.collect()
        give_back()
        now = self._clock()
        self._rests_until = now + (now - began) / _SHARE
