"""The server's end of a UDP association: one socket for all destinations of a program.

Each new destination is asked for (ResolveUdp), since names are resolved and lists are judged in the control process;
meanwhile a few of its packets wait. Answers come back from every address that was spoken to, whatever the port
(address-restricted filtering, RFC 4787, section 5): games and STUN work, strangers do not.
"""

from __future__ import annotations

import socket

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DriverError
from drivers.linux.address import for_socket, pack, unpack
from vantun.dataplane.udp_bodies import ASKED_FULL, MALFORMED, NOT_ALLOWED
from vantun.dataplane.udp_io import OUT
from vantun.dataplane.udp_kernels import aim_bodies, name_answers, prefix_answers, strip_addresses
from vantun.dataplane.udp_port import SocketPort, UdpKeeper
from vantun.dataplane.udp_questions import Questions
from vantun.dataplane.udp_table import ALLOWED, PENDING, REFUSED, UdpTable
from vantun.udp_address import decode_address, encode_address
from vantun.udp_messages import DESTINATIONS, AttachUdp, ResolveUdp, UdpTarget
from vantun.wire.addresses import MAX_ADDRESS

ALLOWED_FOR = 60.0
"""Seconds that an address may be used before its name, and the lists, are asked again; it stays in use meanwhile."""
REFUSED_FOR = 30.0
"""Seconds that a refusal is remembered."""
_HOST_BYTES = 17


class AssociationPort(SocketPort):
    """An unconnected socket, for IPv4 and, if its family is AF_INET6, for IPv6."""

    def __init__(
        self, sock: socket.socket, keeper: UdpKeeper, message: AttachUdp, now: float, destinations: int = DESTINATIONS
    ) -> None:
        super().__init__(sock, keeper, message.idle, now)
        self.handle = message.handle
        self.destinations = UdpTable(destinations, MAX_ADDRESS)
        self._hosts = UdpTable(destinations, _HOST_BYTES)
        self._rest = np.zeros((OUT, 2), np.int64)
        self._questions: Questions[bytes] = Questions(self._io.drops)

    # --- from the targets

    def _sort(self, count: int, index: int) -> tuple[NDArray[np.uint8], int]:
        io = self._io
        found = name_answers(io.batch, count, self._hosts.table, io.bodies, index, io.drops)
        return io.bodies.memory, int(found)

    # --- to the targets

    def _send(self, count: int, now: float) -> int:
        io = self._io
        out = io.out._replace(address=self.destinations.table.address)
        aimed, others = aim_bodies(out, count, self.destinations.table, self._rest, io.drops, now)
        size = io.send(self._descriptor, out, 0, int(aimed))
        for start, length in self._rest[: int(others)].tolist():
            self._look(io.out.memory[start : start + length].tobytes(), now)
        return size

    def _look(self, body: bytes, now: float) -> None:
        """Take a packet whose destination is new, asked for, or to be asked again."""
        host, port, size = decode_address(body)
        name, payload = body[:size], body[size:]
        table = self.destinations.table
        row = self.destinations.find(name)
        if row >= 0 and table.state[row] == ALLOWED:  # until the answer comes, the old one holds
            table.expires[row] = np.inf if self._ask(name, host, port, now) else now + REFUSED_FOR
            address = for_socket(self._socket.family, *unpack(table.address[row]))
            self._io.send_one(self._socket, payload, address)
            return
        if not port or not host.isascii() or not host.isprintable():
            self._io.drops[MALFORMED] += 1
            return
        if name not in self._questions and not self._begin(name, host, port, now):
            self._io.drops[ASKED_FULL] += 1
            return
        self._questions.wait(name, payload, len(payload))

    def _begin(self, name: bytes, host: str, port: int, now: float) -> bool:
        """Ask for a destination that is new, or was refused long ago; False = too many are asked for."""
        if not self._ask(name, host, port, now):
            return False
        row = self.destinations.find(name)
        if row >= 0:
            self.destinations.table.state[row] = PENDING
            self.destinations.table.expires[row] = np.inf
            return True
        if self.destinations.full:
            self._forget(self.destinations.oldest())
        self.destinations.add(name, PENDING, now)
        return True

    def _ask(self, name: bytes, host: str, port: int, now: float) -> bool:
        if name in self._questions:
            return True
        number = self._questions.begin(name, now)
        if number:
            self._keeper.report(ResolveUdp(self.handle, number, host, port))
        return number != 0

    def _forget(self, row: int) -> None:
        """Make room: the destination is asked for again when somebody sends there."""
        self._questions.forget(self.destinations.name(row))
        self._leave_host(row)
        self.destinations.remove(row)

    # --- answers about destinations

    def answer(self, message: UdpTarget, now: float) -> None:
        """Learn where a destination is, or that it is refused, and send what waits for it."""
        question = self._questions.settle(message.number)
        row = self.destinations.find(question.name) if question is not None else -1
        if question is None or row < 0:
            return
        table = self.destinations.table
        self._leave_host(row)
        if not self._aim(row, message.host, message.port):
            table.state[row] = REFUSED
            table.expires[row] = now + REFUSED_FOR
            self._io.drops[NOT_ALLOWED] += len(question.waiting)
            return
        table.state[row] = ALLOWED
        table.expires[row] = now + ALLOWED_FOR
        address = for_socket(self._socket.family, message.host, message.port)
        for payload in question.items:
            self._io.send_one(self._socket, payload, address)

    def _aim(self, row: int, host: str, port: int) -> bool:
        """Enter the address of a destination; False when there is none that this socket can send to."""
        if not host or (":" in host and self._socket.family != socket.AF_INET6):
            return False
        try:
            packed, name = pack(host, port), encode_address(host, port)[:-2]
        except (DriverError, ValueError):
            return False
        self.destinations.table.address[row] = np.frombuffer(packed, np.uint8)
        other = self._hosts.find(name)
        if other < 0:
            other = self._hosts.add(name, ALLOWED, 0.0)
        self._hosts.table.number[other] += 1
        self.destinations.table.number[row] = other + 1
        return True

    def _leave_host(self, row: int) -> None:
        """Let a host answer no more when no destination of it is left."""
        host = int(self.destinations.table.number[row]) - 1
        self.destinations.table.number[row] = 0
        if host >= 0:
            self._hosts.table.number[host] -= 1
            if self._hosts.table.number[host] == 0:
                self._hosts.remove(host)


class ConnectedPort(SocketPort):
    """A socket that is connected to its one target: the client's end of a reverse forward."""

    def __init__(self, sock: socket.socket, keeper: UdpKeeper, message: AttachUdp, now: float) -> None:
        super().__init__(sock, keeper, message.idle, now)
        self.handle = message.handle
        self._peer = np.frombuffer(encode_address(*message.peer), np.uint8).copy()

    def _sort(self, count: int, index: int) -> tuple[NDArray[np.uint8], int]:
        io = self._io
        return io.bodies.memory, int(prefix_answers(io.batch, count, self._peer, io.bodies, index))

    def _send(self, count: int, now: float) -> int:
        io = self._io
        return io.send(self._descriptor, io.out, 0, int(strip_addresses(io.out, count, 0, io.drops)))
