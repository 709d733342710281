"""Datagrams that the kernel gave to the wrong worker, passed on to the one whose lane they are of.

Byte 0 of a connection id names the worker, and the kernel steers by it (:mod:`drivers.linux.reuseport`). It errs in two
cases: where it does not take the steering program; and with receive offload, which joins datagrams of one sender and
one length whatever their connection ids are, so that a superpacket may hold datagrams of several workers (seen with
one sender's datagrams for two workers in turn, docs/architecture.md).

The workers share a mesh of Unix datagram sockets: each has an inbox, and the writing ends of all the others'. A message
holds datagrams of one UDP socket: a head, a line for each, then their bytes. Nothing waits here: what an inbox has no
room for is dropped and counted, as the network would drop it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena, row_stride
from drivers.batch import SOCKADDR_SIZE, PacketBatch, packet_batch
from vantun.dataplane.poller import IN, Poller

MESSAGE = 66_048
"""Bytes of a message at most: a superpacket of a TUN, with what stands before it."""
DATAGRAMS = 500
"""Datagrams of a message at most: with head and lines fewer pieces than IOV_MAX (1024)."""
_ROUNDS = 8
"""Messages taken per turn."""
PACKETS = -1
"""In place of a UDP socket's number: packets of the TUN, each behind its vnet header."""
_HEAD = struct.Struct("=qi")
"""Number of the UDP socket, count of datagrams."""
_LINE = np.dtype([("length", "<u4"), ("address", np.uint8, SOCKADDR_SIZE)])
_SHORT_HEADER, _FORM = 0x40, 0xC0
_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ECONNREFUSED, errno.EINTR))
"""No room, or nobody holds the inbox for the moment."""

Take = Callable[[PacketBatch, int, int], None]
"""(batch, count, number of the UDP socket): what another worker has handed over."""
TakePackets = Callable[[PacketBatch, int], None]
"""(batch, count): packets of a TUN that another worker has read."""


class Handover:
    """A worker's place in the mesh; without one, nothing is handed over.

    Attributes
    ----------
    handed_over, dropped
        Datagrams given to other workers, and those that they had no room for.
    taken
        Datagrams that other workers gave.
    take_packets
        Is given the packets of a TUN that other workers have read.
    """

    def __init__(self, poller: Poller, take: Take) -> None:
        self.handed_over = 0
        self.dropped = 0
        self.taken = 0
        self._poller = poller
        self._take = take
        self._worker = -1
        self._inbox: socket.socket | None = None
        self._others: dict[int, socket.socket] = {}
        self._arena: Arena | None = None
        self._batch: PacketBatch | None = None
        self.take_packets: TakePackets = lambda _batch, _count: None

    # --- the mesh

    def join(self, worker: int, sock: socket.socket) -> None:
        """Be the worker of this number, whose inbox ``sock`` is; it belongs to this object from now on."""
        self._leave()
        if self._arena is None:
            self._arena = Arena(1, row_stride(MESSAGE))
            address: NDArray[np.uint8] = np.zeros((DATAGRAMS, SOCKADDR_SIZE), np.uint8)
            self._batch = packet_batch(self._arena.memory, DATAGRAMS, address)
            self._batch.peer[:] = np.arange(DATAGRAMS)
        sock.settimeout(0)
        self._worker, self._inbox = worker, sock
        self._poller.add(sock.fileno(), IN, self._ready)

    def connect(self, worker: int, sock: socket.socket) -> None:
        """Know the inbox of another worker; ``sock`` belongs to this object from now on."""
        old = self._others.pop(worker, None)
        if old is not None:
            old.close()
        sock.settimeout(0)
        self._others[worker] = sock

    def _leave(self) -> None:
        if self._inbox is not None:
            self._poller.remove(self._inbox.fileno())
            self._inbox.close()
            self._inbox = None

    def close(self) -> None:
        """Close every end, and the memory."""
        self._leave()
        for sock in self._others.values():
            sock.close()
        self._others.clear()
        if self._arena is not None:
            self._arena.close()
            self._arena = self._batch = None

    # --- out

    def pass_on(self, number: int, batch: PacketBatch, misses: NDArray[np.int32]) -> NDArray[np.int32]:
        """Hand over those of ``misses`` that are another worker's; return the rest, which are nobody's here."""
        if not self._others or not len(misses):
            return misses
        start = batch.offset[misses]
        long_enough = batch.length[misses] > 1
        first = batch.memory[start]
        owner = np.where(
            long_enough & ((first & _FORM) == _SHORT_HEADER), batch.memory[start + long_enough].astype(np.int64), -1
        )
        rest = np.ones(len(misses), bool)
        for worker, sock in self._others.items():
            theirs = owner == worker
            if theirs.any():
                rest &= ~theirs
                self._send(sock, number, batch, misses[theirs])
        return misses[rest]

    def _send(self, sock: socket.socket, number: int, batch: PacketBatch, indexes: NDArray[np.int32]) -> None:
        lengths = batch.length[indexes].astype(np.int64)
        ends = np.cumsum(lengths + _LINE.itemsize)
        first = 0
        while first < len(indexes):
            room = MESSAGE - _HEAD.size + (int(ends[first - 1]) if first else 0)
            end = min(int(np.searchsorted(ends, room, side="right")), first + DATAGRAMS)
            if end == first:  # longer than any message: no datagram of a lane is
                self.dropped += 1
                first += 1
                continue
            self._send_some(sock, number, batch, indexes[first:end])
            first = end

    def give(self, worker: int, packets: list[memoryview]) -> int:
        """Hand packets of the TUN over to a worker; return how many of them it has room for."""
        sock = self._others.get(worker)
        given = first = 0
        while first < len(packets):
            end, size = first, _HEAD.size
            while end < len(packets) and end - first < DATAGRAMS:
                size += _LINE.itemsize + len(packets[end])
                if size > MESSAGE and end > first:
                    break
                end += 1
            lines = np.zeros(end - first, _LINE)
            lines["length"] = [len(packet) for packet in packets[first:end]]
            pieces: list[bytes | memoryview] = [_HEAD.pack(PACKETS, end - first), lines.tobytes(), *packets[first:end]]
            if sock is not None and self._sent(sock, pieces, end - first):
                given += end - first
            first = end
        return given

    def _send_some(self, sock: socket.socket, number: int, batch: PacketBatch, indexes: NDArray[np.int32]) -> None:
        count = len(indexes)
        lines = np.zeros(count, _LINE)
        lines["length"] = batch.length[indexes]
        lines["address"] = batch.address[batch.peer[indexes]]
        starts = batch.offset[indexes]
        ends = starts + batch.length[indexes]
        apart = np.flatnonzero(starts[1:] != ends[:-1]) + 1  # neighbours in a superpacket are one piece
        runs = zip(starts[[0, *apart]].tolist(), ends[[*(apart - 1), -1]].tolist(), strict=True)
        memory = batch.memory.data
        pieces: list[bytes | memoryview] = [_HEAD.pack(number, count), lines.tobytes()]
        pieces += [memory[start:end] for start, end in runs]
        self._sent(sock, pieces, count)

    def _sent(self, sock: socket.socket, pieces: Sequence[bytes | memoryview], count: int) -> bool:
        """Send a message, and count what is in it; return whether there was room."""
        try:
            sock.sendmsg(pieces)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.dropped += count
            return False
        self.handed_over += count
        return True

    # --- in

    def _ready(self, _events: int) -> None:
        for _ in range(_ROUNDS):
            if self._inbox is None or self._arena is None or self._batch is None:
                return
            try:
                size = self._inbox.recv_into(self._arena.memory.data, MESSAGE)
            except (BlockingIOError, InterruptedError):
                return
            number, count = self._unpack(self._batch, size)
            if count:
                self.taken += count
                if number == PACKETS:
                    self.take_packets(self._batch, count)
                else:
                    self._take(self._batch, count, number)

    def _unpack(self, batch: PacketBatch, size: int) -> tuple[int, int]:
        """Fill the batch from a message; return the socket's number and the count of datagrams, 0 if it is none."""
        if size < _HEAD.size:
            return 0, 0
        number, count = _HEAD.unpack_from(batch.memory.data)
        begin = _HEAD.size + count * _LINE.itemsize
        if not 0 < count <= DATAGRAMS or begin > size:
            return 0, 0
        lines = np.frombuffer(batch.memory, _LINE, count, _HEAD.size)
        ends = begin + np.cumsum(lines["length"].astype(np.int64))
        if int(ends[-1]) != size:
            return 0, 0
        batch.length[:count] = lines["length"]
        batch.offset[:count] = ends - batch.length[:count]
        batch.address[:count] = lines["address"]
        return number, count

    # --- what is shown

    def snapshot(self) -> dict[str, object]:
        """Return the counters."""
        return {"handed_over": self.handed_over, "hand_over_dropped": self.dropped, "taken_over": self.taken}
