"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST = 0.25
"""Seconds."""
LONGEST = 15.0


class Backoff:
    """Exponential back-off with jitter, so that clients of a server that was away do not come back in one instant."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._next = FIRST

    def reset(self) -> None:
        """Begin again with the shortest time: it worked."""
        self._next = FIRST

    def next(self) -> float:
        """Return the seconds to wait now: half of the current time to all of it; the time doubles."""
        current = self._next
        self._next = min(current * 2, LONGEST)
        return self._draw(current / 2, current)
