"""Engines that were wrong in one data worker: none of an appliance uses them until somebody clears them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from vantun.control.worker_process import disgraced
from vantun.worker_messages import Quarantine

log = logging.getLogger(__name__)

Tell = Callable[[Quarantine], None]


class EngineNotes:
    """What is known of such engines, and who is told.

    Attributes
    ----------
    clears
        How often everything was forgotten: what a worker said before tells nothing any more.
    """

    def __init__(self) -> None:
        self.clears = 0
        self._why: dict[tuple[str, str], str] = {}
        self._workers: list[Tell] = []

    def join(self, tell: Tell) -> None:
        """Have a worker told what the others find from now on."""
        self._workers.append(tell)

    def all(self) -> list[Quarantine]:
        """Return what a new worker must know."""
        return [Quarantine(operation, engine, why) for (operation, engine), why in self._why.items()]

    def look(self, snapshot: Mapping[str, object], clears: int, teller: Tell) -> None:
        """Take in what the worker of ``teller`` shows, which was asked for after so many ``clears``."""
        if clears != self.clears:
            return
        for (operation, engine), why in disgraced(snapshot).items():
            if (operation, engine) in self._why:
                continue
            self._why[operation, engine] = why
            others = [tell for tell in self._workers if tell is not teller]
            where = f" in all {len(self._workers)} workers" if others else ""
            log.warning("engine %s is kept out of %s%s until it is cleared: %s", engine, operation, where, why)
            for tell in others:
                tell(Quarantine(operation, engine, why))

    def clear(self) -> None:
        """Forget everything: the engines are tested anew."""
        self.clears += 1
        self._why.clear()
