"""What is done with each span of a batch that kernels with compiled-in rows may do (strips.h), compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from accel.engine import SpanJob
from accel.gf256 import COLUMNS
from accel.kernels.memory import padded_length
from drivers.kernel import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STRIP = 8
"""Words of a strip's descriptor."""
_HEADER_STRIPS = 8
"""Word of the header where kernels of strips find theirs."""
_UNIT = 16
_ITEM = 32
"""Bytes of a unit that an item works on."""


class StripTable(NamedTuple):
    """Shapes, and the kernels that serve them.

    Attributes
    ----------
    limits
        [shapes, 3] largest m and k of each, and how many kernels it takes.
    kernels
        [kernels, 3] slot, first row and rows of each.
    serves
        [kernels, shapes] whether the shape takes the kernel.
    """

    limits: NDArray[np.int64]
    kernels: NDArray[np.int64]
    serves: NDArray[np.bool_]


@kernel
def find_shapes(job: SpanJob, places: NDArray[np.int64], table: StripTable, shape: NDArray[np.int64]) -> int:
    """Write for each span the number of the first shape that holds it, -1 = none does; return how many strips they are.

    Of spans that lose nothing there is nothing to compute; a strip may turn out to have no row for its kernel.
    """
    strips = 0
    for i in range(len(places)):
        span, found = places[i], -1
        k, m, start = int(job.k[span]), int(job.m[span]), int(job.parity_start[span])
        if m > 0 and int(job.column[span]) & (COLUMNS - 1) == 0:
            for number in range(len(table.limits)):
                if found < 0 and m <= table.limits[number, 0] and k <= table.limits[number, 1]:
                    found = number
            for p in range(m):
                if job.row[start + p] != p:
                    found = -1
        shape[i] = found
        if found >= 0:
            strips += table.limits[found, 2]
    return strips


@kernel
def describe_strips(
    job: SpanJob,
    places: NDArray[np.int64],
    table: StripTable,
    found: tuple[NDArray[np.int64], NDArray[np.int64]],
    work: NDArray[np.uint32],
    begin: int,
    items: NDArray[np.int64],
) -> None:
    """Describe the strips of spans that have a shape, from word ``begin`` of ``work`` on.

    ``found`` has the shape of each span, and the word where its units are; ``items`` receives those of each kernel.
    """
    shape, units = found
    for turn in range(len(table.kernels)):
        slot, first, rows = table.kernels[turn, 0], table.kernels[turn, 1], table.kernels[turn, 2]
        at, total, count = begin, 0, 0
        for i in range(len(places)):
            span = places[i]
            k, m = int(job.k[span]), int(job.m[span])
            if shape[i] < 0 or not table.serves[turn, shape[i]] or m <= first:
                continue
            size = padded_length(int(job.length[span]))
            work[at], work[at + 1], work[at + 2] = total, k, units[i]
            work[at + 3], work[at + 4], work[at + 5] = units[i] + k + first, min(m - first, rows), size // _UNIT
            at, total, count = at + STRIP, total + (size + _ITEM - 1) // _ITEM, count + 1
        head = _HEADER_STRIPS + 3 * slot
        work[head], work[head + 1], work[head + 2] = total, begin, count
        begin, items[turn] = at, total
