"""Users of a worker: which row of the tables counts the bytes of each and limits its rates; never per packet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.session.users import set_rates

OTHERS = 0
"""Row of everybody for whom there is no other: counted together, without a limit."""


class UserBook:
    """Which user has which row.

    A row is the user's for good, so that its bytes are counted since the start; when all are taken, that of somebody
    without a session goes to whoever comes.
    """

    def __init__(self, context: Context) -> None:
        self._t = context.tables
        self._rows: dict[str, int] = {}
        self._sessions = [0] * len(self._t.user)
        self._free = list(range(len(self._t.user) - 1, OTHERS, -1))
        self._rates: dict[str, tuple[float, float]] = {}

    def begin(self, user: str) -> int:
        """Count one more session of ``user``; return the row."""
        row = self._rows.get(user)
        if row is None:
            row = self._enter(user)
        self._sessions[row] += 1
        return row

    def named(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tell which of these rows are those of one user each, not of all who share a password, or a row."""
        return ~np.isin(rows, [OTHERS, self._rows.get("", OTHERS)])

    def end(self, row: int) -> None:
        """Count one session less."""
        self._sessions[row] -= 1

    def _enter(self, user: str) -> int:
        if not self._free:
            idle = next((name for name, row in self._rows.items() if not self._sessions[row]), None)
            if idle is None:
                return OTHERS
            self._free.append(self._rows.pop(idle))
        row = self._rows[user] = self._free.pop()
        for name in self._t.user.dtype.names or ():
            self._t.user[row][name] = 0
        self._apply(user, row, 0.0)
        return row

    def _apply(self, user: str, row: int, now: float) -> None:
        sending, receiving = self._rates.get(user, (0.0, 0.0))
        set_rates(self._t.root, row, sending / 8.0, receiving / 8.0, now)

    def limit(self, rates: Mapping[str, tuple[float, float]], now: float) -> None:
        """Use (sending, receiving) rates in bit/s from now on, by user; 0, or a user who is not named = no limit."""
        before, self._rates = self._rates, dict(rates)
        for user, row in self._rows.items():
            if before.get(user) != self._rates.get(user):
                self._apply(user, row, now)

    def snapshot(self) -> list[dict[str, object]]:
        """Return the bytes of each user since the start: UDP payload, authenticated, both directions."""
        rows = []
        for user, row in [*self._rows.items(), ("(others)", OTHERS)]:
            record = self._t.user[row]
            if row == OTHERS and not record["received_bytes"]:
                continue
            rows.append(
                {
                    "user": user,
                    "sessions": self._sessions[row],
                    "received_bytes": int(record["received_bytes"]),
                    "sent_bytes": int(record["sent_bytes"]),
                    "receive_limit_bps": round(float(record["receive_rate"]) * 8),
                    "send_limit_bps": round(float(record["send_rate"]) * 8),
                    "dropped_rate": int(record["dropped_rate"]),
                }
            )
        return rows
