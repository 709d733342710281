"""A worker's part in the rates that paths have over all workers: a look every 20 ms, while lanes send."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.dataplane.sessions import SessionBook
from vantun.lanes import LaneSpec
from vantun.session.path_share import EVERY, demand_of, leave_share, take_share


@dataclass
class _Shared:
    spec: LaneSpec
    limit: float
    """Of the path, bytes per second."""
    sent: int = 0
    at: float = 0.0


class PathRates:
    """The lanes of this worker whose rate is a share of their path's.

    Parameters
    ----------
    page
        [shape=(SHARE_PLACES, SLICES), dtype=share_dtype] of all workers; None = nothing is shared.
    clock
        The monotonic clock, which all processes of a machine have in common. The data plane's own leaves gaps out.
    """

    def __init__(
        self,
        context: Context,
        sessions: SessionBook,
        page: NDArray[Any] | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._t = context.tables
        self._sessions = sessions
        self._page = page
        self._clock = clock
        self._lanes: dict[int, _Shared] = {}
        self._due = 0.0

    def add(self, lane: int, spec: LaneSpec) -> None:
        """Share the rate of a lane that was just added, if its path has one to be shared."""
        limit = max(spec.rate, spec.cap) / 8.0 * spec.slices
        if self._page is None or spec.share[0] < 0 or limit <= 0.0:
            return
        leave_share(self._page, *spec.share)
        shared = self._lanes[lane] = _Shared(spec, limit, int(self._t.lane[lane]["sent_bytes"]), self._clock())
        self._look(lane, shared, shared.at)

    def run(self) -> None:
        """Look again, if it is time."""
        if not self._lanes:
            return
        now = self._clock()
        if now < self._due:
            return
        self._due = now + EVERY
        for lane, shared in list(self._lanes.items()):
            if self._t.lane[lane]["used"] and self._sessions.lane_spec(lane) is shared.spec:
                self._look(lane, shared, now)
            else:
                del self._lanes[lane]
                assert self._page is not None
                leave_share(self._page, *shared.spec.share)

    def due(self, now: float) -> float:
        """Return when to look again, on the clock that reads ``now``."""
        return now + max(self._due - self._clock(), 0.0) if self._lanes else math.inf

    def _look(self, lane: int, shared: _Shared, now: float) -> None:
        record = self._t.lane[lane]
        sent = int(record["sent_bytes"])
        held_up = bool(record["limited"])
        demand = demand_of(sent - shared.sent, held_up, shared.limit, now - shared.at)
        shared.sent, shared.at = sent, now
        assert self._page is not None
        share = take_share(self._page, shared.spec.share, shared.limit, demand, now)
        before = float(record["rate_cap"])
        record["rate_cap"] = share
        if before > 0.0:  # at once: the controller looks at its limit with the next RECEIPT only
            record["pacing_rate"] = min(float(record["pacing_rate"]) * max(share / before, 0.0), share / 0.8)
