"""The C library's scatter/gather calls, as integers in and integers out.

Each call returns what the kernel returned, or ``-errno``: an errno is an answer that the caller decides on (EAGAIN is
the end of a batch, EINTR an empty one), and raising for it costs more than the call. Python's own socket methods repeat
after EINTR; these do not.

The layouts are those of 64-bit little-endian Linux, which glibc and musl share. Arrays of them are filled in bulk
through an int64 view: a column is a word of the structure (``NAME`` ... ``RECEIVED``).
"""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import cache
from typing import Protocol

import numpy as np

from drivers.errors import Unavailable
from drivers.library import Library

IOVEC = np.dtype([("base", np.uint64), ("length", np.uint64)])
"""``struct iovec``, 16 bytes."""
MSGHDR = np.dtype(
    [
        ("name", np.uint64),
        ("namelen", np.uint32),
        ("_pad0", np.uint32),
        ("iov", np.uint64),
        ("iovlen", np.uint64),
        ("control", np.uint64),
        ("controllen", np.uint64),
        ("flags", np.int32),
        ("_pad1", np.uint32),
    ]
)
"""``struct msghdr``, 56 bytes."""
MMSGHDR = np.dtype([("header", MSGHDR), ("len", np.uint32), ("_pad", np.uint32)])
"""``struct mmsghdr``, 64 bytes: one cache line, eight words."""
SOCKADDR_IN = np.dtype([("family", np.uint16), ("port", ">u2"), ("address", np.uint8, 4), ("zero", np.uint8, 8)])
"""``struct sockaddr_in``, 16 bytes."""
SOCKADDR_IN6 = np.dtype(
    [
        ("family", np.uint16),
        ("port", ">u2"),
        ("flowinfo", ">u4"),
        ("address", np.uint8, 16),
        ("scope", np.uint32),
    ]
)
"""``struct sockaddr_in6``, 28 bytes."""

NAME, NAMELEN, IOV, IOVLEN, CONTROL, CONTROLLEN, FLAGS, RECEIVED = range(8)
"""Words of ``struct mmsghdr``; NAMELEN, FLAGS and RECEIVED are 32-bit fields followed by padding."""

MSG_DONTWAIT = 0x40
MSG_TRUNC = 0x20
MSG_CTRUNC = 0x08


class MessageCalls(Protocol):
    """Receiving and sending many messages: the real kernel, a fallback, or a verified fake in tests."""

    def recvmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Fill ``count`` ``mmsghdr`` at address ``headers``; return how many, or -errno."""

    def sendmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Send ``count`` ``mmsghdr`` at address ``headers``; return how many were taken, or -errno (of the first)."""

    def recvmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Fill one ``msghdr``; return its bytes, or -errno."""

    def sendmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Send one ``msghdr``; return its bytes, or -errno."""


class Libc:
    """The C library of this process. Use :func:`libc` for the shared one.

    Raises
    ------
    UnavailableError
        On a machine whose structures have another layout.
    """

    def __init__(self) -> None:
        if struct.calcsize("P") != 8 or sys.byteorder != "little":
            reason = f"the batched socket calls are laid out for 64-bit little-endian machines, this is {sys.platform}"
            raise Unavailable(reason, "run on x86-64 or aarch64 Linux").error()
        library = Library(
            "the C library",
            ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"],
            "run on Linux with glibc or musl",
        )
        signed, integer, unsigned, pointer = ctypes.c_ssize_t, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
        self._recvmmsg = library.function("recvmmsg", integer, integer, pointer, unsigned, integer, pointer)
        self._sendmmsg = library.function("sendmmsg", integer, integer, pointer, unsigned, integer)
        self._recvmsg = library.function("recvmsg", signed, integer, pointer, integer)
        self._sendmsg = library.function("sendmsg", signed, integer, pointer, integer)
        self._readv = library.function("readv", signed, integer, pointer, integer)
        self._writev = library.function("writev", signed, integer, pointer, integer)

    def recvmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Fill ``count`` ``mmsghdr`` at address ``headers``; return how many, or -errno."""
        result: int = self._recvmmsg(descriptor, headers, count, flags, None)
        return result if result >= 0 else -ctypes.get_errno()

    def sendmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Send ``count`` ``mmsghdr`` at address ``headers``; return how many were taken, or -errno (of the first)."""
        result: int = self._sendmmsg(descriptor, headers, count, flags)
        return result if result >= 0 else -ctypes.get_errno()

    def recvmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Fill one ``msghdr``; return its bytes, or -errno."""
        result: int = self._recvmsg(descriptor, header, flags)
        return result if result >= 0 else -ctypes.get_errno()

    def sendmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Send one ``msghdr``; return its bytes, or -errno."""
        result: int = self._sendmsg(descriptor, header, flags)
        return result if result >= 0 else -ctypes.get_errno()

    def readv(self, descriptor: int, iov: int, count: int) -> int:
        """Fill ``count`` ``iovec`` at address ``iov``; return bytes (0 = end of stream), or -errno."""
        result: int = self._readv(descriptor, iov, count)
        return result if result >= 0 else -ctypes.get_errno()

    def writev(self, descriptor: int, iov: int, count: int) -> int:
        """Write ``count`` ``iovec`` at address ``iov``; return bytes taken, or -errno."""
        result: int = self._writev(descriptor, iov, count)
        return result if result >= 0 else -ctypes.get_errno()


class OneByOne:
    """The same calls without ``recvmmsg`` and ``sendmmsg``: one system call per message.

    For kernels and sandboxes that refuse the batched calls. Segmentation offload still works, since it belongs to the
    message. Costs about 0.2 us more per message than the batched calls (and 1 us more in Python).
    """

    def __init__(self, inner: MessageCalls) -> None:
        self._inner = inner

    def recvmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """As :meth:`Libc.recvmmsg`."""
        for index in range(count):
            header = headers + index * MMSGHDR.itemsize
            result = self._inner.recvmsg(descriptor, header, flags)
            if result < 0:
                return index or result
            ctypes.c_uint32.from_address(header + MSGHDR.itemsize).value = result
        return count

    def sendmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """As :meth:`Libc.sendmmsg`."""
        for index in range(count):
            result = self._inner.sendmsg(descriptor, headers + index * MMSGHDR.itemsize, flags)
            if result < 0:
                return index or result
        return count

    def recvmsg(self, descriptor: int, header: int, flags: int) -> int:
        """As :meth:`Libc.recvmsg`."""
        return self._inner.recvmsg(descriptor, header, flags)

    def sendmsg(self, descriptor: int, header: int, flags: int) -> int:
        """As :meth:`Libc.sendmsg`."""
        return self._inner.sendmsg(descriptor, header, flags)


@cache
def libc() -> Libc:
    """Return this process's :class:`Libc`, made by the first call."""
    return Libc()


def readv(descriptor: int, iov: int, count: int) -> int:
    """Fill ``count`` ``iovec`` at address ``iov``; return bytes (0 = end of stream), or -errno."""
    return libc().readv(descriptor, iov, count)


def writev(descriptor: int, iov: int, count: int) -> int:
    """Write ``count`` ``iovec`` at address ``iov``; return bytes taken, or -errno."""
    return libc().writev(descriptor, iov, count)
