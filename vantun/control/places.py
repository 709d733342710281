"""Which of a server's workers has which slice of a session (docs/architecture.md, "Slices")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

MAX_SLICES = 16
"""Of a session; each takes a place in the tables of a worker."""
MOST_PLACES = 800
"""Slices of a worker from which on a new session gets one only: places are for users before they are for speed."""


def _no_load() -> tuple[float, ...]:
    return ()


class Places:
    """Slice i of a session belongs to worker (base + i) mod N; base is the least loaded when the session begins.

    Parameters
    ----------
    workers
        N.
    load
        Returns how much every worker has to do, in any unit; empty = nobody knows.
    rotate
        Whether base is chosen; without, it is 0, so that every session has a slice on the first worker.
    """

    def __init__(
        self, workers: int = 1, load: Callable[[], Sequence[float]] = _no_load, *, rotate: bool = True
    ) -> None:
        self._workers = workers
        self._rotate = rotate
        self._load = load
        self._of: dict[int, tuple[int, ...]] = {}
        self._count = [0] * workers

    def take(self, session: int, offered: int) -> tuple[int, ...]:
        """Return the worker of each slice that is granted of ``offered``, at least one; a known session keeps its."""
        known = self._of.get(session)
        if known is None:
            known = self._of[session] = self._choose(min(offered, MAX_SLICES))
            for worker in known:
                self._count[worker] += 1
        return known[:offered]

    def _choose(self, slices: int) -> tuple[int, ...]:
        load = [*self._load(), *([0.0] * self._workers)][: self._workers]
        base = min(range(self._workers), key=lambda worker: (load[worker], self._count[worker])) if self._rotate else 0
        chosen = tuple((base + place) % self._workers for place in range(slices))
        most = max(self._count[worker] + chosen.count(worker) for worker in chosen)
        return chosen if most <= MOST_PLACES else chosen[:1]

    def forget(self, session: int) -> None:
        """Give the places of a session back; unknown ones are ignored."""
        for worker in self._of.pop(session, ()):
            self._count[worker] -= 1
