"""Two folders change places in one step: renameat2 with RENAME_EXCHANGE (Linux 3.15)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from drivers.library import Library

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"], "run on Linux")
_AT_FDCWD = -100
_EXCHANGE = 2


def exchange(one: Path, other: Path) -> None:
    """Let two existing paths of one file system change places; where that cannot be done at once, in three steps."""
    arguments = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    try:
        rename = _C.function("renameat2", ctypes.c_int, *arguments)
        done = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0
    except (AttributeError, OSError):
        done = False
    if not done:  # a C library or a file system that cannot
        aside = one.with_name(f"{one.name}.aside")
        os.rename(other, aside)
        os.rename(one, other)
        os.rename(aside, one)
