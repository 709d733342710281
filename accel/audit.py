"""Computing one packet a second time, cheaply: a thousandth of all packets are, beside kernels of 80 ns a packet.

The row's source is read where it lies; only the target is private. One job is kept for each source, so that engines
which know their jobs by identity need not look at it anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.engine import TAG_LENGTH, Engine, EngineSession, OpenJob, SealJob

_LONGEST = 1 << 16
_SOURCES = 8


class RowAudit:
    """Compares rows of finished jobs with what another engine makes of them."""

    def __init__(self) -> None:
        self._target = np.zeros(_LONGEST + TAG_LENGTH, np.uint8)
        self._jobs: dict[tuple[int, bool], SealJob | OpenJob] = {}

    def same(self, engine: Engine, session: EngineSession, job: SealJob | OpenJob, row: int) -> bool:
        """Return whether ``engine`` gets the same result for ``row``; False also when that cannot be said this way."""
        length = int(job.length[row])
        seals = isinstance(job, SealJob)
        if not 0 <= length <= _LONGEST:
            return False
        one = self._job(job.source, seals=seals)
        one.source_offset[0] = job.source_offset[row]
        one.length[0] = length
        one.slot[0] = job.slot[row]
        one.number[0] = number = job.number[row]
        one.status[0] = 0
        engine.submit(session, one)
        size = max(0, length + (TAG_LENGTH if seals else -TAG_LENGTH))
        start = int(job.target_offset[row])
        return bool(
            one.status[0] == job.status[row]
            and one.number[0] == number
            and self._target[:size].tobytes() == job.target[start : start + size].tobytes()
        )

    def _job(self, source: NDArray[np.uint8], *, seals: bool) -> SealJob | OpenJob:
        known = self._jobs.get((id(source), seals))
        if known is not None and known.source is source:
            return known
        if len(self._jobs) >= _SOURCES:
            self._jobs.clear()
        job = self._jobs[id(source), seals] = (SealJob if seals else OpenJob)(
            source=source,
            source_offset=np.zeros(1, np.int64),
            length=np.zeros(1, np.int32),
            target=self._target,
            target_offset=np.zeros(1, np.int64),
            slot=np.zeros(1, np.int32),
            number=np.zeros(1, np.int64),
            status=np.zeros(1, np.int8),
        )
        return job
