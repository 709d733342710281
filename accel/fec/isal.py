"""Engine ``isal``: code 1 by Intel ISA-L, which takes one block per call; our matrix, our closed form for decode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.calls import Caller, address_of, aligned, make_records, write_call
from accel.engine import EngineSession, Job, Maturity, Operation, Provenance, SpanJob, Status, Ticket
from accel.finished import FINISHED, KeylessSession, Synchronous
from accel.gf256 import COLUMNS, EXP, LOG, MATRIX, ROW_POINT, ROWS
from drivers.isal import ISAL, IsalFunctions, isal_functions
from drivers.library import Library

_TABLE = 32
"""Bytes of ISA-L's table of one coefficient."""
_PIECE = 1 << 20
"""Coefficients made at once; bounds the memory of a job of many wide spans."""

_Words = NDArray[np.int64]


class _Spans(NamedTuple):
    """Spans of one shape; pointers are absolute."""

    place: _Words
    """[n] of the span in the job."""
    length: int
    units: _Words
    """[n, k]"""
    parity: _Words
    """[n, m]"""
    column: _Words
    """[n, k] columns of the units."""
    row: _Words
    """[n, m]"""
    lost: _Words
    """[n, m]"""


class IsalFec(Synchronous):
    """Encode and decode with ISA-L.

    Parameters
    ----------
    library, isa
        For comparisons: another build, and one variant of it instead of the library's own choice.
    """

    name = "isal"
    operations = frozenset({Operation.FEC_ENCODE, Operation.FEC_DECODE})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self, library: Library = ISAL, isa: str = "") -> None:
        self._library = library
        self._isa = isa
        self._functions: IsalFunctions | None = None
        self._caller: Caller | None = None

    def open(self, operation: Operation) -> EngineSession:
        """Load the library."""
        if operation not in self.operations:
            raise ValueError(f"engine isal cannot do {operation.value}")
        self._functions = isal_functions(self._library, self._isa)
        self._caller = Caller()
        return KeylessSession(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every span has its status on return."""
        assert isinstance(job, SpanJob)
        decode = session.operation is Operation.FEC_DECODE
        job.status[:] = Status.REJECTED
        for spans in _shapes(job, decode=decode):
            job.status[spans.place] = Status.DONE
            if spans.length > 0 and spans.row.size:
                self._combine(spans, decode=decode)
        return FINISHED

    def _combine(self, spans: _Spans, *, decode: bool) -> None:
        """Write every target of spans of one shape as a combination of its ``k`` sources."""
        assert self._functions is not None, "a session is opened before its jobs"
        assert self._caller is not None
        count, m = spans.row.shape
        k = spans.units.shape[1]
        if decode:
            coefficients = decode_matrices(spans.column, spans.row, spans.lost)
            sources, targets = spans.units.copy(), np.take_along_axis(spans.units, spans.lost, 1)
            np.put_along_axis(sources, spans.lost, spans.parity, 1)
        else:
            coefficients = MATRIX[spans.row[:, :, None], spans.column[:, None, :]]
            sources, targets = spans.units, spans.parity
        sources, targets = np.ascontiguousarray(sources), np.ascontiguousarray(targets)
        tables = aligned(_TABLE * k * m)
        each = np.arange(count, dtype=np.int64)
        # Blocks of a kind have one matrix to encode, but each its own to decode: a fresh pattern of losses.
        same = not decode and bool((coefficients == coefficients[0]).all())
        matrix = address_of(coefficients) + each * (m * k)
        records = make_records(1 + count if same else 2 * count)
        prepare, encode = (records[:1], records[1:]) if same else (records[::2], records[1::2])
        write_call(prepare, self._functions.init_tables, k, m, matrix[: len(prepare)], address_of(tables))
        source, target = address_of(sources) + each * (8 * k), address_of(targets) + each * (8 * m)
        write_call(encode, self._functions.encode_data, spans.length, k, m, address_of(tables), source, target)
        self._caller.run(records)


def _shapes(job: SpanJob, *, decode: bool) -> Iterator[_Spans]:
    """Yield the valid spans of a job, those of one shape together."""
    if not len(job.k):
        return
    shapes = np.stack((job.k, job.m, job.length), 1)
    if (shapes == shapes[0]).all():
        kinds, member = shapes[:1], np.zeros(len(shapes), np.int64)
    else:
        kinds, member = np.unique(shapes, axis=0, return_inverse=True)
    for number, (k, m, length) in enumerate(kinds.tolist()):
        if not 1 <= k <= COLUMNS or (decode and m > k):
            continue
        index = np.flatnonzero(member.reshape(-1) == number)
        step = max(1, _PIECE // (k * max(1, m)))
        for begin in range(0, len(index), step):
            yield _gather(job, index[begin : begin + step], (k, m, length), decode=decode)


def _gather(job: SpanJob, index: _Words, shape: tuple[int, int, int], *, decode: bool) -> _Spans:
    """Return spans of one shape, without those that code 1 does not have or that cannot be decoded."""
    k, m, length = shape
    parity = job.parity_start[index, None] + np.arange(m)
    row, lost = job.row[parity].astype(np.int64), job.lost[parity].astype(np.int64)
    good = (row < ROWS).all(1)
    if decode:
        good &= (lost < k).all(1) & _distinct(row) & _distinct(lost)
    if not good.all():
        index, parity, row, lost = index[good], parity[good], row[good], lost[good]
    unit = np.arange(k)
    base = address_of(job.memory)
    return _Spans(
        place=index,
        length=length,
        units=base + job.data[job.data_start[index, None] + unit],
        parity=base + job.parity[parity],
        column=(job.column[index, None].astype(np.int64) + unit) & (COLUMNS - 1),
        row=row,
        lost=lost,
    )


def _distinct(values: _Words) -> NDArray[np.bool_]:
    ordered = np.sort(values, axis=1)
    distinct: NDArray[np.bool_] = (ordered[:, 1:] != ordered[:, :-1]).all(1)
    return distinct


def decode_matrices(column: _Words, row: _Words, lost: _Words) -> NDArray[np.uint8]:
    """Return the matrices [n, m, k] that give lost units from present units and, in place of the lost ones, parities.

    The closed form of :mod:`accel.ir.fec_closed_form` for many spans at once. With z_j = the point of a
    present unit or, at a lost position, of its parity row, every coefficient is

        prod_r (x_r + y_q) / prod_{r != q} (y_q + y_r) / D_q
        * prod_r (z_j + y_r) / prod_r (z_j + x_r) * (D_j if present) / (z_j + y_q)

    where a factor 0 stands for 1: LOG[0] is 0 in our table.

    Parameters
    ----------
    column
        [n, k] columns of the units.
    row, lost
        [n, m] matrix rows of the parities; distinct positions of the lost units.
    """
    x = row + ROW_POINT
    y = np.take_along_axis(column, lost, 1)
    scale = LOG[column ^ ROW_POINT]
    np.put_along_axis(scale, lost, 0, 1)
    z = column.copy()
    np.put_along_axis(z, lost, x, 1)
    head = LOG[y[:, :, None] ^ x[:, None, :]].sum(2) - LOG[y[:, :, None] ^ y[:, None, :]].sum(2) - LOG[y ^ ROW_POINT]
    apart = LOG[z[:, None, :] ^ y[:, :, None]]
    power = scale + apart.sum(1) - LOG[z[:, None, :] ^ x[:, :, None]].sum(1)
    matrices: NDArray[np.uint8] = EXP[(head[:, :, None] + power[:, None, :] - apart) % 255]
    return matrices
