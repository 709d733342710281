"""When what was asked is enough for a launch: sans-IO, whoever calls says what time it is.

A launch waits for others until its first submission is as old as the budget allows, until there is as much as a lane
of the device holds, or until everybody has asked of whom it can be expected. Who stayed away from many launches is not
waited for, so that a client which is alone waits for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from accel.service.ring import MOST_PARITIES, MOST_ROWS
from accel.service.trays import Heard

FORGOTTEN = 16
"""Launches without a client after which it is not waited for."""


@dataclass(eq=False)
class Guest:
    """A client, as far as gathering goes."""

    absences: int = 0


@dataclass(frozen=True, eq=False)
class Asked:
    """A submission, bounded.

    Attributes
    ----------
    slot, number
        Of the client's ring.
    heard
        How much it is.
    """

    guest: Guest
    slot: int
    number: int
    heard: Heard


class Gathering:
    """Submissions for one operation that wait for company.

    Parameters
    ----------
    budget
        Nanoseconds that a submission may wait.
    full
        Bytes of a lane.
    """

    def __init__(self, budget: int, full: int) -> None:
        self._budget = budget
        self._full = full
        self._waiting: deque[tuple[int, Asked]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, what: Asked, now: int) -> None:
        """Take in a submission."""
        self._waiting.append((now, what))
        self._size += what.heard.size

    def until(self) -> int:
        """Return when there is to be a launch at the latest; there must be something that waits."""
        return self._waiting[0][0] + self._budget

    def due(self, now: int, guests: Collection[Guest]) -> bool:
        """Return whether it is time for a launch."""
        if not self._waiting:
            return False
        if now >= self.until() or self._size >= self._full:
            return True
        here = {id(what.guest) for _, what in self._waiting}
        return all(id(guest) in here or guest.absences >= FORGOTTEN for guest in guests)

    def take(self, guests: Collection[Guest]) -> list[Asked]:
        """Return what goes now, in order: as much as a lane, and a tray, hold, and one at least."""
        taken: list[Asked] = []
        size, rows, parities = self._full, MOST_ROWS, MOST_PARITIES
        while self._waiting:
            heard = self._waiting[0][1].heard
            if taken and (heard.size > size or heard.rows > rows or heard.parities > parities):
                break
            taken.append(self._pop())
            size, rows, parities = size - heard.size, rows - heard.rows, parities - heard.parities
        present = {id(what.guest) for what in taken}
        for guest in guests:
            guest.absences = 0 if id(guest) in present else guest.absences + 1
        return taken

    def forget(self, guest: Guest) -> None:
        """Drop what a client has asked that is gone."""
        self._waiting = deque(each for each in self._waiting if each[1].guest is not guest)
        self._size = sum(what.heard.size for _, what in self._waiting)

    def _pop(self) -> Asked:
        what = self._waiting.popleft()[1]
        self._size -= what.heard.size
        return what
