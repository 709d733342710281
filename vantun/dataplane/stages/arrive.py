"""Stages open and accept: connection id -> lane, AEAD open into rows, replay window, span store. One call a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.engine import OpenJob
from accel.job_block import JobBlocks
from drivers.batch import PacketBatch
from vantun.dataplane.context import STAGES, Context
from vantun.dataplane.turn_kernels import ASK, Arriving, arrive, opened
from vantun.session.ingest import Arrivals

_NOBODY = np.zeros(0, np.int32)


def _arrivals(capacity: int) -> Arrivals:
    return Arrivals(
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


class ArriveStages:
    """Owns the columns of the open job, for batches of at most ``capacity`` packets.

    ``work`` is what :func:`arrive` works on.
    """

    def __init__(self, context: Context, capacity: int) -> None:
        self._root: Any = context.tables.root
        self._memory = context.tables.memory
        self._serving = context.engines.open
        self._arrivals = _arrivals(capacity)
        self._jobs: dict[int, OpenJob] = {}
        """By batch size: engines know the jobs that they have seen before."""
        first = STAGES.index("open")
        self._clock = context.clock("open")
        assert STAGES[first + 1] == "accept"
        self.work = Arriving(
            arrivals=self._arrivals,
            floors=context.floors,
            block=JobBlocks().block(self._job(context.tables.memory, capacity)),
            lease=context.engines.open.lease.words,
            counters=context.counters[first : first + 2],
            clock=np.zeros(2, np.int64),
        )

    def run(self, batch: PacketBatch, first: int, count: int, now: float) -> tuple[int, NDArray[np.int32]]:
        """Take ``count`` packets of ``batch`` from ``first`` on; return (packets of ours, indexes of the others)."""
        return self.finish(arrive(self._root, self.work, batch, first, count, now), batch, now)

    def finish(self, found: tuple[int, int, int], batch: PacketBatch, now: float) -> tuple[int, NDArray[np.int32]]:
        """Do what is left after a call of :func:`arrive` that returned ``found``; return as :meth:`run`."""
        status, ours, misses = found
        if status == ASK:
            self._clock.start()
            job = self._jobs.get(ours)
            if job is None or job.source is not batch.memory:
                job = self._jobs[ours] = self._job(batch.memory, ours)
            self._serving.run(job)
            self._clock.stop(ours)
            opened(self._root, self.work, batch, ours, now)
        return ours, self._arrivals.miss[:misses].copy() if misses else _NOBODY

    def rehearse(self, batch: PacketBatch, now: float) -> None:
        """Call what is called only when somebody has to be asked; nothing happens."""
        opened(self._root, self.work, batch, 0, now)

    def _job(self, source: NDArray[np.uint8], ours: int) -> OpenJob:
        a = self._arrivals
        return OpenJob(
            source=source,
            source_offset=a.source_offset[:ours],
            length=a.length[:ours],
            target=self._memory,
            target_offset=a.target_offset[:ours],
            slot=a.slot[:ours],
            number=a.number[:ours],
            status=a.status[:ours],
        )
