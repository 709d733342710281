"""What a data plane does with RESTART and RESTARTED (docs/protocol.md, "Restart")."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.context import Context
from vantun.dataplane.events import Event, SessionRestarted, SessionViolated
from vantun.dataplane.flows import FlowBook
from vantun.dataplane.sessions import VIOLATIONS, SessionBook
from vantun.session.inbox import BAD_FLOW
from vantun.wire.frames import RESTART

SHORTEST = 0.02
"""Seconds between two restarts that a peer may cause; one that comes sooner waits for its repetition."""


class Restarts:
    """Follows the epochs of sessions."""

    def __init__(self, context: Context, sessions: SessionBook, flows: FlowBook) -> None:
        self._t = context.tables
        self._sessions = sessions
        self._flows = flows
        self._last: dict[int, float] = {}

    def on_event(self, event: NDArray[np.int64], now: float) -> Event | None:
        """Act on a RESTART or RESTARTED that has come; return what the owner should know."""
        row, lane, epoch, flow, kind = (int(value) for value in event[1:])
        session = self._t.session[row]
        if not session["used"] or session["violation"]:
            return None
        own = int(session["epoch"])
        told: Event | None = None
        if epoch == own and session["restart"]:
            self._sessions.settle(row, flow)
            told = SessionRestarted(int(session["id"]), own, here=True)
        elif kind == RESTART and epoch > own:
            if now - self._last.get(row, -math.inf) < SHORTEST:
                return None
            if flow <= int(session["peer_flow"]):  # an id is never used twice, in no epoch
                session["violation"] = BAD_FLOW
                return SessionViolated(int(session["id"]), VIOLATIONS[BAD_FLOW])
            self._last[row] = now
            kept = self._flows.end_epoch(row)
            self._sessions.restart(row, epoch, flow)
            for packets in kept:
                self._flows.reopen(packets, now)
            told = SessionRestarted(int(session["id"]), epoch, here=False)
        if kind == RESTART and epoch == int(session["epoch"]):
            self._t.lane[lane]["restarted_due"] = self._t.lane[lane]["used"]
        return told
