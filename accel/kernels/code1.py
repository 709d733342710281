"""Code 1 in nopython code: encode, and decode with the matrix in closed form.

The inner loop is portable SWAR: eight bytes of a shard in a uint64, Horner's rule over the bits of the coefficient (the accumulator is doubled
seven times, the shard added where the bit is set). LLVM vectorises it for whatever the CPU has.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel.gf256 import EXP, LOG, MATRIX, ROW_POINT

_HIGH = 0x8080808080808080
_LOW = 0xFEFEFEFEFEFEFEFE
_DONE = 1
_REJECTED = -1


@njit(cache=True)
def _fold(carry: int) -> int:
    """Return 0x1d in every byte whose high bit is set in ``carry``: the reduction. Shifts, because AVX2 cannot multiply 64-bit words."""
    bit = carry >> np.uint64(7)
    return bit ^ (bit << np.uint64(2)) ^ (bit << np.uint64(3)) ^ (bit << np.uint64(4))


@njit(cache=True)
def _add(memory: NDArray[np.uint8], target: int, source: int, length: int) -> None:
    """target ^= source."""
    words = length // 8
    a = memory[target : target + words * 8].view(np.uint64)
    b = memory[source : source + words * 8].view(np.uint64)
    for i in range(words):
        a[i] ^= b[i]
    for i in range(words * 8, length):
        memory[target + i] ^= memory[source + i]


@njit(cache=True)
def _add_product(memory: NDArray[np.uint8], target: int, source: int, length: int, coefficient: int) -> None:
    """target ^= coefficient * source, in GF(2^8)."""
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


@njit(cache=True)
def encode_spans(
    memory: NDArray[np.uint8],
    data: NDArray[np.int64],
    parity: NDArray[np.int64],
    row: NDArray[np.uint8],
    data_start: NDArray[np.int32],
    parity_start: NDArray[np.int32],
    k: NDArray[np.int32],
    m: NDArray[np.int32],
    column: NDArray[np.int32],
    length: NDArray[np.int32],
    status: NDArray[np.int8],
) -> None:
    """Write the parity units of every span; arguments as in ``accel.engine.SpanJob``."""
    for span in range(len(k)):
        size = np.int64(length[span])
        for p in range(m[span]):
            target = parity[parity_start[span] + p]
            matrix_row = row[parity_start[span] + p]
            memory[target : target + size] = 0
            for j in range(k[span]):
                coefficient = MATRIX[matrix_row, (column[span] + j) & 127]
                _add_product(memory, target, data[data_start[span] + j], size, np.int64(coefficient))
        status[span] = _DONE


@njit(cache=True)
def _quotient_log(value: int, divisor: int) -> int:
    return LOG[value] - LOG[divisor]


@njit(cache=True)
def decode_coefficients(
    k: int, first: int, lost: NDArray[np.uint8], row: NDArray[np.uint8], out: NDArray[np.uint8], extra: NDArray[np.uint8]
) -> None:
    """Write the coefficients that rebuild lost units, in closed form, O(k * losses) field operations per lost unit.

    With points x_p of the parity rows, y_j of the columns and the column scale D_j = 128 ^ j (MATRIX), lost unit q is the sum of

    * present unit j times  prod_p (x_p + y_q) / (x_p + y_j) * prod_{r != q} (y_j + y_r) / (y_q + y_r) * D_j / D_q
    * parity p times  prod_{p'} (x_p' + y_q) * prod_r (x_p + y_r) / ((x_p + y_q) * prod_{p' != p} (x_p + x_p')
      * prod_{r != q} (y_q + y_r) * D_q)

    the residues of the rational function that vanishes at every x_p and has its poles at the lost y_r (Lagrange; the inverse of a Cauchy
    matrix, Schechter 1959). Elimination instead would cost O(losses^3) per block, and every block has a fresh pattern.

    Parameters
    ----------
    k, first
        Units of the span; column of unit 0.
    lost, row
        [e] positions of the lost units; [e] matrix rows of the parity units.
    out
        [e, k] receives the coefficient of unit j for lost unit q (0 where j is lost).
    extra
        [e, e] receives the coefficient of parity p for lost unit q.
    """
    count = len(lost)
    for q in range(count):
        y_q = (first + lost[q]) & 127
        head = 0
        for p in range(count):
            head += LOG[(ROW_POINT + row[p]) ^ y_q]
        for r in range(count):
            if r != q:
                head -= LOG[y_q ^ ((first + lost[r]) & 127)]
        head -= LOG[ROW_POINT ^ y_q]
        for j in range(k):
            y_j = (first + j) & 127
            power = head + LOG[ROW_POINT ^ y_j]
            is_lost = False
            for r in range(count):
                if lost[r] == j:
                    is_lost = True
                elif r != q:
                    power += LOG[y_j ^ ((first + lost[r]) & 127)]
                power -= LOG[(ROW_POINT + row[r]) ^ y_j]
            out[q, j] = 0 if is_lost else EXP[power % 255]
        for p in range(count):
            x_p = ROW_POINT + row[p]
            power = head
            for r in range(count):
                power += LOG[x_p ^ ((first + lost[r]) & 127)]
                if r != p:
                    power -= LOG[x_p ^ (ROW_POINT + row[r])]
            power -= LOG[x_p ^ y_q]
            extra[q, p] = EXP[power % 255]


@njit(cache=True)
def decode_spans(
    memory: NDArray[np.uint8],
    data: NDArray[np.int64],
    parity: NDArray[np.int64],
    row: NDArray[np.uint8],
    lost: NDArray[np.uint8],
    data_start: NDArray[np.int32],
    parity_start: NDArray[np.int32],
    k: NDArray[np.int32],
    m: NDArray[np.int32],
    column: NDArray[np.int32],
    length: NDArray[np.int32],
    status: NDArray[np.int8],
) -> None:
    """Rebuild the lost units of every span; arguments as in ``accel.engine.SpanJob``."""
    present = np.zeros((128, 128), np.uint8)
    extra = np.zeros((128, 128), np.uint8)
    for span in range(len(k)):
        e = np.int64(m[span])
        units = np.int64(k[span])
        begin = np.int64(parity_start[span])
        size = np.int64(length[span])
        if not _solvable(lost[begin : begin + e], row[begin : begin + e], units):
            status[span] = _REJECTED
            continue
        decode_coefficients(units, np.int64(column[span]), lost[begin : begin + e], row[begin : begin + e], present, extra)
        for q in range(e):
            target = data[data_start[span] + lost[begin + q]]
            memory[target : target + size] = 0
            for j in range(units):
                _add_product(memory, target, data[data_start[span] + j], size, np.int64(present[q, j]))
            for p in range(e):
                _add_product(memory, target, parity[begin + p], size, np.int64(extra[q, p]))
        status[span] = _DONE


@njit(cache=True)
def _solvable(lost: NDArray[np.uint8], row: NDArray[np.uint8], k: int) -> bool:
    """Return whether positions and rows are in range and distinct; then Cauchy guarantees a solution."""
    if k < 1 or k > 128 or len(lost) > k:
        return False
    for i in range(len(lost)):
        if lost[i] >= k or row[i] > 126:
            return False
        for j in range(i):
            if lost[i] == lost[j] or row[i] == row[j]:
                return False
    return True
