"""Where the columns of a job lie, as the one pointer that a compiled kernel takes.

A block is an array of int64 words, two for each column in the order of the job's fields: address, elements. Finding
eight addresses takes 4 us; a stage uses the same few jobs again and again, so blocks are kept by the job's identity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.engine import Job

_MOST = 4096
"""Jobs kept; beyond, all are forgotten. A stage has one job for each size of batch."""


class JobBlocks:
    """Blocks of the jobs seen last. A job must not change its columns; their contents may change."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[Job, NDArray[np.int64], int]] = {}

    def address(self, job: Job) -> int:
        """Return the address of the job's block, valid while this object lives and fewer than 4096 jobs follow."""
        known = self._blocks.get(id(job))
        if known is not None and known[0] is job:
            return known[2]
        return self._add(job)

    def block(self, job: Job) -> NDArray[np.int64]:
        """Return the job's block; its address is good as long as the caller keeps the block and the job."""
        self.address(job)
        return self._blocks[id(job)][1]

    def _add(self, job: Job) -> int:
        if len(self._blocks) >= _MOST:
            self._blocks.clear()
        words = []
        for name, column in job._asdict().items():
            if not column.flags.c_contiguous or column.ndim != 1:
                raise ValueError(f"column {name} of a job is not contiguous; give it as a copy")
            words += [column.ctypes.data, column.size]
        block = np.array(words, np.int64)
        address = int(block.ctypes.data)
        self._blocks[id(job)] = (job, block, address)
        return address
