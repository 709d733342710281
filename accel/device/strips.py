"""Strips: spans whose parity a kernel with compiled-in rows computes (strips.h), and which spans those are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.device.compiled_code1 import RowKernel
from accel.device.port import Words
from accel.engine import SpanJob
from accel.gf256 import COLUMNS
from drivers.lanes import Launch

STRIP = 8
"""Words of a strip's descriptor."""
_HEADER_STRIPS = 8
"""Word of the header where kernels of strips find theirs."""
_UNITS = 2
"""Units of 16 bytes that an item works on."""

_Places = NDArray[np.int64]


class Shape(NamedTuple):
    """Spans that the same kernels can do: of up to ``m`` parity units, in rows 0, 1, ..., from column 0 on.

    Attributes
    ----------
    k, m
        What is measured; ``m`` is also the largest.
    kernels
        Together they have all rows; none = the general kernel, by Horner's rule (horner.h), for spans of any shape.
    horner
        Whether that was tried beside them, where they are tried.
    """

    k: int
    m: int
    kernels: tuple[RowKernel, ...]
    horner: bool = False

    @property
    def columns(self) -> int:
        """Largest k that its kernels can do."""
        return min((kernel.columns for kernel in self.kernels), default=0)


BY_HORNER = Shape(10, 4, (), horner=True), Shape(128, 16, (), horner=True)
"""For devices that permute no bytes, which is what the general kernel does best with: few rows, and many."""
_FEW = 8
"""Rows."""


def by_horner(job: SpanJob, places: _Places, shapes: Sequence[Shape]) -> bool:
    """Return whether the general kernel of a batch goes by Horner's rule: where that was faster for as many rows."""
    tried = [shape.m > _FEW for shape in shapes if not shape.kernels]
    return bool(tried) and bool(job.m[places].mean() > _FEW) in tried


def common_shapes(columns: int = COLUMNS, *, horner: bool = False) -> tuple[Shape, ...]:
    """Return the shapes with kernels of their own: up to 4, 8, 16 and 32 parity units, for k up to ``columns``.

    ``horner`` = they are tried against Horner's rule too.

    Sixteen rows by one kernel read the data once, and share sums and transpositions: 260 instructions for 32 bytes of a
    unit, where two kernels of eight take 380.
    """
    four, eight = RowKernel(0, 0, 4, columns), RowKernel(1, 0, 8, columns)
    low, high = RowKernel(2, 0, 16, columns), RowKernel(3, 16, 16, columns)
    return (
        Shape(min(10, columns), 4, (four,), horner),
        Shape(min(32, columns), 8, (eight,), horner),
        Shape(columns, 16, (low,), horner),
        Shape(columns, 32, (low, high), horner),
    )


def shape_of_spans(job: SpanJob, places: _Places, shapes: Sequence[Shape]) -> _Places:
    """Return for each span the number of its shape in ``shapes``, in ascending order of m, or -1 where it has none.

    The pipeline codes every block from column 0 on, and what a block gets as it closes are rows 0 to m - 1; what it
    asks for later are rows somewhere behind them.
    """
    k, m = job.k[places], job.m[places].astype(np.int64)
    found = np.full(len(places), -1, np.int64)
    for number in reversed(range(len(shapes))):
        found[(m <= shapes[number].m) & (k <= shapes[number].columns)] = number
    found[(job.column[places] & (COLUMNS - 1) != 0) | (m == 0)] = -1
    short = np.flatnonzero(found >= 0)
    ends = np.cumsum(m[short])
    order = np.arange(int(ends[-1]) if len(short) else 0) - np.repeat(ends - m[short], m[short])
    row = job.row[np.repeat(job.parity_start[places[short]], m[short]) + order]
    found[np.repeat(short, m[short])[row != order]] = -1
    return found


def count_strips(shape: _Places, shapes: Sequence[Shape]) -> int:
    """Return an upper bound of the descriptors of spans, one for each kernel of each span's shape."""
    return sum(len(each.kernels) * int((shape == number).sum()) for number, each in enumerate(shapes))


def write_strips(
    work: Words, begin: int, shape: _Places, shapes: Sequence[Shape], spans: tuple[_Places, _Places, _Places, _Places]
) -> list[Launch]:
    """Describe the strips of spans that have a shape, from word ``begin`` of ``work`` on, and return their launches.

    ``spans`` has k, m, the word where each has its units, and the 16-byte units of a shard, of every span.
    """
    k, m, unit, columns = spans
    launches = []
    for kernel in dict.fromkeys(kernel for each in shapes for kernel in each.kernels):
        numbers = [number for number, each in enumerate(shapes) if kernel in each.kernels]
        mine = np.flatnonzero(np.isin(shape, numbers) & (m > kernel.first))
        items = -(-columns[mine] // _UNITS)
        head = _HEADER_STRIPS + 3 * kernel.slot
        work[head : head + 3] = (int(items.sum()), begin, len(mine))
        if not len(mine):
            continue
        many = np.minimum(m[mine] - kernel.first, kernel.rows)
        targets = unit[mine] + k[mine] + kernel.first
        records = work[begin:][: STRIP * len(mine)].reshape(-1, STRIP)
        for place, values in enumerate((np.cumsum(items) - items, k[mine], unit[mine], targets, many, columns[mine])):
            records[:, place] = values
        begin += STRIP * len(mine)
        launches.append(Launch(kernel.name, int(items.sum())))
    return launches
