"""Open-addressing hash tables from a uint64 key to an index.

One probe sequence per packet (lanes) or record (flows). A place keeps its index plus 1, 0 = free: so an empty table is
memory that nobody has written to, and costs none. With -1 for free places that of the flows took 0.5 MB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.wire.integers import int64, uint64


@kernel
def _place(key: int, mask: int) -> int:
    """Return the home of ``key``: the finalizer of MurmurHash3, so that clustered ids spread."""
    h = uint64(key)
    h ^= h >> uint64(33)
    h *= uint64(0xFF51AFD7ED558CCD)
    h ^= h >> uint64(33)
    return int64(h & uint64(mask))


@kernel
def find(keys: NDArray[np.uint64], values: NDArray[np.int32], key: int) -> int:
    """Return the value of ``key``, or -1."""
    mask = len(keys) - 1
    place = _place(key, mask)
    while values[place] > 0:
        if keys[place] == uint64(key):
            return int64(values[place]) - 1
        place = (place + 1) & mask
    return -1


@kernel
def insert(keys: NDArray[np.uint64], values: NDArray[np.int32], key: int, value: int) -> None:
    """Add ``key``; the caller bounds the number of entries to a quarter of the table."""
    mask = len(keys) - 1
    place = _place(key, mask)
    while values[place] > 0 and keys[place] != uint64(key):
        place = (place + 1) & mask
    keys[place] = uint64(key)
    values[place] = value + 1


@kernel
def remove(keys: NDArray[np.uint64], values: NDArray[np.int32], key: int) -> None:
    """Take ``key`` out and close the gap (backward shift), so that no tombstones lengthen later probes."""
    mask = len(keys) - 1
    place = _place(key, mask)
    while keys[place] != uint64(key) or values[place] == 0:
        if values[place] == 0:
            return
        place = (place + 1) & mask
    gap = place
    place = (place + 1) & mask
    while values[place] > 0:
        home = _place(int64(keys[place]), mask)
        if ((place - home) & mask) >= ((place - gap) & mask):
            keys[gap] = keys[place]
            values[gap] = values[place]
            gap = place
        place = (place + 1) & mask
    values[gap] = 0


FLOW_IDS = 1 << 44
"""Flow ids are smaller, sessions are below 2^20: both fit one key. A larger id would be a flow of another session."""


@kernel
def flow_key(session: int, flow: int) -> int:
    """Return the key of a flow; 0 <= flow < FLOW_IDS."""
    return session * FLOW_IDS + flow
