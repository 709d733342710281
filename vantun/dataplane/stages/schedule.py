"""Stage: timers run, and packets are chosen, placed on lanes, numbered and framed in their rows."""

from __future__ import annotations

import numpy as np

from vantun.dataplane.context import Context
from vantun.session.departures import Departures
from vantun.session.floors import reserve_numbers
from vantun.session.scheduler import plan


class ScheduleStage:
    """Owns the columns of the seal job, for at most ``capacity`` packets."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._tables = context.tables
        self._floors = context.floors
        self._clock = context.clock("schedule")
        self.departures = Departures(
            source_offset=np.zeros(capacity, np.int64),
            length=np.zeros(capacity, np.int32),
            slot=np.zeros(capacity, np.int32),
            number=np.zeros(capacity, np.int64),
            status=np.zeros(capacity, np.int8),
            lane=np.zeros(capacity, np.int32),
            socket=np.zeros(capacity, np.int32),
            peer=np.zeros(capacity, np.int32),
            ecn=np.zeros(capacity, np.uint8),
            spare=np.zeros(capacity, np.int32),
            planned=np.zeros(1, np.int64),
            now=np.zeros(1, np.float64),
        )

    def run(self, now: float) -> tuple[int, float]:
        """Return (packets planned, when to run again)."""
        self._clock.start()
        d = self.departures
        count, due = plan(self._tables.root, d, now)
        if count:
            reserve_numbers(self._tables.root, self._floors, d.lane, d.number, count)
        self._clock.stop(count)
        return count, due
