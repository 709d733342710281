"""An engine by somebody else: Reed-Solomon parity by look-up tables of numpy.

It uses what docs/engines.md calls the public API, and nothing else of VANTUN: ``accel.engine``, ``accel.finished``,
``accel.catalogue.Kind``, ``accel.sight.Sighting`` and the field in ``accel.gf256``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel.catalogue import Kind
from accel.engine import Engine, EngineSession, Job, Maturity, Operation, Provenance, SpanJob, Status, Ticket
from accel.finished import FINISHED, KeylessSession, Synchronous
from accel.gf256 import COLUMNS, EXP, LOG, MATRIX, ROWS, inverse
from accel.sight import Sighting

Bytes = NDArray[np.uint8]


def _products() -> Bytes:
    table: Bytes = EXP[LOG[:, None] + LOG[None, :]]
    table[0, :] = table[:, 0] = 0
    return table


PRODUCT = _products()


class Tables(Synchronous):
    """Encode and decode."""

    name = "tables"
    operations = frozenset({Operation.FEC_ENCODE, Operation.FEC_DECODE})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def open(self, operation: Operation) -> EngineSession:
        """Return a session; there is no device."""
        if operation not in self.operations:
            raise ValueError(f"tables cannot do {operation.value}")
        return KeylessSession(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job, span by span."""
        assert isinstance(job, SpanJob)
        work = _encode if session.operation is Operation.FEC_ENCODE else _decode
        for span in range(len(job.k)):
            job.status[span] = Status.DONE if work(job, span) else Status.REJECTED
        return FINISHED


def _units(job: SpanJob, span: int) -> tuple[list[Bytes], list[Bytes], list[int]] | None:
    """Return views of data and parity units, and the rows; None when the span is outside of the matrix."""
    k, m, size = int(job.k[span]), int(job.m[span]), int(job.length[span])
    data, parity = int(job.data_start[span]), int(job.parity_start[span])
    rows = job.row[parity : parity + m].tolist()
    if not 1 <= k <= COLUMNS or any(row >= ROWS for row in rows):
        return None
    offsets = job.data[data : data + k].tolist(), job.parity[parity : parity + m].tolist()
    units = [[job.memory[start : start + size] for start in some] for some in offsets]
    return units[0], units[1], rows


def _encode(job: SpanJob, span: int) -> bool:
    found = _units(job, span)
    if found is None:
        return False
    data, parity, rows = found
    for unit, row in zip(parity, rows, strict=True):
        unit[:] = 0
        for j, source in enumerate(data):
            unit ^= PRODUCT[MATRIX[row, (job.column[span] + j) & 127]][source]
    return True


def _decode(job: SpanJob, span: int) -> bool:
    found = _units(job, span)
    if found is None:
        return False
    data, parity, rows = found
    start = int(job.parity_start[span])
    lost = job.lost[start : start + len(rows)].tolist()
    if len(set(lost)) < len(lost) or len(set(rows)) < len(rows) or any(place >= len(data) for place in lost):
        return False
    columns = [(int(job.column[span]) + j) & 127 for j in range(len(data))]
    right = []
    for unit, row in zip(parity, rows, strict=True):
        rest = unit.copy()
        for j, source in enumerate(data):
            if j not in lost:
                rest ^= PRODUCT[MATRIX[row, columns[j]]][source]
        right.append(rest)
    matrix = MATRIX[np.array(rows, int)[:, None], np.array([columns[j] for j in lost], int)].copy()
    for place, unit in zip(lost, _solve(matrix, right), strict=True):
        data[place][:] = unit
    return True


def _solve(matrix: Bytes, right: list[Bytes]) -> list[Bytes]:
    """Solve by elimination; every square part of code 1's matrix is regular."""
    count = len(right)
    for step in range(count):
        pivot = next(row for row in range(step, count) if matrix[row, step])
        matrix[[step, pivot]] = matrix[[pivot, step]]
        right[step], right[pivot] = right[pivot], right[step]
        scale = inverse(int(matrix[step, step]))
        matrix[step] = PRODUCT[scale][matrix[step]]
        right[step] = PRODUCT[scale][right[step]]
        for row in range(count):
            factor = int(matrix[row, step])
            if row != step and factor:
                matrix[row] ^= PRODUCT[factor][matrix[step]]
                right[row] = right[row] ^ PRODUCT[factor][right[step]]
    return right


class Factory:
    """What the entry point leads to."""

    api = 1
    kinds = (Kind.FEC,)
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE
    needs = "the Python package numpy"

    def probe(self, sysroot: Path) -> Sighting:
        """Return that it is there: it needs no device."""
        del sysroot
        return Sighting(present=True, seen=("numpy",))

    def make(self, kind: Kind) -> Engine:
        """Return the engine."""
        assert kind is Kind.FEC
        return Tables()
