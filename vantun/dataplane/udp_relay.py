"""The SOCKS5 UDP relay of one program (RFC 1928, section 7): three bytes of header before a packet flow's body."""

from __future__ import annotations

import socket

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.udp_bodies import NO_PROGRAM
from vantun.dataplane.udp_direct import DirectSocket
from vantun.dataplane.udp_kernels import RELAY_HEAD, Program, read_relay
from vantun.dataplane.udp_port import NO_FLOW, SocketPort, UdpKeeper
from vantun.errors import ResourceError
from vantun.udp_address import encode_address
from vantun.udp_messages import FLOW_TARGET, OpenUdp, UdpClosed


class RelayPort(SocketPort):
    """Serves the program at ``message.peer`` and nobody else. Raises ValueError when that is no IP address.

    Attributes
    ----------
    number
        By which the control process knows it.
    direct, lead
        See vantun.dataplane.udp_direct.Program.
    session
        In which it opens its next flow, should this one end while it sends past the tunnel.
    """

    def __init__(self, sock: socket.socket, keeper: UdpKeeper, message: OpenUdp, now: float) -> None:
        super().__init__(sock, keeper, message.idle, now)
        self.direct: DirectSocket | None = None
        self.lead = RELAY_HEAD
        self.session = message.session
        host = np.frombuffer(encode_address(*message.peer), np.uint8)
        self.number = message.number
        self._program = Program(
            host=np.zeros(259, np.uint8), size=np.array([len(host), 0], np.int64), address=np.zeros((1, 28), np.uint8)
        )
        self._program.host[: len(host)] = host
        self._out = self._io.out._replace(address=self._program.address)

    @property
    def _lead(self) -> int:
        return RELAY_HEAD

    def _sort(self, count: int, index: int) -> tuple[NDArray[np.uint8], int]:
        io = self._io
        return io.batch.memory, int(read_relay(io.batch, count, self._program, io.bodies, index, io.drops))

    @property
    def _waits(self) -> bool:
        return not self._keeper.judge.judged  # what goes past the tunnel must not wait for it

    def _put(self, memory: NDArray[np.uint8], count: int, now: float) -> int:
        return self._keeper.judge.put(memory, count, lambda _flow: self, now)

    def _send(self, count: int, now: float) -> int:
        if not self._program.size[1]:
            self._io.drops[NO_PROGRAM] += count
            return 0
        return self._io.send(self._descriptor, self._out, 0, count)

    # --- as a Program of vantun.dataplane.udp_direct

    def flow_index(self, now: float) -> int:
        """See Program."""
        del now
        flow = self._keeper.plane.flows.by_handle(self.handle)
        return -1 if flow is None else flow.index

    def deliver(self, count: int, now: float) -> None:
        """See Program."""
        self.used = now
        self._send(count, now)

    # --- its flow

    def open(self, now: float) -> None:
        """Open its flow; it ends when it cannot have one."""
        try:
            self.handle = self._keeper.plane.open_flow(self.session, FLOW_TARGET, self, now)
        except (KeyError, ResourceError, ValueError) as error:
            self.end(str(error), now)

    def reset(self) -> None:
        """See PacketPort: with a socket past the tunnel it goes on, and opens another flow when its program sends."""
        if self.direct is not None:
            self.handle = NO_FLOW
        else:
            super().reset()

    def close(self) -> None:
        """See :meth:`reset`."""
        if self.direct is not None and not self.reason:
            self.handle = NO_FLOW
        else:
            super().close()

    def _close(self, reason: str) -> None:
        if self._descriptor >= 0:
            self._keeper.judge.leave(self)
            self._keeper.report(UdpClosed(self.number, reason))
        super()._close(reason)
