from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ragged(start: NDArray[np.integer], count: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return start[i], start[i] + 1, ... (count[i] of them) for every i, behind each other."""
    count = count.astype(np.int64)
    ends = np.cumsum(count)
    places: NDArray[np.int64] = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(start - (ends - count), count)
    return places
