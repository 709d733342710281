"""What the UDP sockets with a flow of their own have in common: reading in turns, and one way to end."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DriverError
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.udp_io import UdpIo, prepare_udp
from vantun.session.packets import MAX_PACKET, packet_room
from vantun.udp_messages import UdpReport

if TYPE_CHECKING:
    from vantun.dataplane.udp_judge import UdpJudge

ROUNDS = 4
"""Batches read per turn: other flows get theirs."""
DRAINED = 16
"""A batch of fewer packets has emptied the socket: a call takes at least 16 messages."""
ROOM = MAX_PACKET + 4
"""Bytes that the tunnel's queue must have room for; what waits in the socket meanwhile is the program's queue."""


NO_FLOW = -1
"""In place of a handle."""


class UdpKeeper(Protocol):
    """Who watches the sockets, and knows everything around them."""

    plane: Dataplane
    io: UdpIo
    judge: UdpJudge

    def report(self, message: UdpReport) -> None:
        """Tell the control process."""

    def ended(self, port: SocketPort, reason: str) -> None:
        """Stop watching: the socket is about to be closed."""


class SocketPort(ABC):
    """A UDP socket that is the end of one packet flow; see vantun.dataplane.ports.PacketPort.

    Attributes
    ----------
    handle
        Of its flow.
    used
        When it carried something last.
    idle
        Seconds of silence after which it is ended.
    reason
        Why it ends, if somebody here has decided so.
    """

    def __init__(self, sock: socket.socket, keeper: UdpKeeper, idle: float, now: float) -> None:
        prepare_udp(sock)
        self.handle = NO_FLOW
        self.used = now
        self.idle = idle
        self.reason = ""
        self._socket = sock
        self._descriptor = sock.fileno()
        self._keeper = keeper
        self._io = keeper.io

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._descriptor

    @abstractmethod
    def _sort(self, count: int, index: int) -> tuple[NDArray[np.uint8], int]:
        """List the bodies of a received batch; return the memory they lie in, and how many."""

    def _put(self, memory: NDArray[np.uint8], count: int, now: float) -> int:
        """Give the listed bodies to the flow; return how many were taken."""
        return self._io.put(memory, count, now)

    @abstractmethod
    def _send(self, count: int, now: float) -> int:
        """Send ``count`` bodies that were taken from the flow; return the bytes."""

    @property
    def _lead(self) -> int:
        """Bytes of 0 wanted before each body."""
        return 0

    @property
    def _waits(self) -> bool:
        """Whether nothing is read while the tunnel's queue is full; else what does not fit is dropped."""
        return True

    def fill(self, now: float) -> None:
        """See PacketPort."""
        plane = self._keeper.plane
        flow = plane.flows.by_handle(self.handle)
        if flow is None or self._descriptor < 0:
            return
        for _ in range(ROUNDS):
            if self._waits and packet_room(plane.context.tables.root, flow.index) < ROOM:
                break
            try:
                count = self._io.receive(self._descriptor)
            except DriverError as error:
                self.end(str(error), now)
                return
            if not count:
                return
            memory, found = self._sort(count, flow.index)
            if self._put(memory, found, now):
                self.used = now
            if count < DRAINED:
                return
        plane.readable(self.handle)

    def drain(self, flow_index: int, now: float) -> int:
        """See PacketPort."""
        total = 0
        while count := self._io.take(flow_index, self._lead, now):
            self.used = now
            total += self._send(count, now)
        return total

    def end(self, reason: str, now: float) -> None:
        """End the flow at both ends, and close."""
        self.reason = reason
        self._keeper.plane.end_packets(self.handle, now)
        self._close(reason)

    def accepted(self) -> None:
        """See PacketPort: datagrams need not wait for it."""
        return

    def refused(self, code: int) -> None:
        """See PacketPort."""
        self._close(f"the far end refused it with code {code}")

    def reset(self) -> None:
        """See PacketPort."""
        self._close(self.reason or "the far end has ended it, or the session is over")

    def close(self) -> None:
        """See PacketPort."""
        self._close(self.reason or "the far end has ended it")

    def _close(self, reason: str) -> None:
        if self._descriptor >= 0:
            self._keeper.ended(self, reason)
            self._descriptor = -1
            self._socket.close()
