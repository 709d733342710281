"""Variable-length integers of QUIC (RFC 9000, section 16)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.wire.integers import int64

VARINT_MAX = (1 << 62) - 1


@kernel
def varint_size(value: int) -> int:
    """Return the bytes that :func:`put_varint` writes for ``value`` (0 <= value <= VARINT_MAX)."""
    if value < 0x40:
        return 1
    if value < 0x4000:
        return 2
    if value < 0x40000000:
        return 4
    return 8


@kernel
def put_varint(memory: NDArray[np.uint8], position: int, value: int) -> int:
    """Write ``value`` at ``position`` in its shortest form; return the position behind it."""
    size = varint_size(value)
    prefix = 0 if size == 1 else 1 if size == 2 else 2 if size == 4 else 3
    for i in range(size):
        memory[position + i] = np.uint8((value >> (8 * (size - 1 - i))) & 0xFF)
    memory[position] = np.uint8(memory[position] | (prefix << 6))
    return position + size


@kernel
def get_varint(memory: NDArray[np.uint8], position: int, end: int) -> tuple[int, int]:
    """Read one integer from ``memory[position:end]``; return (value, position behind it), position -1 if cut short.

    A negative ``position`` is passed through, so that a parser may read several fields and check once.
    """
    if position < 0 or position >= end:
        return 0, -1
    first = int64(memory[position])
    size = 1 << (first >> 6)
    if position + size > end:
        return 0, -1
    value = first & 0x3F
    for i in range(1, size):
        value = (value << 8) | int64(memory[position + i])
    return value, position + size
