"""What a data plane does with RESTART and RESTARTED (docs/protocol.md, "Restart").

Both cost more than other frames: each is looked at by Python, and a restart ends every flow. So a session has an
allowance of either. Restarts beyond it wait for their repetition; frames beyond it end the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.dataplane.events import Event, SessionRestarted, SessionViolated
from vantun.dataplane.flows import FlowBook
from vantun.dataplane.sessions import RESTARTS_TOO_OFTEN, VIOLATIONS, SessionBook
from vantun.session.inbox import BAD_FLOW
from vantun.wire.frames import RESTART

SHORTEST = 0.02
"""Seconds between two restarts that a peer may cause; one that comes sooner waits for its repetition."""
RESTARTS, RESTARTS_PER_SECOND = 16.0, 0.5
"""Restarts that a peer may cause at once, and how many more each second: a worker takes longer to come back."""
FRAMES, FRAMES_PER_SECOND = 4096.0, 256.0
"""Frames: an end that is not heard repeats RESTART on eight paths, each within milliseconds if they are short."""


@dataclass
class _Account:
    """What a session may still cost."""

    session: int
    at: float
    restarts: float = RESTARTS
    frames: float = FRAMES
    last: float = -math.inf
    """When it restarted."""

    def fill(self, now: float) -> None:
        passed, self.at = max(0.0, now - self.at), now
        self.restarts = min(RESTARTS, self.restarts + passed * RESTARTS_PER_SECOND)
        self.frames = min(FRAMES, self.frames + passed * FRAMES_PER_SECOND)


class Restarts:
    """Follows the epochs of sessions."""

    def __init__(self, context: Context, sessions: SessionBook, flows: FlowBook) -> None:
        self._t = context.tables
        self._sessions = sessions
        self._flows = flows
        self._accounts: dict[int, _Account] = {}
        """By row of the session."""

    def on_event(self, event: NDArray[np.int64], now: float) -> Event | None:
        """Act on a RESTART or RESTARTED that has come; return what the owner should know."""
        row, lane, epoch, flow, kind = (int(value) for value in event[1:])
        session = self._t.session[row]
        if not session["used"] or session["violation"]:
            return None
        account = self._account(row, int(session["id"]), now)
        account.frames -= 1.0
        if account.frames < 0.0:
            return self._violate(row, RESTARTS_TOO_OFTEN)
        own = int(session["epoch"])
        told: Event | None = None
        if epoch == own and session["restart"]:
            self._sessions.settle(row, flow)
            told = SessionRestarted(int(session["id"]), own, here=True)
        elif kind == RESTART and epoch > own:
            if now - account.last < SHORTEST or account.restarts < 1.0:
                return None
            if flow <= int(session["peer_flow"]):  # an id is never used twice, in no epoch
                return self._violate(row, BAD_FLOW)
            account.last = now
            account.restarts -= 1.0
            kept = self._flows.end_epoch(row)
            self._sessions.restart(row, epoch, flow)
            for packets in kept:
                self._flows.reopen(packets, now)
            told = SessionRestarted(int(session["id"]), epoch, here=False)
        if kind == RESTART and epoch == int(session["epoch"]):
            self._t.lane[lane]["restarted_due"] = self._t.lane[lane]["used"]
        return told

    def _account(self, row: int, session: int, now: float) -> _Account:
        account = self._accounts.get(row)
        if account is None or account.session != session:
            account = self._accounts[row] = _Account(session, now)
        account.fill(now)
        return account

    def _violate(self, row: int, what: int) -> SessionViolated:
        session = self._t.session[row]
        session["violation"] = what
        return SessionViolated(int(session["id"]), VIOLATIONS[what])
