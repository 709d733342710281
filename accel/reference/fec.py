"""Code 1 by its definition: encode, decode in closed form, and decode by elimination to check the closed form with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accel.engine import SpanJob, Status

POLYNOMIAL = 0x11D
ROWS = 127
COLUMNS = 128

Bytes = NDArray[np.uint8]


def _products() -> Bytes:
    """Return every product [shape=(256, 256)]: shift and add, for all pairs at once."""
    a, b = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    product = np.zeros((256, 256), np.int64)
    for bit in range(8):
        product ^= np.where(b >> bit & 1, a, 0)
        a = a << 1
        a ^= np.where(a & 0x100, POLYNOMIAL, 0)
    return product.astype(np.uint8)


PRODUCT = _products()
"""Every product [shape=(256, 256)]."""
_TABLE: list[bytes] = [row.tobytes() for row in PRODUCT]
INVERSE = bytes([0, *(row.index(1) for row in _TABLE[1:])])
"""Every inverse; that of 0 does not exist."""


def multiply(a: int, b: int) -> int:
    """Return a * b in GF(2^8)."""
    return _TABLE[a][b]


def divide(a: int, b: int) -> int:
    """Return a / b."""
    return multiply(a, INVERSE[b])


def coefficient(row: int, column: int) -> int:
    """Return C[row][column] = (128 ^ column) / ((128 + row) ^ column)."""
    return divide(128 ^ column, (128 + row) ^ column)


def combine(units: Sequence[Bytes], coefficients: Sequence[int], length: int) -> Bytes:
    """Return the sum of units times their coefficients."""
    total = np.zeros(length, np.uint8)
    for unit, factor in zip(units, coefficients, strict=True):
        total ^= PRODUCT[factor][unit]
    return total


def closed_form(k: int, first: int, lost: Sequence[int], rows: Sequence[int]) -> list[list[int]]:
    """Return, for each lost unit, the coefficients of the k data units (0 for lost ones) and of the parity units.

    Solving for the lost units is inverting the square matrix C[p][q] = D_q / (x_p + y_q), a Cauchy matrix with scaled
    columns, whose inverse has a closed form (Schechter 1959): with the polynomials X(z) = prod (z + x_p) and
    Y(z) = prod (z + y_q) over parity rows and lost columns,

        inverse[q][p] = X(y_q) Y(x_p) / (D_q (x_p + y_q) X'(x_p) Y'(y_q))

    where ' is the product without the factor that is zero. The coefficient of a present unit is its share in every
    parity unit, times that.
    """
    x = [128 + row for row in rows]
    y = [(first + q) % COLUMNS for q in lost]

    def product(z: int, points: list[int]) -> int:
        value = 1
        for point in points:
            if z != point:
                value = multiply(value, z ^ point)
        return value

    present = [j for j in range(k) if j not in lost]
    of_parity = [divide(product(x_p, y), product(x_p, x)) for x_p in x]
    result = []
    for y_q in y:
        of_lost = divide(product(y_q, x), multiply(128 ^ y_q, product(y_q, y)))
        inverse = [divide(multiply(of_lost, factor), x_p ^ y_q) for x_p, factor in zip(x, of_parity, strict=True)]
        data = [0] * k
        for j in present:
            for row, factor in zip(rows, inverse, strict=True):
                data[j] ^= multiply(factor, coefficient(row, (first + j) % COLUMNS))
        result.append(data + inverse)
    return result


def eliminate(matrix: list[list[int]], right: list[Bytes]) -> list[Bytes] | None:
    """Solve matrix * x = right by Gauss-Jordan elimination; None when the matrix is singular."""
    rows = [list(row) for row in matrix]
    right = [side.copy() for side in right]
    for step in range(len(rows)):
        pivot = next((r for r in range(step, len(rows)) if rows[r][step]), None)
        if pivot is None:
            return None
        rows[step], rows[pivot] = rows[pivot], rows[step]
        right[step], right[pivot] = right[pivot], right[step]
        scale = INVERSE[rows[step][step]]
        rows[step] = [multiply(scale, value) for value in rows[step]]
        right[step] = PRODUCT[scale][right[step]]
        for r in range(len(rows)):
            factor = rows[r][step]
            if r != step and factor:
                rows[r] = [a ^ multiply(factor, b) for a, b in zip(rows[r], rows[step], strict=True)]
                right[r] = right[r] ^ PRODUCT[factor][right[step]]
    return right


class Span:
    """One span of a job, as lists of Python numbers and views of the units."""

    def __init__(self, job: SpanJob, index: int) -> None:
        data, parity = int(job.data_start[index]), int(job.parity_start[index])
        self.k, self.m = int(job.k[index]), int(job.m[index])
        self.first, self.length = int(job.column[index]), int(job.length[index])
        self.rows: list[int] = job.row[parity : parity + self.m].tolist()
        self.lost: list[int] = job.lost[parity : parity + self.m].tolist()
        self._memory = job.memory
        self._data: list[int] = job.data[data : data + max(0, self.k)].tolist()
        self._parity: list[int] = job.parity[parity : parity + self.m].tolist()

    @property
    def encodable(self) -> bool:
        """Whether the span is inside the matrix."""
        return 1 <= self.k <= COLUMNS and all(row < ROWS for row in self.rows)

    @property
    def decodable(self) -> bool:
        """Whether the equations are as many as the unknowns, and independent."""
        distinct = len(set(self.rows)) == len(set(self.lost)) == self.m
        return self.encodable and distinct and all(q < self.k for q in self.lost)

    def data(self, position: int) -> Bytes:
        """Return data unit ``position``."""
        return self._memory[self._data[position] : self._data[position] + self.length]

    def parity(self, position: int) -> Bytes:
        """Return parity unit ``position``."""
        return self._memory[self._parity[position] : self._parity[position] + self.length]


def encode(job: SpanJob) -> None:
    """Write the parity units of every span."""
    for index in range(len(job.k)):
        span = Span(job, index)
        job.status[index] = Status.DONE if span.encodable else Status.REJECTED
        if not span.encodable:
            continue
        units = [span.data(j) for j in range(span.k)]
        for p, row in enumerate(span.rows):
            factors = [coefficient(row, (span.first + j) % COLUMNS) for j in range(span.k)]
            span.parity(p)[:] = combine(units, factors, span.length)


def decode(job: SpanJob) -> None:
    """Rebuild the lost units of every span."""
    for index in range(len(job.k)):
        span = Span(job, index)
        job.status[index] = Status.DONE if span.decodable else Status.REJECTED
        if not span.decodable:
            continue
        units = [span.data(j) for j in range(span.k)] + [span.parity(p) for p in range(span.m)]
        for q, factors in zip(span.lost, closed_form(span.k, span.first, span.lost, span.rows), strict=True):
            span.data(q)[:] = combine(units, factors, span.length)
