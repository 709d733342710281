"""Columns as the ring's compiled code takes them, and where in the device's table a client's key is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

PAGE = 64
"""Slots of a client's page of keys."""
STRIDE = PAGE + 1
"""Slots of the device's table that a page takes."""
MOST_SLOTS = 1 << 20
"""Numbers that a client may give its slots are below this."""


class Slot(NamedTuple):
    """Views of one slot.

    Attributes
    ----------
    number
        [int64 (MOST_ROWS,)] packet numbers.
    words
        [int32 (4, MOST_ROWS)] lengths and key slots of packets; k, m, columns and lengths of spans.
    status
        [int8 (MOST_ROWS,)]
    row, lost
        [uint8 (MOST_PARITIES,)] of spans.
    source, target
        [uint8 (DATA,)] packets behind each other, each three bytes behind a multiple of 16; or data units, and parity
        units, each at a multiple of 16.
    """

    number: NDArray[np.int64]
    words: NDArray[np.int32]
    status: NDArray[np.int8]
    row: Bytes
    lost: Bytes
    source: Bytes
    target: Bytes


class Own(NamedTuple):
    """The columns of a submission as the service has copied them, where no client can change them any more.

    Attributes
    ----------
    number, words, row, lost
        As those of :class:`Slot`.
    """

    number: NDArray[np.int64]
    words: NDArray[np.int32]
    row: Bytes
    lost: Bytes


class SpanColumns(NamedTuple):
    """Columns of a job of spans; ``words`` are k, m, column and length."""

    words: NDArray[np.int32]
    data: Places
    parity: Places
    row: Bytes
    lost: Bytes
    data_start: NDArray[np.int32]
    parity_start: NDArray[np.int32]
    status: NDArray[np.int8]


class PacketColumns(NamedTuple):
    """Columns of a job of packets."""

    source_offset: Places
    length: NDArray[np.int32]
    target_offset: Places
    slot: NDArray[np.int32]
    number: NDArray[np.int64]
    status: NDArray[np.int8]


@kernel
def place_of_key(pages: NDArray[np.int32], slot: int) -> int:
    """Return the device's slot of a client's, whose pages are given; -1 where there is none."""
    if slot < 0 or slot >= MOST_SLOTS or pages[slot // PAGE] < 0:
        return -1
    return int(pages[slot // PAGE]) * STRIDE + slot % PAGE
