"""A kernel that says no on request: stands before the real one, which does everything that is not refused.

``test_libc.py`` holds it to what the real kernel does in the cases that can be provoked.
"""

from __future__ import annotations

import ctypes
import errno
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.linux.libc import CONTROL, CONTROLLEN, IOV, IOVLEN, MSGHDR, OneByOne, libc

HEADER_WORDS = 8


def words(address: int, count: int) -> NDArray[np.int64]:
    """Return [shape=(count,), dtype=int64] at a raw address."""
    return np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(address))


def message_size(header: int) -> int:
    """Return the bytes of the message at address ``header``."""
    head = words(header, HEADER_WORDS - 1)
    return int(words(int(head[IOV]), 2 * int(head[IOVLEN]))[1::2].sum()) if head[IOVLEN] else 0


def is_segmented(header: int) -> bool:
    """Whether the message at address ``header`` carries UDP_SEGMENT, which stands first."""
    control = int(words(header, HEADER_WORDS - 1)[CONTROL])
    return bool(control) and int(words(control, 2)[1]) == 17 | 103 << 32


def is_marked(header: int) -> bool:
    """Whether the message at address ``header`` asks for ECN bits."""
    return bool(words(header, HEADER_WORDS - 1)[CONTROLLEN] > (24 if is_segmented(header) else 0))


@dataclass
class FakeCalls:
    """The message calls, with refusals.

    Attributes
    ----------
    send_script, receive_script
        One entry per batched call: 0 lets it pass, an errno refuses it, ``-n`` lets only ``n`` messages pass, as a
        kernel does whose buffer is full after them. Once empty, everything passes.
    segmented
        Errno for every message with UDP_SEGMENT; 0 = none.
    marked
        Errno for every message that sets ECN bits; 0 = none.
    longest
        Messages longer than this are refused with EMSGSIZE.
    batched
        Errno of both batched calls, as from a kernel or a filter without them; 0 = none.
    """

    send_script: deque[int] = field(default_factory=deque)
    receive_script: deque[int] = field(default_factory=deque)
    segmented: int = 0
    marked: int = 0
    longest: int = 1 << 30
    batched: int = 0
    calls: int = 0

    def recvmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Refuse or pass on."""
        self.calls += 1
        verdict = self.receive_script.popleft() if self.receive_script else 0
        if self.batched or verdict > 0:
            return -(self.batched or verdict)
        return libc().recvmmsg(descriptor, headers, min(count, -verdict or count), flags)

    def sendmmsg(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        """Refuse or pass on, up to the first message that is refused."""
        self.calls += 1
        if self.batched:
            return -self.batched
        if count == 0:
            return 0
        verdict = self.send_script.popleft() if self.send_script else 0
        if verdict > 0:
            return -verdict
        return OneByOne(self).sendmmsg(descriptor, headers, min(count, -verdict or count), flags)

    def recvmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Pass on."""
        return libc().recvmsg(descriptor, header, flags)

    def sendmsg(self, descriptor: int, header: int, flags: int) -> int:
        """Refuse for offload or length, or pass on."""
        if self.segmented and is_segmented(header):
            return -self.segmented
        if self.marked and is_marked(header):
            return -self.marked
        if not is_segmented(header) and message_size(header) > self.longest:
            return -errno.EMSGSIZE
        return libc().sendmsg(descriptor, header, flags)


assert MSGHDR.itemsize == 8 * (HEADER_WORDS - 1)
