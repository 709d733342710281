"""Which slices a session has, where they live, and under which numbers workers know them (docs/architecture.md)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from vantun.control.path_places import PathPlaces

FIRST_NUMBER = 1 << 62
"""Numbers of slices 1 and up; ids of sessions, which slice 0 goes by, are below."""


class Slice(NamedTuple):
    """A slice of a session: which part of it, the worker that has it, and the session number that it has there."""

    part: int
    worker: int
    number: int


class Slices:
    """All slices of all sessions of an appliance. To a worker, each is a session of its own.

    Attributes
    ----------
    shares
        Where the slices of a session agree on shares of a path's rate.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(FIRST_NUMBER)
        self._of: dict[int, dict[int, Slice]] = {}
        self._known: dict[int, tuple[int, int]] = {}
        self._more = 0
        self.shares = PathPlaces()

    def __contains__(self, session: int) -> bool:
        """Tell whether anything is known of a session."""
        return session in self._of

    def add(self, session: int, index: int, worker: int) -> Slice:
        """Return a slice, which is made if it is new; one that is known stays where it is."""
        slices = self._of.setdefault(session, {})
        if index not in slices:
            number = session if index == 0 else next(self._numbers)
            slices[index] = Slice(index, worker, number)
            self._known[number] = session, index
            self._more += bool(index)
        return slices[index]

    @property
    def divided(self) -> bool:
        """Whether a session has more than one slice."""
        return self._more > 0

    def of(self, session: int) -> tuple[Slice, ...]:
        """Return the slices of a session."""
        return tuple(self._of.get(session, {}).values())

    def leave(self, session: int, path: int) -> tuple[Slice, ...]:
        """Return the slices of a session, which leave a path."""
        self.shares.give_back(session, path)
        return self.of(session)

    def on(self, worker: int) -> Iterator[tuple[int, Slice]]:
        """Yield (session, slice) of everything that a worker has."""
        for session, slices in self._of.items():
            for each in slices.values():
                if each.worker == worker:
                    yield session, each

    def session_of(self, number: int) -> int:
        """Return the session that a worker's number belongs to; an unknown number is taken for a session."""
        return self._known.get(number, (number, 0))[0]

    def index_of(self, number: int) -> int:
        """Return the index of the slice that a worker knows by ``number``."""
        return self._known.get(number, (number, 0))[1]

    def forget(self, session: int) -> tuple[Slice, ...]:
        """Forget a session; return the slices that it had."""
        self.shares.give_back(session)
        slices = tuple(self._of.pop(session, {}).values())
        for each in slices:
            del self._known[each.number]
            self._more -= bool(each.part)
        return slices
