"""Which descriptors a worker waits for, and whom their readiness wakes."""

from __future__ import annotations

import os
import resource
import select
import time
from collections.abc import Callable

from drivers.linux.wait import Sleeper
from vantun.dataplane.wake import TAKEN

IN, OUT, ERR, HUP, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP
EDGE = select.EPOLLET
_MAX_EVENTS = 256
_NOTICED = 30e-6
"""Seconds that giving the core away may take until it is worth asking why; with nobody there it takes half a one."""

Handler = Callable[[int], None]
"""Called with the epoll events of the descriptor."""


class Poller:
    """An epoll set with a handler per descriptor.

    Attributes
    ----------
    away
        Seconds that others had the core while the last :meth:`wait` watched (0.0 = nobody wanted it).
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._sleeper = Sleeper(self._epoll.fileno())
        self.away = 0.0

    def add(self, descriptor: int, events: int, handler: Handler) -> None:
        """Wait for ``events`` of a descriptor from now on; what is ready already counts."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a descriptor; one that is not watched stays so."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed: a duplicate elsewhere would keep it in the epoll set."""
        if self._handlers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def wait(self, seconds: float, spin: float = 0.0) -> int:
        """Sleep at most ``seconds`` until something is ready, and call its handlers; return how many.

        For the first ``spin`` of these seconds the descriptors are watched instead, unless others want the core.
        """
        self.away = 0.0
        ready = []
        if spin > 0.0:
            begun = time.perf_counter()
            ready = self._watch(min(spin, seconds))
            seconds -= time.perf_counter() - begun
        if not ready:
            if seconds > 0.0 and not self._sleeper.sleep(seconds):
                return 0
            ready = self._epoll.poll(0, _MAX_EVENTS)
        return self.serve(ready)

    def serve(self, ready: list[tuple[int, int]]) -> int:
        """Call the handlers of what is ready, (descriptor, events); return how many there are."""
        for descriptor, events in ready:
            handler = self._handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this round may have removed it
                handler(events)
        return len(ready)

    def fileno(self) -> int:
        """Return the descriptor of the epoll set."""
        return self._epoll.fileno()

    def _watch(self, seconds: float) -> list[tuple[int, int]]:
        """Ask again and again for so long; return what became ready.

        In between the core is given away. Who keeps it needs it: the watch is over, since sleeping is the only way to
        have it back at once when something arrives.
        """
        poll, clock = self._epoll.poll, time.perf_counter
        before = clock()
        end = before + seconds
        times = _taken_by_others()
        while True:
            ready = poll(0, _MAX_EVENTS)
            if ready or before >= end or self.away:
                return ready
            os.sched_yield()
            after = clock()
            if after - before > _NOTICED:
                before_that, times = times, _taken_by_others()
                if after - before >= TAKEN and times != before_that:
                    self.away = after - before
            before = after

    def close(self) -> None:
        """Close the epoll set; the descriptors in it stay open."""
        self._handlers.clear()
        self._epoll.close()


def _taken_by_others() -> int:
    """Return how often others have had the core although this thread could run; a hypervisor is nobody here."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
