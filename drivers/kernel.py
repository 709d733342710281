"""The decorator of compiled kernels: one word for functions in numba's nopython subset.

A kernel is written once, in Python. In a checkout numba compiles it when it is called first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Return ``function`` compiled; what it may say is numba's nopython subset."""
    from numba import njit

    return cast(Function, njit(cache=True)(function))
