"""Memory of one user's sessions together, with the counters of the tables set by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import SessionViolated
from vantun.dataplane.shares import EVERY
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.limits import Limits

ROWS = 4096
ALICE, BOB = "alice", "bob"
REASON = "memory is short, and its user's sessions hold more than half of it"


class Crowd:
    """A server with sessions 1, 2, ..., which belong to users and hold rows as given."""

    def __init__(self, *held: tuple[str, int]) -> None:
        network = Network(DataplaneConfig(limits=Limits(sessions=16, flows=64, rows=ROWS)))
        self.plane = network.server.plane
        t = self.plane.context.tables
        for number, (user, rows) in enumerate(held, 1):
            session = network.add_client(number, LinkProfile(rate=10e6, delay=0.01), user)
            row = self.plane.sessions.row(session)
            assert row is not None
            t.session[row]["rows"] = rows
        t.pool[0]["rows_free"] = ROWS - sum(rows for _, rows in held)

    def ended(self, now: float) -> list[int]:
        """Return the sessions that are to be ended now."""
        self.plane.transmit(now)
        found = [event for event in self.plane.take_events() if isinstance(event, SessionViolated)]
        assert all(event.reason == REASON for event in found)
        return [event.session - SESSION for event in found]


def test_the_largest_session_of_who_holds_most_is_ended_and_then_the_next() -> None:
    crowd = Crowd((ALICE, 1200), (BOB, 300), (ALICE, 1300), (ALICE, 1000))
    assert crowd.ended(10.0) == [3]
    assert crowd.ended(10.0 + EVERY / 2) == [], "what it held has not become free yet"
    assert crowd.ended(10.1 + EVERY) == [1], "it did not help"


@pytest.mark.parametrize(
    "held",
    [
        [(ALICE, 1000), (ALICE, 1000), (ALICE, 1000)],  # more than an eighth is free
        [(ALICE, 1900), (BOB, 1900)],  # nobody has more than half
        [(ALICE, 3900), (BOB, 10)],  # one session: it has a bound of its own
        [("", 1900), ("", 1900)],  # nobody knows whether they are one user
        [],
    ],
)
def test_everybody_else_may_go_on(held: list[tuple[str, int]]) -> None:
    assert Crowd(*held).ended(10.0) == []


def test_it_costs_nothing_while_there_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd((ALICE, 1000), (ALICE, 1000))
    monkeypatch.setattr(np, "bincount", None)
    assert crowd.ended(10.0) == []
