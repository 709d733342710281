"""How rows are parted over lanes, compiled: a part holds as many as a lane has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Need = tuple[int, int, int, int]


@kernel
def is_larger(need: Need, room: NDArray[np.int64]) -> bool:
    """Return whether something needs more than ``room``: bytes of source and target, words of work and of scratch."""
    return bool(need[0] > room[0] or need[1] > room[1] or need[2] > room[2] or need[3] > room[3])


@kernel
def add_to_part(
    need: Need, used: Need, room: NDArray[np.int64], ends: NDArray[np.int64], count: int, parts: int
) -> tuple[Need, int]:
    """Have a row be in the part that is being filled, or begin another where that, with ``used``, has no room for it.

    ``ends`` receives ``count``, the rows before it, at the end of each part. Returns what the part has used then, and
    how many parts are complete.
    """
    both = need[0] + used[0], need[1] + used[1], need[2] + used[2], need[3] + used[3]
    if not is_larger(both, room):
        return both, parts
    ends[parts] = count
    return need, parts + 1
