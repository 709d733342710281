"""Strips: spans whose parity a kernel with compiled-in rows computes (strips.h), and which spans those are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.device.compiled_code1 import RowKernel
from accel.device.port import Words
from accel.device.strip_rows import StripTable, describe_strips, find_shapes
from accel.engine import SpanJob
from accel.gf256 import COLUMNS
from drivers.lanes import Launch

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


@cache
def table_of(shapes: tuple[Shape, ...]) -> StripTable:
    """Return shapes, in ascending order of m, and their kernels, as compiled code takes them."""
    kernels = tuple(dict.fromkeys(kernel for each in shapes for kernel in each.kernels))
    limits = [(each.m, each.columns, len(each.kernels)) for each in shapes]
    serves = [[kernel in each.kernels for each in shapes] for kernel in kernels]
    return StripTable(
        np.array(limits, np.int64).reshape(-1, 3),
        np.array([(each.slot, each.first, each.rows) for each in kernels], np.int64).reshape(-1, 3),
        np.array(serves, np.bool_).reshape(len(kernels), len(shapes)),
    )


def shape_of_spans(job: SpanJob, places: _Places, shapes: tuple[Shape, ...]) -> tuple[_Places, int]:
    """Return for each span the number of its shape in ``shapes``, or -1 where it has none; and how many strips at most.

    The pipeline codes every block from column 0 on, and what a block gets as it closes are rows 0 to m - 1; what it
    asks for later are rows somewhere behind them.
    """
    shape = np.empty(len(places), np.int64)
    return shape, int(find_shapes(job, places, table_of(shapes), shape))


def write_strips(
    job: SpanJob,
    places: _Places,
    shapes: tuple[Shape, ...],
    found: tuple[_Places, _Places],
    work: Words,
    begin: int,
) -> list[Launch]:
    """Describe the strips of spans that have a shape, from word ``begin`` of ``work`` on, and return their launches.

    ``found`` has the shape of each span, and the word where it has its units.
    """
    table = table_of(shapes)
    items = np.empty(len(table.kernels), np.int64)
    describe_strips(job, places, table, found, work, begin, items)
    names = dict.fromkeys(kernel.name for each in shapes for kernel in each.kernels)
    return [Launch(name, count) for name, count in zip(names, items.tolist(), strict=True) if count]
