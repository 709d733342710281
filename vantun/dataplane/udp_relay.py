"""The SOCKS5 UDP relay of one program (RFC 1928, section 7): three bytes of header before a packet flow's body."""

from __future__ import annotations

import socket

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.udp_kernels import NO_PROGRAM, RELAY_HEAD, Program, read_relay
from vantun.dataplane.udp_port import SocketPort, UdpKeeper
from vantun.udp_address import encode_address
from vantun.udp_messages import OpenUdp, UdpClosed


class RelayPort(SocketPort):
    """Serves the program at ``message.peer`` and nobody else. Raises ValueError when that is no IP address.

    Attributes
    ----------
    number
        By which the control process knows it.
    """

    def __init__(self, sock: socket.socket, keeper: UdpKeeper, message: OpenUdp, now: float) -> None:
        super().__init__(sock, keeper, message.idle, now)
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

    def _send(self, count: int, now: float) -> int:
        if not self._program.size[1]:
            self._io.drops[NO_PROGRAM] += count
            return 0
        return self._io.send(self._descriptor, self._out, 0, count)

    def _close(self, reason: str) -> None:
        if self._descriptor >= 0:
            self._keeper.report(UdpClosed(self.number, reason))
        super()._close(reason)
