"""What the UDP sockets of programs and targets share in a worker: one set of buffers, and counters.

Everything of a batch happens inside one call, so the buffers serve one socket after the other; with a set per socket, a
thousand associations would hold a gigabyte.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.batch import SOCKADDR_SIZE, PacketBatch, packet_batch
from drivers.errors import DriverError
from drivers.linux.libc import libc
from drivers.linux.udp import UDP_GRO, UDP_SEGMENT
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_errno import name_of
from drivers.linux.udp_receive import CAPACITY, MERGED_SLOTS, SLOT, Receiver
from drivers.linux.udp_send import SEGMENTS, Sender
from vantun.dataplane.context import Context
from vantun.dataplane.udp_bodies import DROPS, UNSENT, Bodies
from vantun.dataplane.udp_kernels import put_bodies, take_bodies
from vantun.session.packets import MAX_PACKET, PACKET_PIECES

OUT = 512
"""Packets of a batch that is sent."""
_OUT_BYTES = 8 * MAX_PACKET
_IN_BYTES = MERGED_SLOTS * SLOT + CAPACITY * 32
_SEGMENT = 1400
"""Longest packets that are sent as one message: with longer ones a route may refuse to segment at all."""


class UdpIo:
    """Receives, sends, and moves bodies between the sockets' buffers and the tunnel.

    Attributes
    ----------
    batch
        What :meth:`receive` filled.
    bodies
        For the kernels that build them.
    out
        For the kernels that aim what :meth:`take` collected; ``address`` is one zero row, the peer of a connected
        socket.
    counters
        Of all sockets together.
    drops
        [shape=(len(DROPS),), dtype=int64] see DROPS.
    packets
        [shape=(4,), dtype=int64] packets into the tunnel, their bytes, packets out of it, their bytes.
    """

    def __init__(self, context: Context) -> None:
        calls = libc()
        self.counters = UdpCounters()
        self.drops: NDArray[np.int64] = np.zeros(len(DROPS), np.int64)
        self.packets: NDArray[np.int64] = np.zeros(4, np.int64)
        self._sent = self.packets[2:]
        self._root = context.tables.root
        self._base = context.address
        self._receiver = Receiver(-1, calls, self.counters, MERGED_SLOTS)
        self._merging = Sender(-1, calls, self.counters, SEGMENTS)
        self._single = Sender(-1, calls, self.counters, 1)
        self._arena = Arena(1, _OUT_BYTES)
        self._iov = np.zeros((PACKET_PIECES, 2), np.uint64)
        self.batch: PacketBatch = self._receiver.batch
        self.out = packet_batch(self._arena.memory, OUT, np.zeros((1, SOCKADDR_SIZE), np.uint8))
        self.bodies = Bodies(
            memory=np.zeros(_IN_BYTES, np.uint8),
            start=np.zeros(CAPACITY, np.int64),
            length=np.zeros(CAPACITY, np.int64),
            flow=np.zeros(CAPACITY, np.int64),
        )

    @property
    def messages(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Headers and control data of the last :meth:`receive`, one row per message."""
        return self._receiver.headers, self._receiver.controls

    def receive(self, descriptor: int) -> int:
        """Fill :attr:`batch` with what waits in a socket; return the number of packets. Raises DriverError."""
        self._receiver.descriptor = descriptor
        return self._receiver.receive(self.batch)

    def put(self, memory: NDArray[np.uint8], count: int, now: float) -> int:
        """Give ``count`` of :attr:`bodies`, which lie in ``memory``, to their flows; return how many were taken."""
        if not count:
            return 0
        taken = int(put_bodies(self._root, memory, self.bodies, count, self.drops, now))
        self.packets[0] += taken
        self.packets[1] += int(self.bodies.length[:count].sum())
        return taken

    def take(self, index: int, lead: int, now: float) -> int:
        """Collect the next bodies of a flow in :attr:`out`, with ``lead`` bytes of 0 before each; return how many."""
        return int(take_bodies(self._root, (index, self._base), self._iov, self.out, lead, now))

    def send(self, descriptor: int, batch: PacketBatch, first: int, count: int) -> int:
        """Send packets ``first .. first + count - 1``; return their bytes. What the kernel refuses is counted."""
        if not count:
            return 0
        lengths = batch.length[first : first + count]
        sender = self._merging if count > 1 and int(lengths.max()) <= _SEGMENT else self._single
        sender.descriptor = descriptor
        try:
            taken = sender.send(batch, first, count)
        except DriverError:  # the socket, not a packet, is at fault; whoever reads from it finds out
            taken = 0
        self.drops[UNSENT] += count - taken
        size = int(lengths[:taken].sum())
        self._sent[0] += taken
        self._sent[1] += size
        return size

    def send_one(self, sock: socket.socket, data: bytes, address: tuple[str, int]) -> None:
        """Send what had to wait for its destination; a refusal of the kernel is counted."""
        try:
            sock.sendto(data, address)
        except OSError as error:
            self.drops[UNSENT] += 1
            self.counters.drop(name_of(error.errno or 0), 1)
            return
        self._sent[0] += 1
        self._sent[1] += len(data)

    @contextmanager
    def counting(self, sent: NDArray[np.int64]) -> Iterator[None]:
        """Add what is sent meanwhile to ``sent`` [packets, bytes]: it has nothing to do with the tunnel."""
        self._sent = sent
        try:
            yield
        finally:
            self._sent = self.packets[2:]

    def close(self) -> None:
        """Give the buffers up."""
        self._receiver.arena.close()
        self._arena.close()

    def counted(self) -> dict[str, object]:
        """Return the counters, ready for JSON."""
        return {
            "packets_in": int(self.packets[0]),
            "bytes_in": int(self.packets[1]),
            "packets_out": int(self.packets[2]),
            "bytes_out": int(self.packets[3]),
            "drops": dict(zip(DROPS, self.drops.tolist(), strict=True)),
            "refused_by_kernel": {
                **self.counters.dropped,
                "EMSGSIZE": self.counters.too_big,
                "EAGAIN": self.counters.would_block,
                "ENOBUFS": self.counters.no_buffer,
                "icmp": self.counters.icmp_errors,
            },
        }


def prepare_udp(sock: socket.socket, *, merge: bool = True) -> None:
    """Make a socket that was handed over ready: non-blocking, and with offloads if the kernel has them.

    The path MTU stays the kernel's business, which fragments what is too long: programs rely on it (DNS, RTP).
    """
    sock.settimeout(0)
    for option, value in ((UDP_SEGMENT, 0), (UDP_GRO, int(merge))):
        try:
            sock.setsockopt(socket.IPPROTO_UDP, option, value)
        except OSError:
            return  # an old kernel: one packet per message
