"""The few figures that the demo needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that at least ``percent`` of them do not pass (nearest rank); None for no values."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(percent / 100.0 * len(values)) - 1)]


def longest_silence(times: Sequence[float], start: float, end: float) -> float:
    """Return the longest stretch without an event between ``start`` and ``end``, both of which count as events.

    ``times`` rise.
    """
    inside = [time for time in times if start < time < end]
    return max(later - earlier for earlier, later in pairwise([start, *inside, max(start, end)]))
