"""Constants of the FEC kernels: the field, code 1, and what each kind of kernel multiplies with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from accel.gf256 import COLUMNS, EXP, LOG, MATRIX, multiply

MATRIX_STRIDE = 2 * COLUMNS
"""Bytes of a row of @matrix: columns go on after the last one, so that a window's coefficients are one run."""
_FEW = 16
"""Units that are taken out of turn."""
MODULUS = 255
"""Order of the multiplicative group."""


def text() -> str:
    """Return the constants.

    ``@log`` [256] has 0 for the logarithm of 0: a factor 0 stands for 1 where products leave one factor out. ``@exp``
    [1024] is long enough for four logarithms. ``@affine`` [256] are the multiplications as 8x8 bit matrices of
    GF2P8AFFINEQB; ``@nibbles`` [256][32] the products of the low and the high nibbles, 16 bytes each; ``@orders``
    [128][128] is :func:`_order` of each k.
    """
    exp = [int(EXP[power % MODULUS]) for power in range(4 * 256)]
    log = [0, *LOG[1:].tolist()]
    matrix = np.concatenate((MATRIX, MATRIX), 1).reshape(-1).tolist()
    return "\n".join(
        (
            _bytes("exp", exp),
            _bytes("log", log),
            _bytes("matrix", matrix),
            _bytes("orders", (place for k in range(1, COLUMNS + 1) for place in _order(k))),
            _bytes("nibbles", (value for factor in range(256) for value in _nibbles(factor))),
            _words("affine", (affine_word([multiply(factor, 1 << bit) for bit in range(8)]) for factor in range(256))),
            "",
        )
    )


def _bytes(name: str, values: Iterable[int]) -> str:
    data = list(values)
    escaped = "".join(f"\\{value:02x}" for value in data)
    return f'@{name} = private constant [{len(data)} x i8] c"{escaped}", align 64'


def _words(name: str, values: Iterable[int]) -> str:
    data = list(values)
    return f"@{name} = private constant [{len(data)} x i64] [{', '.join(f'i64 {value}' for value in data)}], align 64"


def _order(k: int) -> list[int]:
    """Return the places at which a kernel takes ``k`` units: random pairs exchanged, so it is its own inverse.

    Units lie at equal distances in an arena. A core that sees one load instruction walk over them fetches what would
    come next, and where the walk is short much of that is never used: taken in turn, blocks of (10,4) in the L2 of a
    Zen 5 took 143 ns instead of 120. With many units it is right more often than not, and they stay in turn.
    """
    if k > _FEW:
        return list(range(COLUMNS))
    return max((_exchanged(k, seed) for seed in range(32)), key=lambda order: len(set(np.diff(order[:k]).tolist())))


def _exchanged(k: int, seed: int) -> list[int]:
    places = np.random.default_rng(seed).permutation(k).tolist()
    order = list(range(COLUMNS))
    for a, b in zip(places[::2], places[1::2], strict=False):
        order[a], order[b] = b, a
    return order


def _nibbles(factor: int) -> list[int]:
    return [multiply(factor, value) for value in range(16)] + [multiply(factor, value << 4) for value in range(16)]


def affine_word(columns: list[int]) -> int:
    """Return what GF2P8AFFINEQB takes for the 8x8 bit matrix with these columns: byte 7 - i has row i."""
    return sum(
        sum((columns[j] >> i & 1) << j for j in range(8)) << 8 * (7 - i)
        for i in range(8)
    )  # fmt: skip
