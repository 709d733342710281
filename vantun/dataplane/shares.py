"""Memory of one user's sessions together: when rows run short, whoever holds more than half of them loses a session.

A session may hold as many rows as are free, so one always leaves something. A user with many sessions could leave next
to nothing: sixteen of them a seventeenth.
"""

from __future__ import annotations

import numpy as np

from vantun.dataplane.context import Context
from vantun.dataplane.events import SessionViolated
from vantun.dataplane.sessions import TOO_MUCH_MEMORY, VIOLATIONS
from vantun.dataplane.users import UserBook
from vantun.session.limits import SHORT

LOOK_EVERY = 1e-3
"""Seconds from one look to the next: at a few packets a turn it was a tenth of all that a turn costs."""
EVERY = 1.0
"""Seconds from one session that is ended to the next: what it held has to become free first."""


class Shares:
    """Looks at who holds the rows, when there are few."""

    def __init__(self, context: Context, users: UserBook) -> None:
        self._t = context.tables
        self._users = users
        self._at = -np.inf
        self._look_at = -np.inf

    def look(self, now: float) -> SessionViolated | None:
        """Return the session that has to be ended: the largest of the user with more than half of all rows, if any.

        A user with one session is held by that one's own bound, and those who share a password are not one user.
        """
        if now < self._look_at:
            return None
        self._look_at = now + LOOK_EVERY
        pool = self._t.pool[0]
        if pool["rows_free"] * SHORT >= pool["rows"] or now < self._at + EVERY:
            return None
        sessions = self._t.session
        counted = (sessions["used"] == 1) & (sessions["violation"] == 0)
        rows = np.flatnonzero(counted & self._users.named(sessions["user"]))
        if len(rows) < 2:
            return None
        held, users = sessions["rows"][rows], sessions["user"][rows]
        sums, counts = np.bincount(users, held), np.bincount(users)
        worst = int(sums.argmax())
        if sums[worst] * 2 <= pool["rows"] or counts[worst] < 2:
            return None
        mine = rows[users == worst]
        row = int(mine[int(sessions["rows"][mine].argmax())])
        self._at = now
        sessions[row]["violation"] = TOO_MUCH_MEMORY
        return SessionViolated(int(sessions[row]["id"]), VIOLATIONS[TOO_MUCH_MEMORY])
