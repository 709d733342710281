"""One end of a tunnel in virtual time: a complete data plane whose sockets and streams are memory."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.batch import NOT_ECT, SOCKADDR_SIZE, packet_batch
from drivers.linux.address import pack, unpack
from vantun.dataplane.events import Event, FlowOpened
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.ports import WOULD_BLOCK

_CAPACITY = 1024
_SLOT = 1500

Address = tuple[str, int]
NOWHERE: Address = ("", 0)
"""The address of whoever has none: a data plane learns nothing from it."""


class MemoryPort:
    """A stream port over memory: ``feed`` what is to be sent, find what has come in ``received``.

    ``limit`` bounds the bytes taken before :meth:`drain` is called, as a slow reader would.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.received = bytearray()
        self.opened = False
        self.refusal: int | None = None
        self.ended = False
        self.was_reset = False
        self.closed = False
        self._limit = limit
        self.limited = limit is not None
        self._taken = 0
        self._source: deque[memoryview] = deque()
        self._end_of_source = False
        self._broken = False

    def feed(self, data: bytes) -> None:
        """Add bytes to be sent; the endpoint must be told by ``Dataplane.readable``."""
        self._source.append(memoryview(data))

    @property
    def fed(self) -> int:
        """Bytes that wait to be sent."""
        return sum(map(len, self._source))

    def finish(self) -> None:
        """End the stream behind the bytes fed so far."""
        self._end_of_source = True

    def break_stream(self) -> None:
        """Make the next read or write fail as a reset TCP connection does."""
        self._broken = True

    def drain(self) -> None:
        """Let another ``limit`` bytes in; the endpoint must be told by ``Dataplane.writable``."""
        self._taken = 0

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        if self._broken:
            raise ConnectionResetError("the lab broke this stream")
        total = 0
        for address, size in iov[:count].tolist():
            filled = 0
            while filled < size and self._source:
                piece = self._source[0]
                part = min(size - filled, len(piece))
                ctypes.memmove(address + filled, bytes(piece[:part]), part)
                filled += part
                if part == len(piece):
                    self._source.popleft()
                else:
                    self._source[0] = piece[part:]
            total += filled
            if filled < size:
                break
        if total:
            return total
        return 0 if self._end_of_source else WOULD_BLOCK

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        if self._broken:
            raise ConnectionResetError("the lab broke this stream")
        total = 0
        for address, size in iov[:count].tolist():
            room = size if self._limit is None else min(size, self._limit - self._taken)
            self.received += ctypes.string_at(address, room)
            self._taken += room
            total += room
            if room < size:
                break
        return total if total else WOULD_BLOCK

    def accepted(self) -> None:
        """See StreamPort."""
        self.opened = True

    def refused(self, code: int) -> None:
        """See StreamPort."""
        self.refusal = code

    def shutdown_write(self) -> None:
        """See StreamPort."""
        self.ended = True

    def reset(self) -> None:
        """See StreamPort."""
        self.was_reset = True

    def close(self) -> None:
        """See StreamPort."""
        self.closed = True


class Endpoint:
    """A data plane, the datagrams waiting for it, and the flows that the other end opened.

    Attributes
    ----------
    marks
        ECN bits of each datagram that departed last.
    """

    def __init__(self, plane: Dataplane, on_open: Callable[[Endpoint, FlowOpened, float], None] | None = None) -> None:
        self.plane = plane
        self.events: list[Event] = []
        self.misses = 0
        self.marks: list[int] = []
        self._on_open = on_open
        self._inbox = np.zeros(_CAPACITY * _SLOT, np.uint8)
        self._sources: NDArray[np.uint8] = np.zeros((_CAPACITY, SOCKADDR_SIZE), np.uint8)
        self._batch = packet_batch(self._inbox, _CAPACITY, self._sources)
        self._batch.offset[:] = np.arange(_CAPACITY) * _SLOT
        self._batch.peer[:] = np.arange(_CAPACITY)
        self._packed: dict[Address, NDArray[np.uint8]] = {NOWHERE: np.zeros(SOCKADDR_SIZE, np.uint8)}
        self._unpacked: dict[bytes, Address] = {}
        self._waiting = 0

    def arrive(self, datagram: bytes, now: float, source: Address = NOWHERE, mark: int = NOT_ECT) -> None:
        """Put one datagram in front of the endpoint; ``mark`` are the ECN bits it arrives with."""
        if self._waiting == _CAPACITY:
            self.run(now)
        start = self._waiting * _SLOT
        self._inbox[start : start + len(datagram)] = np.frombuffer(datagram, np.uint8)
        self._batch.length[self._waiting] = len(datagram)
        self._batch.ecn[self._waiting] = mark
        row = self._packed.get(source)
        if row is None:
            row = self._packed[source] = np.frombuffer(pack(*source), np.uint8)
        self._sources[self._waiting] = row
        self._waiting += 1

    def run(self, now: float) -> None:
        """Process what has arrived."""
        if self._waiting:
            count, self._waiting = self._waiting, 0
            self.misses += len(self.plane.receive(self._batch, count, 0, now))
            self.plane.settle(now)
        self._take_events(now)

    def depart(self, now: float) -> list[tuple[int, bytes]]:
        """Return (socket, datagram) for everything that is to be sent now."""
        return [(socket, datagram) for socket, datagram, _ in self.depart_to(now)]

    def depart_to(self, now: float) -> list[tuple[int, bytes, Address]]:
        """Return (socket, datagram, destination) for everything that is to be sent now."""
        datagrams: list[tuple[int, bytes, Address]] = []
        self.marks.clear()
        while True:
            outgoing = self.plane.transmit(now)
            if not outgoing.packets:
                break
            memory = outgoing.batch.memory
            offsets, sizes = outgoing.batch.offset.tolist(), outgoing.batch.length.tolist()
            self.marks += outgoing.batch.ecn[: outgoing.packets].tolist()
            for i, socket in enumerate(outgoing.socket[: outgoing.packets].tolist()):
                datagram = memory[offsets[i] : offsets[i] + sizes[i]].tobytes()
                datagrams.append((socket, datagram, self._unpack(outgoing.batch.address[outgoing.batch.peer[i]])))
        self._take_events(now)
        return datagrams

    def _unpack(self, row: NDArray[np.uint8]) -> Address:
        key = row.tobytes()
        address = self._unpacked.get(key)
        if address is None:
            address = self._unpacked[key] = unpack(key)
        return address

    def _take_events(self, now: float) -> None:
        for event in self.plane.take_events():
            self.events.append(event)
            if isinstance(event, FlowOpened) and self._on_open is not None:
                self._on_open(self, event, now)

    def channel_total(self, name: str) -> int:
        """Return a channel counter summed over the channels of every session."""
        channels = self.plane.snapshot()["channels"]
        assert isinstance(channels, list)
        return sum(int(channel[name]) for channel in channels)

    @property
    def rows_in_use(self) -> int:
        """Rows of the pool that are not free."""
        return self.plane.config.limits.rows - int(self.plane.context.tables.pool[0]["rows_free"])
