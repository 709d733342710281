"""The paths of a server's clients, as they are shown, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vantun.config_kinds import Endpoint
from vantun.lanes import LaneSpec


@dataclass
class _Path:
    lane: LaneSpec
    since: float


class KnownPaths:
    """Paths that are up, by session and path id."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Path] = {}

    def add(self, lane: LaneSpec, now: float) -> None:
        """Note a path that has come up."""
        self._known[lane.session, lane.path] = _Path(lane, now)

    def move(self, session: int, path: int, peer: tuple[str, int]) -> LaneSpec | None:
        """Note another address of a path; return the lane as it was, None when that is no news."""
        known = self._known.get((session, path))
        if known is None or known.lane.peer == peer:
            return None
        before, known.lane = known.lane, replace(known.lane, peer=peer)
        return before

    def drop(self, session: int, path: int) -> bool:
        """Forget a path; return whether it was known."""
        return self._known.pop((session, path), None) is not None

    def forget(self, session: int) -> None:
        """Forget all paths of a session."""
        for where in [where for where in self._known if where[0] == session]:
            del self._known[where]

    def of(self, session: int) -> list[LaneSpec]:
        """Return the lanes of a session's paths."""
        return [path.lane for (known, _), path in self._known.items() if known == session]

    def user(self, session: int) -> str:
        """Return whose a session is, empty when it has no path."""
        return next((lane.user for lane in self.of(session)), "")

    def alive(self, session: int) -> bool:
        """Tell whether a session has a path."""
        return any(known == session for known, _ in self._known)

    def report(self, now: float) -> list[dict[str, object]]:
        """Return what status shows of them."""
        return [
            {
                "session": f"{path.lane.session:x}",
                "path": path.lane.path,
                "name": path.lane.name,
                "user": path.lane.user,
                "state": "up",
                "peer": str(Endpoint(*path.lane.peer)),
                "uptime": round(now - path.since, 3),
                "suite": path.lane.suite.name,
            }
            for path in self._known.values()
        ]
