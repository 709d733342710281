"""Places in the page where the workers of a crew agree on shares of each path's rate (vantun/session/path_share.py)."""

from __future__ import annotations

from collections import deque

from vantun.lanes import LaneSpec
from vantun.session.limits import SHARE_PLACES, SLICES


class PathPlaces:
    """Gives each path with a rate, whose session has several slices, a place of its own."""

    def __init__(self, places: int = SHARE_PLACES) -> None:
        self._free = deque(range(places))
        self._taken: dict[tuple[int, int], int] = {}

    def of(self, spec: LaneSpec) -> tuple[int, int]:
        """Return place and line of a lane; (-1, 0) = its rate is its own part, also when no place is free."""
        if spec.slices < 2 or max(spec.rate, spec.cap) <= 0.0 or spec.slice >= SLICES:
            return -1, 0
        key = spec.session, spec.path
        if key not in self._taken:
            if spec.slice or not self._free:  # whoever shares a path does so with all of its lanes, or not at all
                return -1, 0
            self._taken[key] = self._free.popleft()
        return self._taken[key], spec.slice

    def give_back(self, session: int, path: int | None = None) -> None:
        """Free the place of a path, or those of all paths of a session."""
        for key in [key for key in self._taken if key[0] == session and path in (None, key[1])]:
            self._free.append(self._taken.pop(key))
