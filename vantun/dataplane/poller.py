"""Which descriptors a worker waits for, and whom their readiness wakes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from drivers.linux.wait import Sleeper

IN, OUT, ERR, HUP, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP, select.EPOLLRDHUP
EDGE = select.EPOLLET
_MAX_EVENTS = 256

Handler = Callable[[int], None]
"""Called with the epoll events of the descriptor."""


class Poller:
    """An epoll set with a handler per descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._sleeper = Sleeper(self._epoll.fileno())

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

        For the first ``spin`` of these seconds the descriptors are watched instead.
        """
        handlers = self._handlers
        ready = self._watch(min(spin, seconds)) if spin > 0.0 else []
        if not ready:
            if seconds > spin and not self._sleeper.sleep(seconds - spin):
                return 0
            ready = self._epoll.poll(0, _MAX_EVENTS)
        for descriptor, events in ready:
            handler = handlers.get(descriptor)
            if handler is not None:  # an earlier handler of this round may have removed it
                handler(events)
        return len(ready)

    def _watch(self, seconds: float) -> list[tuple[int, int]]:
        """Ask again and again for so long; return what became ready."""
        end = time.perf_counter() + seconds
        ready = self._epoll.poll(0, _MAX_EVENTS)
        while not ready and time.perf_counter() < end:
            ready = self._epoll.poll(0, _MAX_EVENTS)
        return ready

    def close(self) -> None:
        """Close the epoll set; the descriptors in it stay open."""
        self._handlers.clear()
        self._epoll.close()
