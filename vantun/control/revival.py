"""How a dead worker is replaced: at once if deaths are rare, after a pause that grows if they are not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from vantun.errors import WorkerError

log = logging.getLogger(__name__)

SHORT_LIFE = 2.0
"""Seconds; a worker that lives no longer has died of something that the next one may die of, too."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
STARTS = 5
"""Starts that fail in a row until nothing helps any more."""


class Replaceable(Protocol):
    """What WorkerLink is here, and the seat of a worker among others."""

    async def replace(self) -> None:
        """Put another worker in the place of the one that was lost. Raises WorkerError."""


class Seats(Protocol):
    """What Crew is here."""

    async def replace(self, worker: int = 0) -> None:
        """Put another worker in the place of one that was lost. Raises WorkerError."""


class Seat:
    """The place of one worker among all of them."""

    def __init__(self, seats: Seats, worker: int) -> None:
        self._seats = seats
        self._worker = worker

    async def replace(self) -> None:
        """Put another worker in the place of the one that was lost. Raises WorkerError."""
        await self._seats.replace(self._worker)


class Deaths:
    """How long to wait before the next start. Times in seconds of ``clock``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = float("-inf")
        self._short = 0

    def began(self) -> None:
        """Note that a worker serves."""
        self._began = self._clock()

    def pause(self) -> float:
        """Return the seconds to wait after the death that has just been."""
        self._short = self._short + 1 if self._clock() - self._began < SHORT_LIFE else 0
        return pause_after(self._short)


def pause_after(times: int) -> float:
    """Return the pause after ``times`` failures in a row."""
    return min(FIRST_PAUSE * 2.0 ** (times - 1), LONGEST_PAUSE) if times else 0.0


async def revive(link: Replaceable, deaths: Deaths) -> None:
    """Put another worker in the place of the dead one. Raises WorkerError when STARTS starts in a row have failed."""
    pause = deaths.pause()
    for failed in range(1, STARTS + 1):
        if pause:
            log.warning("the next data worker is started in %.1f s", pause)
            await asyncio.sleep(pause)
        try:
            await link.replace()
        except WorkerError as error:
            if failed == STARTS:
                raise
            log.error("no data worker could be started (%d of %d times): %s", failed, STARTS, error)
            pause = pause_after(failed)
            continue
        deaths.began()
        return


def told_restart(to: logging.Logger, session: int, epoch: int, *, here: bool) -> None:
    """Log that a session goes on after the death of a worker; of a peer's only, if nothing else has told."""
    level = logging.DEBUG if here else logging.WARNING
    whose = "our" if here else "the peer's"
    to.log(
        level,
        "session %x goes on (epoch %d): %s data worker was replaced, connections were reset",
        session,
        epoch,
        whose,
    )
