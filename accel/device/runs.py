"""Runs of memory that a device can copy in one piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel

MOST_RUNS = 16
"""Of memory that the device copies directly; each is a copy of its own, of a few microseconds."""
NOTHING_PINNED = np.zeros((0, 2), np.int64)


@kernel
def append_run(runs: NDArray[np.int64], count: int, address: int, size: int) -> int:
    """Append bytes to ``count`` runs [most, 2], of address and bytes: to the last one, where they lie behind it.

    Returns how many there are then; -1 from the first on for which there is no room.
    """
    if size == 0 or count < 0:
        return count
    if count > 0 and runs[count - 1, 0] + runs[count - 1, 1] == address:
        runs[count - 1, 1] += size
        return count
    if count == len(runs):
        return -1
    runs[count, 0], runs[count, 1] = address, size
    return count + 1


@kernel
def are_pinned(runs: NDArray[np.int64], count: int, pinned: NDArray[np.int64]) -> int:
    """Return ``count``; -1 when one of so many runs is not within a range of ``pinned`` [n, 2]: addresses and bytes."""
    for run in range(count):
        inside = False
        for each in range(len(pinned)):
            begin = pinned[each, 0]
            inside = inside or (begin <= runs[run, 0] and runs[run, 0] + runs[run, 1] <= begin + pinned[each, 1])
        if not inside:
            return -1
    return count
