"""Reading and writing a TCP socket from nopython code: to and from many places at once, no Python in between.

Descriptors must be non-blocking: a call that slept would hold up every session of its worker.
"""

from __future__ import annotations

import ctypes
from errno import EINVAL
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import before_compiling, kernel
from drivers.library import Library
from drivers.linux.tun_kernel import MAX_PIECES, errno_now

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"], "run on Linux")
for _symbol in ("readv", "writev"):
    _C.function(_symbol, ctypes.c_ssize_t)

if TYPE_CHECKING:
    # numba's types are no functions for a type checker, and its integers no int.
    int64 = int

    def _readv(descriptor: int, iov: int, count: int) -> int: ...
    def _writev(descriptor: int, iov: int, count: int) -> int: ...
else:
    int64 = np.int64


@before_compiling
def _teach_names() -> None:
    """Define the names that only numba understands."""
    from numba import types

    globals().update(
        _readv=types.ExternalFunction("readv", types.intp(types.int32, types.intp, types.int32)),
        _writev=types.ExternalFunction("writev", types.intp(types.int32, types.intp, types.int32)),
    )


@kernel
def read_stream(descriptor: int, iov: NDArray[np.uint64], count: int) -> int:
    """Fill the first ``count`` rows of ``iov``; return the bytes (0 = the stream has ended), or ``-errno``.

    ``iov`` is [shape=(n, 2), dtype=uint64] of (address, length), C-contiguous; the addresses are the caller's word.
    """
    if count < 1 or count > iov.shape[0] or count > MAX_PIECES:
        return -EINVAL
    got = _readv(descriptor, iov.ctypes.data, count)
    return int64(got) if got >= 0 else -errno_now()


@kernel
def write_stream(descriptor: int, iov: NDArray[np.uint64], count: int) -> int:
    """Write from the first ``count`` rows of ``iov``; return the bytes that were taken, or ``-errno``.

    SIGPIPE must be ignored, as Python has it.
    """
    if count < 1 or count > iov.shape[0] or count > MAX_PIECES:
        return -EINVAL
    done = _writev(descriptor, iov.ctypes.data, count)
    return int64(done) if done >= 0 else -errno_now()
