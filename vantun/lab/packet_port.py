"""A port of packets in memory: ``send`` what is to go, find what has come in ``received``."""

from __future__ import annotations

import ctypes
from collections import deque

import numpy as np

from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.ports import flow_index
from vantun.session.packets import LENGTH_SIZE, PACKET_PIECES, next_packet, packet_done, packet_room, put_packet


class MemoryPacketPort:
    """A PacketPort of ``plane``.

    Attributes
    ----------
    received
        (when, body) of each packet that came.
    waits
        Whether the port waits for room before it reads on; else what finds none is dropped, as by a port that must
        not block its source.
    open_for
        Packets taken until :meth:`take` is called, as a full socket would; None = all.
    """

    def __init__(self, plane: Dataplane, *, waits: bool = True, open_for: int | None = None) -> None:
        self.handle = -1
        self.received: list[tuple[float, bytes]] = []
        self.waits = waits
        self.open_for = open_for
        self.refused_packets = 0
        self.opened = False
        self.refusal: int | None = None
        self.was_reset = False
        self.closed = False
        self._plane = plane
        self._source: deque[bytes] = deque()
        self._iov = np.zeros((PACKET_PIECES, 2), np.uint64)

    @property
    def bodies(self) -> list[bytes]:
        """The packets that came."""
        return [body for _, body in self.received]

    @property
    def fed(self) -> int:
        """Packets that wait to be read."""
        return len(self._source)

    def send(self, *bodies: bytes) -> None:
        """Have packets sent."""
        self._source += bodies
        if self.handle >= 0:
            self._plane.readable(self.handle)

    def take(self, packets: int) -> None:
        """Let another ``packets`` in."""
        self.open_for = packets
        self._plane.writable(self.handle)

    def fill(self, now: float) -> None:
        """See PacketPort."""
        t, index = self._plane.context.tables, flow_index(self.handle)
        while self._source:
            body = self._source[0]
            if self.waits and int(packet_room(t.root, index)) < LENGTH_SIZE + len(body):
                self._plane.readable(self.handle)
                return
            memory = np.frombuffer(bytearray(body or b"\0"), np.uint8)  # kernels are compiled for writable memory
            self._source.popleft()
            if not put_packet(t.root, index, memory, 0, len(body), now):
                self.refused_packets += 1

    def drain(self, flow_index: int, now: float) -> int:
        """See PacketPort."""
        t, base = self._plane.context.tables, self._plane.context.address
        total = 0
        while self.open_for is None or self.open_for > 0:
            count, size = next_packet(t.root, flow_index, base, self._iov, now)
            if not count:
                break
            body = b"".join(ctypes.string_at(address, length) for address, length in self._iov[:count].tolist())
            assert len(body) == size
            packet_done(t.root, flow_index)
            self.received.append((now, body))
            total += size
            if self.open_for is not None:
                self.open_for -= 1
        return total

    def accepted(self) -> None:
        """See Port."""
        self.opened = True

    def refused(self, code: int) -> None:
        """See Port."""
        self.refusal = code
        self.handle = -1

    def reset(self) -> None:
        """See Port."""
        self.was_reset = True
        self.handle = -1

    def close(self) -> None:
        """See Port."""
        self.closed = True
        self.handle = -1
