"""What must outlive a data worker: the lanes of every session, and the shared page with their packet-number floors.

The page belongs to the control process and is written by workers alone (:mod:`vantun.session.floor_layout`). A place
in it goes to the next lane as soon as its lane is closed; the lane's connection id stands in the place, so a worker
knows whether what it finds there is its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from drivers.shared import SharedPage
from vantun.lanes import LaneSpec
from vantun.session.limits import FLOOR_BYTES, LANE_FLOORS, SESSION_FLOORS


class FloorPage:
    """The page and its places. All workers of an appliance share it, so that a spare one can take any other's place.

    Attributes
    ----------
    page
        The floors.
    lanes, sessions
        Places that are free. One that was given back is used again as late as possible: what stands there helps to
        find faults.
    """

    def __init__(self) -> None:
        self.page = SharedPage.reserve((LANE_FLOORS + SESSION_FLOORS) * FLOOR_BYTES, "vantun-floors")
        self.lanes = deque(range(LANE_FLOORS))
        self.sessions = deque(range(SESSION_FLOORS))

    def close(self) -> None:
        """Give the page up."""
        self.page.close()


class LaneKeeper:
    """The lanes that a worker has, for the one that comes after it.

    Parameters
    ----------
    floors
        Where their floors stand.
    """

    def __init__(self, floors: FloorPage) -> None:
        self._floors = floors
        self._lanes: dict[tuple[int, int], LaneSpec] = {}
        self._sessions: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def add(self, spec: LaneSpec) -> LaneSpec:
        """Remember a lane; return it with its places in the page (none when the page is full: it ends with its worker).

        A lane that is known already keeps its places.
        """
        where = (spec.session, spec.path)
        known = self._lanes.get(where)
        if known is not None:
            spec = replace(spec, floor=known.floor, session_floor=known.session_floor)
        else:
            if spec.session not in self._sessions and self._floors.sessions:
                self._sessions[spec.session] = self._floors.sessions.popleft()
            floor = self._floors.lanes.popleft() if self._floors.lanes else -1
            spec = replace(spec, floor=floor, session_floor=self._sessions.get(spec.session, -1))
        self._lanes[where] = spec
        return spec

    def move(self, session: int, path: int, peer: tuple[str, int]) -> None:
        """Note that the peer of a lane has another address now; unknown lanes are ignored."""
        spec = self._lanes.get((session, path))
        if spec is not None:
            self._lanes[session, path] = replace(spec, peer=peer)

    def remove(self, session: int, path: int) -> None:
        """Forget a lane; unknown ones are ignored. Its session stays: a path of it may come again."""
        spec = self._lanes.pop((session, path), None)
        if spec is not None and spec.floor >= 0:
            self._floors.lanes.append(spec.floor)

    def end(self, session: int) -> None:
        """Forget a session and its lanes."""
        for where in [where for where in self._lanes if where[0] == session]:
            self.remove(*where)
        place = self._sessions.pop(session, None)
        if place is not None:
            self._floors.sessions.append(place)

    def take_over(self) -> tuple[list[LaneSpec], list[LaneSpec]]:
        """Return the lanes that a new worker may go on with, and those that end: nobody knows which numbers they used.

        The latter are forgotten.
        """
        kept = [spec for spec in self._lanes.values() if spec.floor >= 0 and spec.session_floor >= 0]
        over = [spec for spec in self._lanes.values() if spec.floor < 0 or spec.session_floor < 0]
        for spec in over:
            self.remove(spec.session, spec.path)
        return kept, over
