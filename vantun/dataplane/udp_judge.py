"""Which datagrams of local programs go into the tunnel, past it, or nowhere: the client's access list in the worker.

The control process knows the rules; it is asked once per target (AskUdp), and a kernel applies what it said to every
datagram that follows, for all programs, until the rules change (JudgeUdp). Without rules for UDP nothing is asked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.errors import DriverError
from drivers.linux.address import pack
from drivers.linux.udp_errno import name_of
from drivers.linux.udp_receive import CAPACITY
from vantun.dataplane.poller import IN, Poller
from vantun.dataplane.udp_bodies import ASKED_FULL, MALFORMED, NOT_ALLOWED, UNSENT
from vantun.dataplane.udp_direct import DirectSocket, Program, open_direct
from vantun.dataplane.udp_divert import TUNNELLED, UNKNOWN, Aside, divert_bodies
from vantun.dataplane.udp_io import UdpIo
from vantun.dataplane.udp_own_ports import OwnPorts
from vantun.dataplane.udp_questions import Questions
from vantun.dataplane.udp_table import ALLOWED, PENDING, REFUSED, UdpTable
from vantun.udp_address import decode_address
from vantun.udp_messages import AskUdp, JudgeUdp, UdpAction, UdpReport, UdpVerdict
from vantun.wire.addresses import MAX_ADDRESS

TARGETS = 8192
"""Targets whose verdict is remembered; the one not used for longest is asked for again."""
DIRECT_FOR = 60.0
"""Seconds after which a direct target is looked up again; the old address stays in use meanwhile."""
REJECTED_FOR = 30.0
"""Seconds that a rejection is remembered: a name may have got another address."""
ASKED = 512
WAITING_BYTES = 1 << 20
"""Questions, and bytes that wait for their answers, of all programs."""
SOCKETS = 1024
"""Programs that may send past the tunnel at once; each has a socket of its own."""


class Keeper(Protocol):
    """Where reports go, and what time it is."""

    report: Callable[[UdpReport], None]
    io: UdpIo


class UdpJudge:
    """Verdicts about targets, and the sockets of direct datagrams.

    Attributes
    ----------
    judged
        Whether there are rules for UDP.
    ports
        Where the ports of direct sockets are noted, for the other workers, too.
    """

    def __init__(self, keeper: Keeper, poller: Poller, clock: Callable[[], float]) -> None:
        self.judged = False
        self.ports = OwnPorts()
        self._keeper = keeper
        self._io = keeper.io
        self._poller = poller
        self._clock = clock
        self._mark = 0
        self._begun = False
        self._targets = UdpTable(TARGETS, MAX_ADDRESS)
        self._questions: Questions[tuple[Program, bytes]] = Questions(self._io.drops, ASKED, WAITING_BYTES)
        self._sockets: dict[int, DirectSocket] = {}
        """By local port."""
        self._counts: NDArray[np.int64] = np.zeros(4, np.int64)
        self._unmarked: NDArray[np.uint8] = np.zeros(CAPACITY, np.uint8)
        self._aside = Aside(
            start=np.zeros(CAPACITY, np.int64),
            length=np.zeros(CAPACITY, np.int32),
            row=np.zeros(CAPACITY, np.int32),
            flow=np.zeros(CAPACITY, np.int64),
        )

    # --- the access list

    def renew(self, message: JudgeUdp) -> None:
        """Forget every verdict: the rules have changed. What is asked for already will be judged by the new ones."""
        self.judged, self._mark = message.judged, message.mark
        self._begun = self._begun or message.judged
        for row in self._targets.rows():
            if self._targets.table.state[row] != PENDING:
                self._targets.remove(row)

    def learn(self, message: UdpVerdict, now: float) -> None:
        """Take a verdict, and do with what waits for it as it says."""
        question = self._questions.settle(message.number)
        if question is None:
            return
        table = self._targets.table
        row = self._targets.find(question.name)
        if row < 0:
            return
        action = message.action
        if action == UdpAction.DIRECT:
            try:
                table.address[row] = np.frombuffer(pack(message.host, message.port), np.uint8)
            except DriverError:
                action = UdpAction.REJECT
        if action == UdpAction.TUNNEL:
            table.state[row], table.expires[row] = TUNNELLED, np.inf
        elif action == UdpAction.DIRECT:
            table.state[row], table.expires[row] = ALLOWED, now + DIRECT_FOR
        else:
            table.state[row], table.expires[row] = REFUSED, now + REJECTED_FOR
        address = table.address[row].copy()
        for program, body in question.items:
            if action == UdpAction.TUNNEL:
                self._carry(program, body, now)
            elif action == UdpAction.DIRECT:
                self._send_one(program, body[len(question.name) :], address, now)
            else:
                self._io.drops[NOT_ALLOWED] += 1

    # --- datagrams

    def put(self, memory: NDArray[np.uint8], count: int, whose: Callable[[int], Program | None], now: float) -> int:
        """Do with ``count`` of ``UdpIo.bodies``, which lie in ``memory``, what the rules say; return the number used.

        ``whose`` finds the program of a flow index, or of what stands in place of one that is not open (below 0).
        """
        if not self._begun:
            return self._io.put(memory, count, now)
        if not count:
            return 0
        bodies, drops = self._io.bodies, self._io.drops
        table, aside = self._targets.table, self._aside
        kept, others = divert_bodies(table, memory, bodies, (count, self.judged), aside, drops, now)
        used = self._io.put(memory, int(kept), now) + int(others)
        if others:
            self._set_aside(memory, int(others), whose, now)
        return used

    def _set_aside(
        self, memory: NDArray[np.uint8], count: int, whose: Callable[[int], Program | None], now: float
    ) -> None:
        aside = self._aside
        rows, flows = aside.row[:count].tolist(), aside.flow[:count].tolist()
        first = 0
        while first < count:
            end = first + 1
            program = whose(flows[first])
            if program is not None and rows[first] >= 0:
                while end < count and rows[end] >= 0 and flows[end] == flows[first]:
                    end += 1
                self._send(program, memory, (first, end), now)
            elif program is not None:
                start = int(aside.start[first])
                size = int(aside.length[first])
                if rows[first] == UNKNOWN:
                    self._look(program, memory[start : start + size].tobytes(), now)
                else:
                    self._put_one(program, memory, (start, size), now)
            first = end

    def _put_one(self, program: Program, memory: NDArray[np.uint8], span: tuple[int, int], now: float) -> None:
        """Put a body, which is ``span[1]`` bytes at ``memory[span[0]]``, into the flow of its program."""
        flow = program.flow_index(now)
        if flow >= 0:
            bodies = self._io.bodies
            bodies.start[0], bodies.length[0], bodies.flow[0] = *span, flow
            self._io.put(memory, 1, now)

    def _carry(self, program: Program, body: bytes, now: float) -> None:
        """Put a body that had to wait into the tunnel."""
        memory = self._io.bodies.memory
        memory[: len(body)] = np.frombuffer(body, np.uint8)
        self._put_one(program, memory, (0, len(body)), now)

    def _look(self, program: Program, body: bytes, now: float) -> None:
        """Take a datagram whose target is new, asked for, or to be asked again."""
        host, port, size = decode_address(body)
        name = body[:size]
        table = self._targets.table
        row = self._targets.find(name)
        if row >= 0 and table.state[row] == ALLOWED:  # until the answer comes, the old one holds
            table.expires[row] = np.inf if self._ask(name, host, port, now) else now + REJECTED_FOR
            self._send_one(program, body[size:], table.address[row].copy(), now)
            return
        if not port or not host.isascii() or not host.isprintable():
            self._io.drops[MALFORMED] += 1
            return
        if name not in self._questions:
            if not self._ask(name, host, port, now):
                self._io.drops[ASKED_FULL] += 1
                return
            self._note(name, row, now)
        self._questions.wait(name, (program, body), len(body))

    def _ask(self, name: bytes, host: str, port: int, now: float) -> bool:
        if name in self._questions:
            return True
        number = self._questions.begin(name, now)
        if number:
            self._keeper.report(AskUdp(number, host, port))
        return number != 0

    def _note(self, name: bytes, row: int, now: float) -> None:
        """Note that a target is asked for."""
        if row < 0:
            if self._targets.full:
                oldest = self._targets.oldest()
                self._questions.forget(self._targets.name(oldest))
                self._targets.remove(oldest)
            row = self._targets.add(name, PENDING, now)
        self._targets.table.state[row] = PENDING
        self._targets.table.expires[row] = np.inf

    # --- past the tunnel

    def _send(self, program: Program, memory: NDArray[np.uint8], span: tuple[int, int], now: float) -> None:
        sock = self._socket_of(program, span[1] - span[0])
        if sock is not None:
            aside = self._aside
            batch = PacketBatch(
                memory, aside.start, aside.length, aside.row, self._targets.table.address, self._unmarked
            )
            sock.send(batch, span[0], span[1] - span[0], now)

    def _send_one(self, program: Program, payload: bytes, address: NDArray[np.uint8], now: float) -> None:
        sock = self._socket_of(program, 1)
        if sock is not None:
            sock.send_one(payload, address, now)

    def _socket_of(self, program: Program, packets: int) -> DirectSocket | None:
        """Return the socket of a program; None = there is none for it, and its ``packets`` were counted."""
        if program.direct is not None:
            return program.direct
        reason = "direct: too many programs"
        if len(self._sockets) < SOCKETS:
            try:
                sock = open_direct(self._mark)
            except OSError as error:
                reason = f"direct: {name_of(error.errno or 0)}"
            else:
                return self._begin(program, sock)
        self._io.drops[UNSENT] += packets
        self._io.counters.drop(reason, packets)
        return None

    def _begin(self, program: Program, sock: socket.socket) -> DirectSocket:
        made = DirectSocket(sock, self._io, program, self._counts, lambda: self.leave(program))
        program.direct = self._sockets[made.port] = made
        self.ports.note(made.port)
        self._poller.add(made.fileno(), IN, lambda _events: made.read(self._clock()))
        return made

    def leave(self, program: Program) -> None:
        """Close the socket of a program, if it has one."""
        made, program.direct = program.direct, None
        if made is not None:
            self._poller.remove(made.fileno())
            del self._sockets[made.port]
            self.ports.forget(made.port)
            made.close()

    def snapshot(self) -> dict[str, object]:
        """Return the counters, ready for JSON."""
        names = ("packets_out", "bytes_out", "packets_in", "bytes_in")
        return {
            "judged": self.judged,
            "targets": len(self._targets),
            "sockets": len(self._sockets),
            **dict(zip(names, self._counts.tolist(), strict=True)),
        }
