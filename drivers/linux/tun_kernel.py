"""Reading and writing a TUN device from nopython code: one packet per call, no Python between packets.

The C library's functions are called by name, which compiled code resolves when it is loaded; a name that cannot be
resolved would be a jump to nowhere, so they are looked up here first. Descriptors must be non-blocking: a call that
slept would hold up every session of its worker.
"""

from __future__ import annotations

import ctypes
from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import before_compiling, kernel
from drivers.library import Library
from drivers.linux.tun import MAX_PACKET, VNET_HEADER

SLOT = VNET_HEADER + MAX_PACKET + 1
"""Bytes that a read must have room for: the kernel cuts what does not fit, and a full slot tells that it did."""
MAX_PIECES = 1024
"""Pieces of a gathered packet (UIO_MAXIOV)."""

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"], "run on Linux")
for _symbol in ("read", "readv", "writev", "__errno_location"):
    _C.function(_symbol, ctypes.c_ssize_t)

if TYPE_CHECKING:
    # numba's types are no functions for a type checker, and its integers no int.
    int64 = int

    def _read(descriptor: int, address: int, size: int) -> int: ...
    def _readv(descriptor: int, iov: int, count: int) -> int: ...
    def _writev(descriptor: int, iov: int, count: int) -> int: ...
    def _errno_location() -> ctypes._Pointer[ctypes.c_int32]: ...
    def _carray(pointer: ctypes._Pointer[ctypes.c_int32], size: int) -> NDArray[np.int32]: ...
else:
    int64 = np.int64


@before_compiling
def _teach_names() -> None:
    """Define the names that only numba understands."""
    from numba import carray, types

    globals().update(
        _carray=carray,
        _read=types.ExternalFunction("read", types.intp(types.int32, types.intp, types.uintp)),
        _readv=types.ExternalFunction("readv", types.intp(types.int32, types.intp, types.int32)),
        _writev=types.ExternalFunction("writev", types.intp(types.int32, types.intp, types.int32)),
        _errno_location=types.ExternalFunction("__errno_location", types.CPointer(types.int32)()),
    )


@kernel
def errno_now() -> int:
    """Return the errno of the last call of the C library."""
    return int64(_carray(_errno_location(), 1)[0])


@kernel
def read_packet(descriptor: int, memory: NDArray[np.uint8], start: int) -> int:
    """Read one packet to ``memory[start:start + SLOT]``; return its bytes, header included, or ``-errno``.

    -EAGAIN: none waits. -EBADFD: the interface is gone. A return of SLOT is a packet that was cut.
    """
    if start < 0 or start + SLOT > memory.size:
        return -EFAULT
    got = _read(descriptor, memory.ctypes.data + start, SLOT)
    return int64(got) if got >= 0 else -errno_now()


@kernel
def scatter_packet(descriptor: int, iov: NDArray[np.uint64], count: int) -> int:
    """Read one packet, header included, to the first ``count`` rows of ``iov``; return its bytes, or ``-errno``.

    ``iov`` as that of :func:`write_packet`; what it has no room for is cut, so it has room for SLOT bytes.
    """
    if count < 1 or count > iov.shape[0] or count > MAX_PIECES:
        return -EINVAL
    got = _readv(descriptor, iov.ctypes.data, count)
    return int64(got) if got >= 0 else -errno_now()


@kernel
def write_packet(descriptor: int, iov: NDArray[np.uint64], count: int) -> int:
    """Write one packet, header included, from the first ``count`` rows of ``iov``; return its bytes, or ``-errno``.

    ``iov`` is [shape=(n, 2), dtype=uint64] of (address, length), C-contiguous; the addresses are the caller's word.
    -EINVAL: a header that the kernel does not take. -EIO: the interface is down. -EBADFD: it is gone.
    """
    if count < 1 or count > iov.shape[0] or count > MAX_PIECES:
        return -EINVAL
    done = _writev(descriptor, iov.ctypes.data, count)
    return int64(done) if done >= 0 else -errno_now()
