"""Code 1 in nopython code: encode, and decode with the matrix in closed form.

The inner loop is portable SWAR: eight bytes of a shard in a uint64, Horner's rule over the bits of the coefficient
(the accumulator is doubled seven times, the shard added where the bit is set). LLVM vectorises it for whatever the CPU
has. Units begin at any byte; x86-64 and aarch64 load unaligned words as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.engine import SpanJob
from accel.gf256 import COLUMNS, EXP, LOG, MATRIX, ROW_POINT, ROWS
from drivers.kernel import kernel

_HIGH = 0x8080808080808080
_LOW = 0xFEFEFEFEFEFEFEFE
_DONE = 1
_REJECTED = -1


@kernel
def _fold(carry: np.uint64) -> np.uint64:
    """Return 0x1d, the reduction, in every byte whose high bit is set in ``carry``.

    By shifts, because AVX2 cannot multiply 64-bit words.
    """
    bit = carry >> np.uint64(7)
    return bit ^ (bit << np.uint64(2)) ^ (bit << np.uint64(3)) ^ (bit << np.uint64(4))


@kernel
def _add(memory: NDArray[np.uint8], target: int, source: int, length: int) -> None:
    """Add ``source`` to ``target``."""
    words = length // 8
    a = memory[target : target + words * 8].view(np.uint64)
    b = memory[source : source + words * 8].view(np.uint64)
    for i in range(words):
        a[i] ^= b[i]
    for i in range(words * 8, length):
        memory[target + i] ^= memory[source + i]


@kernel
def _add_product(memory: NDArray[np.uint8], target: int, source: int, length: int, coefficient: int) -> None:
    """Add ``coefficient`` times ``source`` to ``target``, in GF(2^8)."""
    if coefficient == 0:
        return
    if coefficient == 1:
        _add(memory, target, source, length)
        return
    words = length // 8
    a = memory[target : target + words * 8].view(np.uint64)
    b = memory[source : source + words * 8].view(np.uint64)
    high, low, one = np.uint64(_HIGH), np.uint64(_LOW), np.uint64(1)
    m0 = np.uint64(0) - np.uint64(coefficient & 1)
    m1 = np.uint64(0) - np.uint64((coefficient >> 1) & 1)
    m2 = np.uint64(0) - np.uint64((coefficient >> 2) & 1)
    m3 = np.uint64(0) - np.uint64((coefficient >> 3) & 1)
    m4 = np.uint64(0) - np.uint64((coefficient >> 4) & 1)
    m5 = np.uint64(0) - np.uint64((coefficient >> 5) & 1)
    m6 = np.uint64(0) - np.uint64((coefficient >> 6) & 1)
    m7 = np.uint64(0) - np.uint64((coefficient >> 7) & 1)
    for i in range(words):
        x = b[i]
        y = x & m7
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m6)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m5)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m4)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m3)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m2)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m1)
        t = y & high
        y = ((y << one) & low) ^ _fold(t) ^ (x & m0)
        a[i] ^= y
    power = LOG[coefficient]
    for i in range(words * 8, length):
        value = memory[source + i]
        if value:
            memory[target + i] ^= EXP[LOG[value] + power]


@kernel
def encode_spans(job: SpanJob) -> None:
    """Write the parity units of every span."""
    memory = job.memory
    for span in range(len(job.k)):
        size, first = int(job.length[span]), int(job.data_start[span])
        begin = int(job.parity_start[span])
        rows = job.row[begin : begin + job.m[span]]
        if not _encodable(rows, job.k[span]):
            job.status[span] = _REJECTED
            continue
        for p in range(len(rows)):
            target = job.parity[begin + p]
            memory[target : target + size] = 0
            for j in range(job.k[span]):
                coefficient = int(MATRIX[rows[p], (job.column[span] + j) & (COLUMNS - 1)])
                _add_product(memory, target, job.data[first + j], size, coefficient)
        job.status[span] = _DONE


@kernel
def _encodable(row: NDArray[np.uint8], k: int) -> bool:
    """Return whether the span is inside the matrix (numba does not look)."""
    if k < 1 or k > COLUMNS:
        return False
    for p in range(len(row)):  # noqa: SIM110 - numba has no generator expressions
        if row[p] >= ROWS:
            return False
    return True


@kernel
def decode_coefficients(
    first: int, lost: NDArray[np.uint8], row: NDArray[np.uint8], out: NDArray[np.uint8], extra: NDArray[np.uint8]
) -> None:
    """Write the coefficients that rebuild lost units, in closed form: O(losses) field operations per unit of the span.

    With points x_p of the parity rows, y_j of the columns and the column scale D_j = 128 ^ j (MATRIX), lost unit q is
    the sum of

    * present unit j times  prod_p (x_p + y_q) / (x_p + y_j) * prod_{r != q} (y_j + y_r) / (y_q + y_r) * D_j / D_q
    * parity p times  prod_{p'} (x_p' + y_q) * prod_{r != q} (x_p + y_r)
      / (prod_{p' != p} (x_p + x_p') * prod_{r != q} (y_q + y_r) * D_q)

    the residues of the rational function that vanishes at every x_p and has its poles at the lost y_r (Lagrange; the
    inverse of a Cauchy matrix, Schechter 1959). Elimination instead would cost O(losses^3) per block, and every block
    has a fresh pattern.

    Parameters
    ----------
    first
        Column of unit 0.
    lost, row
        [e] positions of the lost units; [e] matrix rows of the parity units.
    out
        [e, k] receives the coefficient of unit j for lost unit q (0 where j is lost).
    extra
        [e, e] receives the coefficient of parity p for lost unit q.
    """
    count = len(lost)
    point = np.empty(count, np.int64)
    head = np.zeros(count, np.int64)
    for q in range(count):
        point[q] = (first + lost[q]) & (COLUMNS - 1)
    for q in range(count):
        for r in range(count):
            head[q] += LOG[(ROW_POINT + row[r]) ^ point[q]]
            if r != q:
                head[q] -= LOG[point[q] ^ point[r]]
        head[q] -= LOG[ROW_POINT ^ point[q]]
    for j in range(out.shape[1]):
        y = (first + j) & (COLUMNS - 1)
        power = np.int64(LOG[ROW_POINT ^ y])
        is_lost = False
        for r in range(count):
            if point[r] == y:
                is_lost = True
            else:
                power += LOG[y ^ point[r]]
            power -= LOG[(ROW_POINT + row[r]) ^ y]
        for q in range(count):
            out[q, j] = 0 if is_lost else EXP[(head[q] + power - LOG[y ^ point[q]]) % 255]
    for p in range(count):
        x = ROW_POINT + np.int64(row[p])
        power = np.int64(0)
        for r in range(count):
            power += LOG[x ^ point[r]]
            if r != p:
                power -= LOG[x ^ (ROW_POINT + row[r])]
        for q in range(count):
            extra[q, p] = EXP[(head[q] + power - LOG[x ^ point[q]]) % 255]


@kernel
def decode_spans(job: SpanJob) -> None:
    """Rebuild the lost units of every span."""
    present = np.empty((ROWS, COLUMNS), np.uint8)
    extra = np.empty((ROWS, ROWS), np.uint8)
    for span in range(len(job.k)):
        begin = int(job.parity_start[span])
        lost = job.lost[begin : begin + job.m[span]]
        row = job.row[begin : begin + job.m[span]]
        if _solvable(lost, row, job.k[span]):
            decode_coefficients(job.column[span], lost, row, present[:, : job.k[span]], extra)
            _rebuild(job, span, lost, present, extra)
            job.status[span] = _DONE
        else:
            job.status[span] = _REJECTED


@kernel
def _rebuild(
    job: SpanJob, span: int, lost: NDArray[np.uint8], present: NDArray[np.uint8], extra: NDArray[np.uint8]
) -> None:
    memory = job.memory
    size, first = int(job.length[span]), int(job.data_start[span])
    begin = int(job.parity_start[span])
    for q in range(len(lost)):
        target = job.data[first + lost[q]]
        memory[target : target + size] = 0
        for j in range(job.k[span]):
            _add_product(memory, target, job.data[first + j], size, int(present[q, j]))
        for p in range(len(lost)):
            _add_product(memory, target, job.parity[begin + p], size, int(extra[q, p]))


@kernel
def _solvable(lost: NDArray[np.uint8], row: NDArray[np.uint8], k: int) -> bool:
    """Return whether positions and rows are in range and distinct; then Cauchy guarantees a solution."""
    if not _encodable(row, k) or len(lost) > k:
        return False
    for i in range(len(lost)):
        if lost[i] >= k:
            return False
        for j in range(i):
            if lost[i] == lost[j] or row[i] == row[j]:
                return False
    return True
