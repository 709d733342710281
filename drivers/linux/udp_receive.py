"""The receiving half of a UDP socket: messages to batches."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena, row_stride
from drivers.batch import SOCKADDR_SIZE, PacketBatch, packet_batch
from drivers.errors import DriverError, SystemCallError
from drivers.linux import udp_errno
from drivers.linux.libc import CONTROL, CONTROLLEN, IOV, IOVLEN, MSG_DONTWAIT, NAME, NAMELEN, MessageCalls, OneByOne
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_kernel import CONTROL_SIZE, split
from drivers.linux.udp_lent import (
    GOT_CALLS,
    GOT_MERGED,
    GOT_MESSAGES,
    GOT_PACKETS,
    GOT_SIZE,
    INTERRUPTED,
    OVERFLOW,
    TRUNCATED,
    ReceiveBuffers,
)

MERGED_SLOTS = 16
"""Messages per call with receive offload: 16 x 64 KB stays in L2, and single packets cost 1.04 us at 16, 0.97 at 64."""
SINGLE_SLOTS = 64
"""Messages per call without."""
SLOT = 65_536
"""Bytes of a slot: any datagram, and anything receive offload can build. Untouched pages of it cost nothing."""
CAPACITY = MERGED_SLOTS * 128
"""Packets of a batch: UDP_MAX_SEGMENTS is 64, and 128 from Linux 6.9 on."""
ATTEMPTS = 4


class Receiver:
    """Receives batches from one socket; owns the arena and every buffer whose address the kernel is given.

    Attributes
    ----------
    batch
        The one batch that :meth:`receive` fills; ``batch.address`` has a row per message.
    descriptor
        The socket; whoever has many may set another one before each :meth:`receive`.
    lent
        The buffers, for compiled code.
    headers, controls
        ``struct mmsghdr`` [shape=(slots, 8), dtype=int64] and control data [shape=(slots, CONTROL_SIZE), dtype=uint8]
        of the last call.
    """

    def __init__(self, descriptor: int, calls: MessageCalls, counters: UdpCounters, slots: int) -> None:
        self.arena = Arena(slots, row_stride(SLOT))
        address: NDArray[np.uint8] = np.zeros((slots, SOCKADDR_SIZE), np.uint8)
        self.batch = packet_batch(self.arena.memory, CAPACITY, address)
        self.descriptor = descriptor
        self._calls = calls
        self._counters = counters
        self._slots = slots
        self._iovecs = np.zeros((slots, 2), np.int64)
        self._iovecs[:, 0] = self.arena.address + self.arena.stride * np.arange(slots)
        self._iovecs[:, 1] = SLOT
        self.controls = np.zeros((slots, CONTROL_SIZE), np.uint8)
        self.headers = np.zeros((slots, 8), np.int64)
        row = np.arange(slots)
        self.headers[:, NAME] = int(address.ctypes.data) + SOCKADDR_SIZE * row
        self.headers[:, NAMELEN] = SOCKADDR_SIZE
        self.headers[:, IOV] = int(self._iovecs.ctypes.data) + 16 * row
        self.headers[:, IOVLEN] = 1
        self.headers[:, CONTROL] = int(self.controls.ctypes.data) + CONTROL_SIZE * row
        self.headers[:, CONTROLLEN] = CONTROL_SIZE
        self._template = self.headers.copy()
        self._header_address = int(self.headers.ctypes.data)
        self.lent = ReceiveBuffers(self.headers, self._template, self.controls, self.batch)

    def receive(self, batch: PacketBatch) -> int:
        """Fill the batch with what waits; return the number of packets."""
        if batch is not self.batch:
            raise DriverError("a socket receives only into its own batch; pass what receive_batch() returned")
        for _ in range(ATTEMPTS):
            # The kernel writes namelen and controllen; a stale controllen is a stale segment size (seen), so whole
            # headers are restored: one copy of 1 to 4 KB, 0.2 us.
            np.copyto(self.headers, self._template)
            messages = self._calls.recvmmsg(self.descriptor, self._header_address, self._slots, MSG_DONTWAIT)
            if messages >= 0:
                return self._split(messages)
            if self._ends(-messages):
                break
        return 0

    def take_back(self, row: NDArray[np.int64]) -> None:
        """Count what compiled code has received by a lent row."""
        counters = self._counters
        counters.receive.calls += int(row[GOT_CALLS])
        counters.receive.messages += int(row[GOT_MESSAGES])
        counters.receive.packets += int(row[GOT_PACKETS])
        counters.receive.size += int(row[GOT_SIZE])
        counters.gro_messages += int(row[GOT_MERGED])
        counters.truncated += int(row[TRUNCATED])
        counters.overflow += int(row[OVERFLOW])
        counters.interrupted += int(row[INTERRUPTED])
        row[GOT_CALLS:] = 0

    def _ends(self, number: int) -> bool:
        """Decide on an errno; return whether the call is over."""
        if udp_errno.would_block(number):
            return True
        if number == errno.EINTR:
            self._counters.interrupted += 1
            return True
        if not isinstance(self._calls, OneByOne) and udp_errno.call_missing(number, self._calls, self.descriptor):
            self._counters.fall_back("recvmmsg", f"{udp_errno.name_of(number)}: one recvmsg per message instead")
            self._calls = OneByOne(self._calls)
            return False
        if udp_errno.from_icmp(number):
            self._counters.icmp_errors += 1
            return False
        raise SystemCallError("receiving from a UDP socket", number, "close the socket and bind it again")

    def _split(self, messages: int) -> int:
        tally = split(self.headers, self.controls, self.arena.stride, messages, self.batch)
        counters = self._counters
        counters.receive.calls += 1
        counters.receive.messages += messages
        counters.receive.packets += tally.packets
        counters.receive.size += tally.size
        counters.gro_messages += tally.merged
        counters.truncated += tally.truncated
        counters.overflow += tally.overflow
        return tally.packets
