"""The socket of one local program for targets past the tunnel: as the server's for those behind it.

It is not connected, so the program keeps its address towards all direct targets, and every host that was spoken to may
answer, from any port (address-restricted filtering, RFC 4787, section 5).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.errors import DriverError
from drivers.linux.address import for_socket, unpack
from vantun.dataplane.udp_divert import lay_bodies
from vantun.dataplane.udp_io import UdpIo, prepare_udp
from vantun.dataplane.udp_kernels import name_answers
from vantun.dataplane.udp_port import DRAINED, ROUNDS
from vantun.dataplane.udp_table import ALLOWED, UdpTable
from vantun.udp_address import encode_address

HOSTS = 1024
"""Hosts that may answer one program; the one that was not spoken to for the longest time goes first."""
_HOST_BYTES = 17


class Program(Protocol):
    """The local program behind an association or a source.

    Attributes
    ----------
    direct
        Its socket for direct targets, once it has one.
    lead
        Bytes of 0 wanted before each answer.
    """

    direct: DirectSocket | None
    lead: int

    def flow_index(self, now: float) -> int:
        """Return the flow of its datagrams, opened if need be; -1 = there cannot be one now, and that was counted."""

    def deliver(self, count: int, now: float) -> None:
        """Give it ``count`` answers, which lie in ``UdpIo.out`` as if a flow had brought them."""


def open_direct(mark: int) -> socket.socket:
    """Return a socket for IPv6 and IPv4, only for IPv4 where there is no IPv6. Raises OSError."""
    try:
        sock = _bound(socket.AF_INET6, "::")
    except OSError:
        sock = _bound(socket.AF_INET, "0.0.0.0")
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        prepare_udp(sock)
    except OSError:
        sock.close()
        raise
    return sock


def is_local(host: str) -> bool:
    """Tell whether an address is this machine's."""
    try:
        _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, host).close()
    except OSError:
        return False
    return True


def _bound(family: socket.AddressFamily, host: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
    except OSError:
        sock.close()
        raise
    return sock


class DirectSocket:
    """Sends for one program, and brings the answers back.

    Attributes
    ----------
    port
        Its local port.
    """

    def __init__(
        self, sock: socket.socket, io: UdpIo, program: Program, counts: NDArray[np.int64], gone: Callable[[], None]
    ) -> None:
        self.port = int(sock.getsockname()[1])
        self._socket = sock
        self._io = io
        self._program = program
        self._counts = counts
        self._gone = gone
        self._hosts = UdpTable(HOSTS, _HOST_BYTES)

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._socket.fileno()

    def send(self, batch: PacketBatch, first: int, count: int, now: float) -> None:
        """Send packets of a batch whose peers are direct targets."""
        for row in np.unique(batch.peer[first : first + count]).tolist():
            self._speak_to(batch.address[row], now)
        with self._io.counting(self._counts[:2]):
            self._io.send(self._socket.fileno(), batch, first, count)

    def send_one(self, payload: bytes, address: NDArray[np.uint8], now: float) -> None:
        """Send a datagram that had to wait; ``address`` [shape=(28,), dtype=uint8]."""
        self._speak_to(address, now)
        with self._io.counting(self._counts[:2]):
            self._io.send_one(self._socket, payload, for_socket(self._socket.family, *unpack(address)))

    def _speak_to(self, address: NDArray[np.uint8], now: float) -> None:
        """Let a host answer."""
        name = encode_address(*unpack(address))[:-2]
        row = self._hosts.find(name)
        if row < 0:
            if self._hosts.full:
                self._hosts.remove(self._hosts.oldest())
            row = self._hosts.add(name, ALLOWED, now)
        self._hosts.table.used[row] = now

    def read(self, now: float) -> None:
        """Bring answers to the program, a few batches at most."""
        io, lead = self._io, self._program.lead
        for _ in range(ROUNDS):
            try:
                count = io.receive(self._socket.fileno())
            except DriverError:  # level-triggered, it would come back at once and for ever
                self._gone()
                return
            found = int(name_answers(io.batch, count, self._hosts.table, io.bodies, 0, io.drops)) if count else 0
            first = 0
            with io.counting(self._counts[2:]):
                while first < found:
                    laid = int(lay_bodies(io.bodies, (first, found), io.out, lead))
                    self._program.deliver(laid, now)
                    first += laid
            if count < DRAINED or self._socket.fileno() < 0:
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
