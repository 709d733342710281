"""Handles and questions of all workers, told apart: the worker stands above the bits that it uses itself."""

from __future__ import annotations

SHIFT = 56
"""Handles of a worker's flows are shorter: 24 bits of index, 31 of generation."""
_QUESTION_BITS = 64


def own(handle: int) -> int:
    """Return the handle that the worker itself knows."""
    return handle & ((1 << SHIFT) - 1)


def numbered(worker: int, life: int, number: int) -> int:
    """Return the number of a worker's question; ``life`` tells it from those of the workers before it."""
    return (life << SHIFT | worker) << _QUESTION_BITS | number


def question(number: int) -> tuple[int, int, int]:
    """Return worker, life and the worker's own number of what :func:`numbered` gave."""
    above = number >> _QUESTION_BITS
    return above & ((1 << SHIFT) - 1), above >> SHIFT, number & ((1 << _QUESTION_BITS) - 1)
