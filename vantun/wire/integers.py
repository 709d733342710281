"""``int64`` and ``uint64`` of kernels: numpy's types for numba, ``int`` for the type checker.

A kernel is compiled again for every combination of argument types, so integers read from narrow fields are widened
where they are read. numpy's scalars are no ``int`` for a type checker, though nothing in a kernel can tell them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    int64 = int
    uint64 = int
else:
    from numpy import int64, uint64

__all__ = ["int64", "uint64"]
