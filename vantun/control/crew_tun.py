"""The queues of a TUN device, one for each worker, and which of them the kernel may use.

A worker can carry a packet only if its slice of the session has a flow of packets. So the kernel is given a queue while
every session that has such flows has one on the queue's worker; the first queue it always has. Where a peer, or this
machine, has one queue, everything goes by that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from drivers.errors import DriverError
from drivers.linux.tun import use_queue

log = logging.getLogger(__name__)

SETTLE = 0.2
"""Seconds from a change to its effect: the flows of a session come one after the other."""


class CrewTun:
    """Made when the device is handed out.

    Parameters
    ----------
    queues
        Descriptors, the first worker's first; this object does not close them.
    use
        Gives the kernel a queue, or takes it away; raises DriverError.
    """

    def __init__(self, queues: Sequence[int] = (), use: Callable[[int, bool], None] = use_queue) -> None:
        self.queues = tuple(queues)
        self._use = use
        self._used = {0}
        self._open: dict[int, set[int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def has(self, worker: int) -> bool:
        """Tell whether a worker has a queue."""
        return worker < len(self.queues)

    def is_open(self, session: int, worker: int) -> bool:
        """Tell whether a session has a flow of packets on a worker."""
        return worker in self._open.get(session, ())

    def flow(self, session: int, worker: int, *, is_open: bool) -> None:
        """Learn whether a session has a flow of packets on a worker."""
        known = self._open.setdefault(session, set())
        known.add(worker) if is_open else known.discard(worker)
        if not known:
            del self._open[session]
        self._change()

    def lost(self, worker: int) -> None:
        """Learn that a worker is lost: what would wait in its queue goes by the others at once."""
        for session in list(self._open):
            self._open[session].discard(worker)
            if not self._open[session]:
                del self._open[session]
        self.settle()

    def forget(self, session: int) -> None:
        """Learn that a session has ended."""
        if self._open.pop(session, None) is not None:
            self._change()

    def _change(self) -> None:
        if len(self.queues) > 1 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self.settle)

    def settle(self) -> None:
        """Give the kernel the queues that it may use now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for worker, descriptor in enumerate(self.queues):
            wanted = worker == 0 or (bool(self._open) and all(worker in on for on in self._open.values()))
            if wanted == (worker in self._used):
                continue
            try:
                self._use(descriptor, wanted)
            except DriverError as error:
                log.warning("tun: queue %d is not changed: %s", worker, error)
                continue
            self._used ^= {worker}

    def close(self) -> None:
        """Change nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self.queues = ()
