"""Which of several servers a client uses: the lowest order that answers, and within it by weight. Sans-IO.

One server has the session, so all paths use the same one. It is given up when every path has failed on it since it was
chosen, or when it refuses for good; then the next one has its turn, and it rests for a while that doubles.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from vantun.config_servers import ServerEntry
from vantun.errors import VantunError

log = logging.getLogger(__name__)

FIRST_REST, LONGEST_REST = 5.0, 300.0
"""Seconds that a server which did not answer is left alone, unless all others rest, too."""


class _Record:
    def __init__(self, entry: ServerEntry) -> None:
        self.entry = entry
        self.rest = FIRST_REST
        self.rests_until = 0.0
        self.refused: VantunError | None = None


class ServerChoice:
    """The servers of a client.

    Parameters
    ----------
    entries
        At least one.
    draw
        Returns a number from 0 to below 1.
    """

    def __init__(self, entries: Sequence[ServerEntry], draw: Callable[[], float] = random.random) -> None:
        self._records = [_Record(entry) for entry in entries]
        self._draw = draw
        self._current: _Record | None = None
        self._failed: set[str] = set()

    def __len__(self) -> int:
        return len(self._records)

    def current(self, now: float) -> ServerEntry:
        """Return the server to be used at present, chosen anew if the last one was given up."""
        if self._current is None:
            self._current = self._choose(now)
            self._failed.clear()
        return self._current.entry

    def _choose(self, now: float) -> _Record:
        able = [record for record in self._records if record.refused is None] or self._records
        awake = [record for record in able if record.rests_until <= now]
        if not awake:
            return min(able, key=lambda record: record.rests_until)
        lowest = min(record.entry.order for record in awake)
        equal = [record for record in awake if record.entry.order == lowest]
        mark = self._draw() * sum(record.entry.weight for record in equal)
        for record in equal:
            mark -= record.entry.weight
            if mark < 0:
                return record
        return equal[-1]

    def worked(self, entry: ServerEntry) -> None:
        """Note that a path to ``entry`` is up."""
        for record in self._records:
            if record.entry is entry:
                record.rest, record.rests_until, record.refused = FIRST_REST, 0.0, None
        self._failed.clear()

    def failed(self, entry: ServerEntry, path: str, paths: int, now: float) -> bool:
        """Note that one of ``paths`` paths did not get through to ``entry``; return whether it is given up by that."""
        record = self._current
        if record is None or record.entry is not entry:
            return False
        self._failed.add(path)
        if len(self._failed) < paths:
            return False
        self._give_up(record, now)
        return True

    def refused(self, entry: ServerEntry, error: VantunError, now: float) -> bool:
        """Note that ``entry`` refuses us for good; return whether it is given up by that."""
        for record in self._records:
            if record.entry is entry:
                record.refused = error
                if record is self._current:
                    self._give_up(record, now)
                    return True
        return False

    @property
    def hopeless(self) -> bool:
        """Whether every server has refused us for good."""
        return all(record.refused is not None for record in self._records)

    def another(self, entry: ServerEntry, now: float) -> bool:
        """Return whether another server than ``entry`` has its turn, and may be tried at once."""
        if self._current is not None:
            return self._current.entry is not entry
        return any(
            record.refused is None and record.rests_until <= now and record.entry is not entry
            for record in self._records
        )

    def _give_up(self, record: _Record, now: float) -> None:
        record.rests_until = now + record.rest
        record.rest = min(2 * record.rest, LONGEST_REST)
        self._current = None
        if len(self._records) > 1:
            log.warning("server %s is given up for now; another one has its turn", record.entry.server)
