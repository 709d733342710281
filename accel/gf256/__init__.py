"""GF(2^8) with polynomial 0x11d, and code 1: the one published matrix of VANTUN's Reed-Solomon code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x11D
ROWS = 127
"""Parity rows of code 1."""
COLUMNS = 128
"""Data columns of code 1."""
ROW_POINT = 128
"""Point of row i is ``ROW_POINT + i``; point of column j is ``j``."""


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    exp = np.zeros(512, np.uint8)
    log = np.zeros(256, np.int32)
    value = 1
    for power in range(255):
        exp[power] = value
        log[value] = power
        value <<= 1
        if value & 0x100:
            value ^= POLYNOMIAL
    exp[255:510] = exp[:255]
    return exp, log


EXP, LOG = _tables()
"""Powers of the generator 2 [512], doubled so that a sum of two logarithms needs no reduction; logarithms [256].

LOG[0] is unused.
"""


def multiply(a: int, b: int) -> int:
    """Return a * b in the field."""
    return int(EXP[LOG[a] + LOG[b]]) if a and b else 0


def inverse(a: int) -> int:
    """Return 1 / a in the field; raises ZeroDivisionError for 0."""
    if a == 0:
        raise ZeroDivisionError("0 has no inverse in GF(2^8)")
    return int(EXP[255 - LOG[a]])


def _matrix() -> NDArray[np.uint8]:
    rows = np.arange(ROWS)[:, None] + ROW_POINT
    columns = np.arange(COLUMNS)[None, :]
    matrix: NDArray[np.uint8] = EXP[LOG[ROW_POINT ^ columns] + 255 - LOG[rows ^ columns]]
    return matrix


MATRIX = _matrix()
"""Code 1 [shape=(127, 128), dtype=uint8]: ``C[i][j] = (128 ^ j) / ((128 + i) ^ j)``.

A Cauchy matrix 1 / (x_i + y_j) whose column j is scaled by x_0 + y_j. Scaling keeps every square submatrix regular, so
any (k, m) prefix is MDS, and makes row 0 all ones: a single loss is repaired by XOR.
"""
