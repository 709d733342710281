"""Giving up what a process does not need any more."""

from __future__ import annotations

import ctypes
import resource

from drivers.library import Library

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.so"], "run on Linux with glibc or musl")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h)."""


def shed_privileges() -> None:
    """Give up every capability of this thread, new ones by executing files, core files, and being traced by equals.

    What the kernel refuses, stays as it was: nothing here is needed to work.
    """
    unsigned = ctypes.c_ulong
    prctl = _C.function("prctl", ctypes.c_int, ctypes.c_int, unsigned, unsigned, unsigned, unsigned)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _C.function("capset", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(header, nothing)
