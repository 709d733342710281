"""The UDP sockets of a worker: datagrams in until nothing waits, sealed batches out until a socket is full."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.errors import DriverError
from drivers.linux.address import unpack
from drivers.linux.udp import UdpOptions, UdpSocket
from drivers.linux.udp_kernel import SendBuffers
from drivers.linux.udp_lent import NUMBER, ReceiveBuffers
from vantun.dataplane.fast_kernels import DRAINED, ROUNDS
from vantun.dataplane.handover import Handover
from vantun.dataplane.poller import IN, OUT, Poller
from vantun.dataplane.stages.depart import Outgoing
from vantun.worker_messages import MAX_DATAGRAM

_MISSES = 64
"""Strangers' datagrams passed on per batch; more than that is a flood, which QUIC need not see."""
_RETRY = 0.0005
_PATIENCE = 0.005
"""Seconds that a full socket may hold up the others; then its packets are dropped, as a full queue does."""
_REST = 1.0
"""Seconds that a socket which cannot receive is left alone."""

_NO_WAY = frozenset(("ENETUNREACH", "ENETDOWN", "ENODEV", "EADDRNOTAVAIL", "EHOSTUNREACH", "EINVAL"))
"""Why packets do not leave when the route, the interface or the address of a socket is gone (EINVAL: the address)."""
_TELL_EVERY = 1.0

Receive = Callable[[PacketBatch, int, int], NDArray[np.int32]]
"""(batch, count, socket number) -> indexes of the packets that belong to no lane."""
Refuse = Callable[[int, int], None]
"""(row of the addresses, size) of a packet that is longer than the interface takes."""
ReportMisses = Callable[[int, list[tuple[bytes, str, int]]], None]
ReportFailure = Callable[[int, str], None]
"""(socket number, name of the errno)"""


@dataclass
class _Unsent:
    """What remains of the sealed batch."""

    outgoing: Outgoing
    first: int
    give_up_at: float


class WorkerSockets:
    """UDP sockets by the number that lanes name.

    Attributes
    ----------
    retry_at
        When :meth:`resume` has to be called while packets are unsent (inf = none are).
    unsent
        Packets dropped here: their socket was full for too long, dead, or taken away.
    misses_dropped
        Datagrams of no lane that were not passed on.
    handover
        Gives other workers their datagrams, and takes those that they give.
    """

    def __init__(
        self,
        poller: Poller,
        receive: Receive,
        report: ReportMisses,
        clock: Callable[[], float],
        refuse: Refuse = lambda _row, _size: None,
        failed: ReportFailure = lambda _number, _reason: None,
    ) -> None:
        self._poller = poller
        self._receive = receive
        self._report = report
        self._clock = clock
        self._refuse = refuse
        self._failed = failed
        self._told: dict[int, tuple[float, int]] = {}
        self._sockets: dict[int, UdpSocket] = {}
        self._resting: dict[int, float] = {}
        self._errors: dict[int, str] = {}
        self._rest: _Unsent | None = None
        self.retry_at = math.inf
        self.unsent = 0
        self.misses_dropped = 0
        self.handover = Handover(poller, self._taken_over)

    def add(self, number: int, sock: socket.socket, options: UdpOptions | None = None) -> None:
        """Receive and send on ``sock``, which belongs to the worker from now on. Raises DriverError."""
        self.remove(number)
        udp = UdpSocket.adopt(sock, options=options)
        self._sockets[number] = udp
        self._poller.add(udp.fileno(), IN, partial(self._ready, number))

    def remove(self, number: int) -> None:
        """Close a socket; unknown numbers are ignored."""
        udp = self._sockets.pop(number, None)
        self._told.pop(number, None)
        self._resting.pop(number, None)
        if udp is not None:
            self._poller.remove(udp.fileno())
            udp.close()

    def close(self) -> None:
        """Close every socket."""
        for number in list(self._sockets):
            self.remove(number)
        self.handover.close()

    # --- in

    def _ready(self, number: int, events: int) -> None:
        if events & OUT:
            self._poller.change(self._sockets[number].fileno(), IN)
            self.retry_at = 0.0
        if not events & ~OUT:
            return
        udp = self._sockets[number]
        batch = udp.receive_batch()
        try:
            for _ in range(ROUNDS):
                count = udp.receive(batch)
                if not count:
                    break
                self.strangers(number, batch, self._receive(batch, count, number))
                if count < DRAINED:
                    break
        except DriverError as error:
            # Interface taken down, memory exhausted: level-triggered, it would come back at once and for ever.
            self._errors[number] = str(error)
            self._poller.remove(udp.fileno())
            self._resting[number] = self._clock() + _REST

    def strangers(self, number: int, batch: PacketBatch, misses: NDArray[np.int32]) -> None:
        """Pass datagrams of ``batch`` on that belong to no lane here: to another worker, or to the control process."""
        if len(misses):
            self._pass_on(number, batch, self.handover.pass_on(number, batch, misses))

    def _taken_over(self, batch: PacketBatch, count: int, number: int) -> None:
        """Take datagrams that another worker has received in this one's place."""
        misses = self._receive(batch, count, number)
        if len(misses):  # of a lane that has ended: they are not handed on, or two workers could play ball
            self._pass_on(number, batch, misses)

    def _pass_on(self, number: int, batch: PacketBatch, misses: NDArray[np.int32]) -> None:
        datagrams = []
        for index in misses[:_MISSES].tolist():
            start, size = int(batch.offset[index]), int(batch.length[index])
            if 0 < size <= MAX_DATAGRAM:
                host, port = unpack(batch.address[batch.peer[index]])
                datagrams.append((batch.memory[start : start + size].tobytes(), host, port))
        self.misses_dropped += len(misses) - len(datagrams)
        if datagrams:
            self._report(number, datagrams)

    @property
    def wake_at(self) -> float:
        """When :meth:`run` has to be called (inf = not at all)."""
        return min(self._resting.values()) if self._resting else math.inf

    def run(self, now: float) -> None:
        """Try sockets again that could not receive."""
        if not self._resting:
            return
        for number in [number for number, until in self._resting.items() if until <= now]:
            del self._resting[number]
            self._poller.add(self._sockets[number].fileno(), IN, partial(self._ready, number))

    # --- compiled code in between

    def lend(self, rows: NDArray[np.int64]) -> tuple[ReceiveBuffers, SendBuffers] | None:
        """Write a row of ``rows`` [shape=(n, WORDS), dtype=int64] for each socket; return the buffers for all of them.

        None = not now: packets wait, or a socket has to be asked itself.
        """
        sockets = self._sockets
        if self._rest is not None or self._resting or not 0 < len(sockets) <= len(rows):
            return None
        buffers = None
        for row, (number, udp) in zip(rows, sockets.items(), strict=False):
            if not udp.lend(row):
                return None
            row[NUMBER] = number
            buffers = buffers or udp.lent
        return buffers

    def take_back(self, rows: NDArray[np.int64]) -> None:
        """Count what compiled code has done by the rows."""
        for row, udp in zip(rows, self._sockets.values(), strict=False):
            udp.take_back(row)

    def __len__(self) -> int:
        return len(self._sockets)

    def retry(self, number: int) -> None:
        """Receive once more from a socket of which compiled code could not: what is wrong is found out here."""
        if number in self._sockets:
            self._ready(number, IN)

    # --- out

    @property
    def blocked(self) -> bool:
        """Whether packets of the last batch are unsent; the pipeline must not seal the next one."""
        return self._rest is not None

    def send(self, outgoing: Outgoing, now: float, first: int = 0) -> bool:
        """Send a sealed batch from packet ``first`` on; False = some of it waits for :meth:`resume`."""
        return self._send(_Unsent(outgoing, first, now + _PATIENCE))

    def resume(self, now: float) -> bool:
        """Go on with the batch that waits; False = it still does."""
        rest = self._rest
        if rest is None:
            return True
        if now >= rest.give_up_at:
            end = self._end_of_run(rest.outgoing, rest.first)
            self.unsent += end - rest.first
            rest = _Unsent(rest.outgoing, end, now + _PATIENCE)
        return self._send(rest)

    def _send(self, rest: _Unsent) -> bool:
        outgoing, first = rest.outgoing, rest.first
        while first < outgoing.packets:
            end = self._end_of_run(outgoing, first)
            udp = self._sockets.get(int(outgoing.socket[first]))
            if udp is None:
                self.unsent += end - first
                first = end
                continue
            full = udp.counters.would_block
            try:
                first += udp.send(outgoing.batch, first, end - first)
                for row, size in zip(udp.too_big, udp.too_big_sizes, strict=True):
                    self._refuse(row, size)
            except DriverError as error:
                self._errors[int(outgoing.socket[first])] = str(error)
                self._failed(int(outgoing.socket[first]), str(error))
                self.unsent += end - first
                first = end
                continue
            if udp.counters.dropped:
                self._look_at_drops(int(outgoing.socket[end - 1]), udp.counters.dropped)
            if first < end:
                self._wait_for(udp, _Unsent(outgoing, first, rest.give_up_at), full=udp.counters.would_block > full)
                return False
        self._rest = None
        self.retry_at = math.inf
        return True

    def _look_at_drops(self, number: int, dropped: dict[str, int]) -> None:
        """Tell, now and then, that packets of a socket have no way any more."""
        count = sum(dropped[name] for name in _NO_WAY if name in dropped)
        told_at, before = self._told.get(number, (-math.inf, 0))
        now = self._clock()
        tell = count > before and now - told_at >= _TELL_EVERY
        self._told[number] = now if tell else told_at, count
        if tell:
            self._failed(number, next(name for name in reversed(dropped) if name in _NO_WAY))

    def _wait_for(self, udp: UdpSocket, rest: _Unsent, *, full: bool) -> None:
        self._rest = rest
        self.retry_at = rest.give_up_at
        if full:
            self._poller.change(udp.fileno(), IN | OUT)
        else:  # a queue below the socket: epoll does not see it
            self.retry_at = self._clock() + _RETRY

    def _end_of_run(self, outgoing: Outgoing, first: int) -> int:
        """Return the packet after the run of packets from ``first`` on that leave by one socket."""
        column = outgoing.socket[first : outgoing.packets]
        if len(self._sockets) == 1 and len(column) == 1:
            return first + 1
        others = np.flatnonzero(column != column[0])
        return first + (int(others[0]) if len(others) else len(column))

    # --- counters

    def snapshot(self) -> list[dict[str, object]]:
        """Return the counters of every socket."""
        return [
            {
                "socket": number,
                "gso": udp.gso,
                "gro": udp.gro,
                "gso_refused_peers": udp.gso_refused_peers,
                "kernel_dropped": udp.kernel_dropped(),
                "last_error": self._errors.get(number, ""),
                **asdict(udp.counters),
            }
            for number, udp in self._sockets.items()
        ]

    def fallbacks(self) -> list[dict[str, object]]:
        """Return every slower way that a socket has taken, with its reason."""
        return [
            {"socket": number, "what": name, "reason": reason, "times": times}
            for number, udp in self._sockets.items()
            for name, reasons in udp.counters.fallbacks.items()
            for reason, times in reasons.items()
        ]
