"""The ring and the heap of sessions against a model: nobody is forgotten, nobody comes twice, all in time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivers.kernel import kernel
from vantun.session import wheel
from vantun.session.limits import Limits
from vantun.session.tables import head, make_tables


@kernel
def take(t: Any, now: float) -> int:
    """Wake what is due; return the session whose turn it is, -1 = none."""
    t = head(t)
    wheel.wake_due(t, now)
    if t.pool[0].actives == 0:
        return -1
    session = wheel.next_active(t)
    t.session[session].active = 0
    return session


@kernel
def set_due(t: Any, session: int, due: float) -> None:
    """See wheel.set_due."""
    wheel.set_due(head(t), session, due)


@kernel
def next_due(t: Any, now: float) -> float:
    """See wheel.next_due."""
    return wheel.next_due(head(t), now)


@cache
def tables() -> Any:
    """Return tables, made once: they are as large as a worker's."""
    return make_tables(Limits(sessions=8, flows=1, rows=64), 1600)


STEPS = st.one_of(
    st.tuples(st.just("wake"), st.integers(0, 7), st.just(0.0)),
    st.tuples(st.just("due"), st.integers(0, 7), st.floats(0, 10) | st.just(float("inf"))),
    st.tuples(st.just("forget"), st.integers(0, 7), st.just(0.0)),
    st.tuples(st.just("take"), st.just(0), st.floats(0, 2)),
)


@given(st.lists(STEPS, max_size=60))
def test_ring_and_heap(steps: list[tuple[str, int, float]]) -> None:
    t, _arena = tables()
    t.session[:8] = np.zeros(8, t.session.dtype)
    t.pool[0]["actives"] = t.pool[0]["timers"] = 0
    ring: list[int] = []
    due: dict[int, float] = {}
    now = 0.0
    for what, session, value in steps:
        if what == "wake":
            wheel.wake(t.root, session)
            if session not in ring:
                ring.append(session)
        elif what == "due":
            set_due(t.root, session, now + value)
            due[session] = now + value
            if value == float("inf"):
                del due[session]
        elif what == "forget":
            wheel.forget(t.root, session)
            due.pop(session, None)
            ring = [other for other in ring if other != session]
        else:
            now += value
            over = sorted((at, other) for other, at in due.items() if at <= now)
            expected = {*ring, *(other for _, other in over)}
            for _, other in over:
                del due[other]
            late = [other for _, other in over if other not in ring]
            found = int(take(t.root, now))
            assert (found in expected) if expected else found == -1
            if ring:
                assert found == ring[0]
            ring = [other for other in [*ring, *late] if other != found]
            if len(late) > 1:  # equal times may come in any order
                first = int(t.pool[0]["active_first"])
                ring = [int(t.active[(first + i) % len(t.active)]) for i in range(int(t.pool[0]["actives"]))]
                assert set(ring) == expected - {found}
        want = now if ring else min(due.values(), default=float("inf"))
        assert float(next_due(t.root, now)) == want
        assert int(t.pool[0]["actives"]) == len(ring)
        assert int(t.pool[0]["timers"]) == len(due)
