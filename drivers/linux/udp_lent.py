"""Receiving and sending on a UDP socket from nopython code, for as long as the kernel has no objection.

A socket is lent as a row of words (:meth:`drivers.linux.udp.UdpSocket.lend`), which also counts what was done until it
is taken back. Whatever the kernel refuses is left as it is: the same call is then made by the socket itself, which
knows what each errno means.
"""

from __future__ import annotations

import ctypes
from errno import EAGAIN, EINTR
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import before_compiling, kernel
from drivers.library import Library
from drivers.linux.libc import CONTROLLEN, MSG_DONTWAIT
from drivers.linux.tun_kernel import errno_now
from drivers.linux.udp_kernel import SEGMENT_CONTROLLEN, SendBuffers, plan, split

(
    DESCRIPTOR,
    NUMBER,
    MOST_SEGMENTS,
    MARKS,
    LARGE,
    MARKED,
    SENT_CALLS,
    SENT_MESSAGES,
    SENT_PACKETS,
    SENT_SIZE,
    SENT_MERGED,
    GOT_CALLS,
    GOT_MESSAGES,
    GOT_PACKETS,
    GOT_SIZE,
    GOT_MERGED,
    TRUNCATED,
    OVERFLOW,
    INTERRUPTED,
    WORDS,
) = range(20)
"""Words of a lent socket: what it is (NUMBER is the borrower's), whether it has received large messages of late, and
what was counted, from MARKED on."""
LARGE_MESSAGE = 16_384
"""Bytes of a message, on average of a call, from which on the next call asks for LARGE_SLOTS of them."""
LARGE_SLOTS = 4
"""Messages of a call that expects large ones: 256 kB at most, which the processor's own caches still hold when they
are opened, and when what was opened is written. More of them also begin to be delivered later."""

_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"], "run on Linux")
for _symbol in ("recvmmsg", "sendmmsg"):
    _C.function(_symbol, ctypes.c_int)

if TYPE_CHECKING:
    # numba's types are no functions for a type checker, and its integers no int.
    int64 = int

    def _recvmmsg(descriptor: int, headers: int, count: int, flags: int, limit: int) -> int: ...
    def _sendmmsg(descriptor: int, headers: int, count: int, flags: int) -> int: ...
else:
    int64 = np.int64


@before_compiling
def _teach_names() -> None:
    """Define the names that only numba understands."""
    from numba import types

    number, address = types.int32, types.intp
    globals().update(
        _recvmmsg=types.ExternalFunction("recvmmsg", number(number, address, types.uint32, number, address)),
        _sendmmsg=types.ExternalFunction("sendmmsg", number(number, address, types.uint32, number)),
    )


class ReceiveBuffers(NamedTuple):
    """Where :func:`receive_lent` writes messages.

    Attributes
    ----------
    headers, template
        [shape=(slots, 8), dtype=int64] ``struct mmsghdr``, and what they are before a call.
    controls
        [shape=(slots, CONTROL_SIZE), dtype=uint8].
    batch
        Gets the packets; its memory has a slot for each message.
    """

    headers: NDArray[np.int64]
    template: NDArray[np.int64]
    controls: NDArray[np.uint8]
    batch: PacketBatch


@kernel
def receive_lent(row: NDArray[np.int64], buffers: ReceiveBuffers) -> int:
    """Fill the batch with what waits; return the packets (0 = none, or a signal came first), or -errno."""
    every = buffers.headers.shape[0]
    slots = min(every, LARGE_SLOTS) if row[LARGE] else every
    for message in range(slots):
        for word in range(buffers.headers.shape[1]):  # a stale controllen would be a stale segment size
            buffers.headers[message, word] = buffers.template[message, word]
    messages = int64(_recvmmsg(row[DESCRIPTOR], buffers.headers.ctypes.data, slots, MSG_DONTWAIT, 0))
    if messages < 0:
        number = errno_now()
        if number == EINTR:
            row[INTERRUPTED] += 1
        return 0 if number in (EAGAIN, EINTR) else -number
    tally = split(buffers.headers, buffers.controls, buffers.batch.memory.size // every, messages, buffers.batch)
    row[LARGE] = 1 if tally.size >= messages * LARGE_MESSAGE else 0
    row[GOT_CALLS] += 1
    row[GOT_MESSAGES] += messages
    row[GOT_PACKETS] += tally.packets
    row[GOT_SIZE] += tally.size
    row[GOT_MERGED] += tally.merged
    row[TRUNCATED] += tally.truncated
    row[OVERFLOW] += tally.overflow
    return int(tally.packets)


@kernel
def send_lent(row: NDArray[np.int64], batch: PacketBatch, buffers: SendBuffers, first: int, end: int) -> int:
    """Send packets ``first .. end - 1``; return the packet after those that were taken.

    Fewer than all are taken when the kernel, or the batch, has something that the socket itself has to look at.
    """
    while first < end:
        messages = plan(batch, buffers, first, end, row[MOST_SEGMENTS], 0, row[MARKS])
        if messages < 1:
            break
        sent = int64(_sendmmsg(row[DESCRIPTOR], buffers.headers.ctypes.data, messages, MSG_DONTWAIT))
        if sent < 1:
            break
        used = buffers.headers[0, CONTROLLEN]
        row[MARKED] |= used > (SEGMENT_CONTROLLEN if buffers.bound[1, 2] > 0 else 0)
        row[SENT_CALLS] += 1
        row[SENT_MESSAGES] += sent
        row[SENT_PACKETS] += buffers.bound[sent, 0] - first
        row[SENT_SIZE] += buffers.bound[sent, 1]
        row[SENT_MERGED] += buffers.bound[sent, 2]
        first = int64(buffers.bound[sent, 0])
    return first
