"""Stage: connection id -> lane, then AEAD open, out of place, from the receive buffer into rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.engine import OpenJob
from drivers.batch import PacketBatch
from vantun.dataplane.context import Context
from vantun.session.ingest import Arrivals, sort_arrivals


class OpenStage:
    """Owns the columns of the open job, for batches of at most ``capacity`` packets."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._context = context
        self._clock = context.clock("open")
        self.capacity = capacity
        self._jobs: dict[int, OpenJob] = {}
        """By batch size: engines know the jobs that they have seen before."""
        self.arrivals = Arrivals(
            source_offset=np.zeros(capacity, np.int64),
            target_offset=np.zeros(capacity, np.int64),
            length=np.zeros(capacity, np.int32),
            slot=np.zeros(capacity, np.int32),
            number=np.zeros(capacity, np.int64),
            status=np.zeros(capacity, np.int8),
            lane=np.zeros(capacity, np.int32),
            row=np.zeros(capacity, np.int32),
            source=np.zeros(capacity, np.int32),
            ecn=np.zeros(capacity, np.uint8),
            miss=np.zeros(capacity, np.int32),
        )

    def run(self, batch: PacketBatch, first: int, count: int) -> tuple[int, NDArray[np.int32]]:
        """Open ``count`` packets of ``batch`` from ``first`` on; return (packets of ours, indexes of the others)."""
        self._clock.start()
        a, t = self.arrivals, self._context.tables
        ours, misses = sort_arrivals(t.root, a, batch, first, count)
        if ours:
            job = self._jobs.get(ours)
            if job is None or job.source is not batch.memory:
                job = self._jobs[ours] = self._job(batch, ours)
            self._context.engines.open.run(job)
        self._clock.stop(ours)
        return ours, a.miss[:misses].copy()

    def _job(self, batch: PacketBatch, ours: int) -> OpenJob:
        a = self.arrivals
        return OpenJob(
            source=batch.memory,
            source_offset=a.source_offset[:ours],
            length=a.length[:ours],
            target=self._context.tables.memory,
            target_offset=a.target_offset[:ours],
            slot=a.slot[:ours],
            number=a.number[:ours],
            status=a.status[:ours],
        )
