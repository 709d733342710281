"""The queues of a TUN device, one for each worker, and which packets the kernel puts into which of them.

Where this process may, a program of ours chooses (:mod:`drivers.linux.tun_steering`): by the flow's bucket, among the
workers that have a flow of packets of the session that the destination belongs to; and buckets move
(:mod:`vantun.control.crew_buckets`). Elsewhere the kernel's own table chooses among the queues that it is given: those
of workers that have a flow of some session, the first in any case. What comes to a worker without a flow of its session
is handed over in both cases (:mod:`vantun.dataplane.tun_away`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from drivers.errors import DriverError
from drivers.linux.tun import use_queue
from drivers.linux.tun_steering import ROWS, IPNetwork, TunSteering
from vantun.control.bucket_row import Buckets

log = logging.getLogger(__name__)

SETTLE = 0.2
"""Seconds from a change to its effect: the flows of a session come one after the other."""


class Steering(Protocol):
    """What TunSteering is here."""

    def set_row(self, number: int, row: Sequence[int]) -> None:
        """See TunSteering."""

    def set_routes(self, rows: dict[IPNetwork, int]) -> None:
        """See TunSteering."""

    def close(self) -> None:
        """See TunSteering."""


Steer = Callable[[int, Sequence[int]], Steering]
Networks = Callable[[int], Iterable[str]]
"""Returns the addresses and prefixes of a session."""


class CrewTun:
    """Made when the device is handed out.

    Parameters
    ----------
    queues
        Descriptors, the first worker's first; this object does not close them.
    networks
        Knows what is routed to a session.
    use
        Gives the kernel a queue, or takes it away; raises DriverError.
    steer
        Has our program choose; raises DriverError.

    Attributes
    ----------
    buckets
        Where flows go.
    reason
        Why the kernel's table chooses and not our program; empty if the program does, or there is one queue.
    """

    def __init__(
        self,
        queues: Sequence[int] = (),
        networks: Networks = lambda _session: (),
        use: Callable[[int, bool], None] = use_queue,
        steer: Steer = TunSteering,
    ) -> None:
        self.queues = tuple(queues)
        self.buckets = Buckets(max(1, len(self.queues)))
        self.reason = ""
        self._networks = networks
        self._use = use
        self._used = {0}
        self._open: dict[int, set[int]] = {}
        self._waits: dict[int, int] = {}
        """Session -> the worker that had its only flow, and died."""
        self._dead: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._steering = self._take_over(steer) if len(self.queues) > 1 else None

    def _take_over(self, steer: Steer) -> Steering | None:
        """Have our program choose among all queues, if that may be."""
        try:
            steering = steer(self.queues[0], self.buckets.row({0}))
        except DriverError as error:
            self.reason = str(error)
            log.warning("tun: the kernel chooses the queues of packets, so no load is moved: %s", error)
            return None
        try:
            for worker, descriptor in enumerate(self.queues[1:], 1):  # in this order the kernel numbers them
                self._use(descriptor, True)  # noqa: FBT003 - a Callable has no names
                self._used.add(worker)
        except DriverError as error:
            self.reason = str(error)
            log.warning("tun: only %d queues are used: %s", len(self._used), error)
        return steering

    @property
    def steered(self) -> bool:
        """Whether our program chooses."""
        return self._steering is not None

    @property
    def usable(self) -> frozenset[int]:
        """Workers that can carry the packets of every session that has its flows everywhere."""
        return self._common() - self._dead

    def has(self, worker: int) -> bool:
        """Tell whether a worker has a queue."""
        return worker < len(self.queues)

    def opened(self, session: int) -> frozenset[int]:
        """Return the workers on which a session has a flow of packets."""
        return frozenset(self._open.get(session, ()))

    def flow(self, session: int, worker: int, *, is_open: bool) -> None:
        """Learn whether a session has a flow of packets on a worker."""
        known = self._open.setdefault(session, set())
        known.add(worker) if is_open else known.discard(worker)
        if is_open:
            self._dead.discard(worker)
        if known:
            self._waits.pop(session, None)
        else:
            del self._open[session]
        self._change()

    def lost(self, worker: int) -> None:
        """Learn that a worker is lost: what would wait in its queue goes by the others at once."""
        self._dead.add(worker)
        for session in list(self._open):
            self._open[session].discard(worker)
            if not self._open[session]:
                self._waits[session] = worker
                del self._open[session]
        self.settle()

    def returned(self, worker: int) -> None:
        """Learn that another worker has taken the place of the one that was lost."""
        self._dead.discard(worker)
        self._change()

    def forget(self, session: int) -> None:
        """Learn that a session has ended."""
        self._waits.pop(session, None)
        if self._open.pop(session, None) is not None:
            self._change()

    def changed(self) -> None:
        """Learn that something else is routed to a session."""
        if self._steering is not None:
            self._change()

    def _change(self) -> None:
        if len(self.queues) > 1 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self.settle)

    def settle(self) -> None:
        """Give the kernel the queues that it may use now, or the program its tables."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._steering is not None:
            try:
                self._write(self._steering)
            except DriverError as error:
                log.warning("tun: the table of queues is not changed: %s", error)
            return
        wanted = {0}.union(*self._open.values())
        for worker, descriptor in enumerate(self.queues):
            if (worker in wanted) == (worker in self._used):
                continue
            try:
                self._use(descriptor, worker in wanted)
            except DriverError as error:
                log.warning("tun: queue %d is not changed: %s", worker, error)
                continue
            self._used ^= {worker}

    # --- the program's tables

    def _masks(self) -> dict[int, frozenset[int]]:
        """Return by session the workers that can carry its packets; of one that waits for a worker, that alone."""
        waiting = {session: frozenset((worker,)) for session, worker in self._waits.items()}
        return waiting | {session: frozenset(on & self._used) for session, on in self._open.items() if on & self._used}

    def _common(self) -> frozenset[int]:
        """Return the workers among which row 0 chooses: those of all sessions, if these are the same."""
        masks = set(self._masks().values())
        return next(iter(masks)) if len(masks) == 1 else frozenset(self._used)

    def _write(self, steering: Steering) -> None:
        masks, common = self._masks(), self._common()
        alive = common - self._dead
        steering.set_row(0, self.buckets.row(alive or common))
        numbers: dict[frozenset[int], int] = {}
        for mask in masks.values():
            if mask != alive and mask not in numbers and len(numbers) < ROWS - 1:
                numbers[mask] = len(numbers) + 1
                steering.set_row(numbers[mask], self.buckets.row(mask))
        rows: dict[IPNetwork, int] = {}
        if numbers:
            for session, mask in masks.items():
                for text in self._networks(session):
                    rows.setdefault(ipaddress.ip_network(text), numbers.get(mask, 0))
        steering.set_routes(rows)

    def close(self) -> None:
        """Change nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._steering is not None:
            self._steering.close()
            self._steering = None
        self.queues = ()
