"""The C library's heap: keeping it small. Without glibc nothing happens: musl gives back by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 128 << 10


def keep_small() -> None:
    """Give large blocks mappings of their own, for ever: pages that are not written to cost nothing, and free ones go.

    By itself glibc puts ever larger blocks into the heap once one of that size was freed, and writes zeros over it when
    it is used again.
    """
    mallopt = _function("mallopt", ctypes.c_int, ctypes.c_int)
    for option, value in ((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE), (_M_ARENA_MAX, 1)):
        mallopt(option, value)


def give_back() -> None:
    """Return free pages of the heap to the kernel."""
    _function("malloc_trim", ctypes.c_size_t)(0)


def _function(name: str, *arguments: Any) -> Callable[..., int]:
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return lambda *_: 0
    found.argtypes = arguments
    found.restype = ctypes.c_int
    return found  # type: ignore[no-any-return]
