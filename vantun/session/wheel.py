"""Which sessions are looked at: those that something happened to, and those whose time has come; others cost nothing.

Active sessions stand in a ring and are planned in turn, so that nobody starves when a batch is full. The others wait in
a binary heap of their due times, exact to the clock. Both have a place for each session of the tables and never grow.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.limits import MAX_SESSIONS
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64

assert MAX_SESSIONS & (MAX_SESSIONS - 1) == 0
"""The ring is addressed by a mask."""


@kernel
def wake(t: Tables, session: int) -> None:
    """Have a session planned with the next call."""
    t = head(t)
    record = t.session[session]
    if record.active:
        return
    record.active = 1
    pool = t.pool[0]
    t.active[(pool.active_first + pool.actives) & (MAX_SESSIONS - 1)] = session
    pool.actives += 1


@kernel
def next_active(t: Tables) -> int:
    """Take the session whose turn it is out of the ring, which must not be empty; it counts as active until planned."""
    pool = t.pool[0]
    session = int64(t.active[pool.active_first])
    pool.active_first = (pool.active_first + 1) & (MAX_SESSIONS - 1)
    pool.actives -= 1
    return session


@kernel
def wake_due(t: Tables, now: float) -> None:
    """Wake the sessions whose time has come."""
    t = head(t)
    pool = t.pool[0]
    while pool.timers > 0 and t.session[t.timer[0]].due <= now:
        session = int64(t.timer[0])
        _take_out(t, session)
        wake(t, session)


@kernel
def next_due(t: Tables, now: float) -> float:
    """Return when the next session is to be planned: now, while any is active (inf = never)."""
    pool = t.pool[0]
    if pool.actives > 0:
        return now
    return float(t.session[t.timer[0]].due) if pool.timers > 0 else np.inf


@kernel
def set_due(t: Tables, session: int, due: float) -> None:
    """Have a session planned at ``due`` if nothing happens before (inf = not at all)."""
    record = t.session[session]
    if due == np.inf:
        if record.timer_place > 0:
            _take_out(t, session)
        return
    record.due = due
    pool = t.pool[0]
    if record.timer_place == 0:
        t.timer[pool.timers] = session
        pool.timers += 1
        record.timer_place = pool.timers
    _sift(t, int64(record.timer_place) - 1)


@kernel
def hold(t: Tables, session: int, held: int) -> None:
    """Note whether shards of a session wait for a lane (1) or not (0)."""
    record = t.session[session]
    t.pool[0].held += held - int64(record.held)
    record.held = held


@kernel
def forget(t: Tables, session: int) -> None:
    """Take a session that has ended out of the ring and the heap."""
    t = head(t)
    record = t.session[session]
    hold(t, session, 0)
    if record.timer_place > 0:
        _take_out(t, session)
    if not record.active:
        return
    record.active = 0
    pool = t.pool[0]
    kept = 0
    for i in range(pool.actives):
        other = t.active[(pool.active_first + i) & (MAX_SESSIONS - 1)]
        if other != session:
            t.active[(pool.active_first + kept) & (MAX_SESSIONS - 1)] = other
            kept += 1
    pool.actives = kept


@kernel
def _take_out(t: Tables, session: int) -> None:
    pool = t.pool[0]
    place = int64(t.session[session].timer_place) - 1
    t.session[session].timer_place = 0
    pool.timers -= 1
    if place == pool.timers:
        return
    t.timer[place] = t.timer[pool.timers]
    t.session[t.timer[place]].timer_place = place + 1
    _sift(t, place)


@kernel
def _sift(t: Tables, place: int) -> None:
    """Move the entry at ``place`` of the heap up, or down, to where it belongs."""
    session = t.timer[place]
    due = t.session[session].due
    while place > 0:
        above = (place - 1) >> 1
        if t.session[t.timer[above]].due <= due:
            break
        t.timer[place] = t.timer[above]
        t.session[t.timer[place]].timer_place = place + 1
        place = above
    count = int64(t.pool[0].timers)
    while True:
        below = 2 * place + 1
        if below >= count:
            break
        if below + 1 < count and t.session[t.timer[below + 1]].due < t.session[t.timer[below]].due:
            below += 1
        if t.session[t.timer[below]].due >= due:
            break
        t.timer[place] = t.timer[below]
        t.session[t.timer[place]].timer_place = place + 1
        place = below
    t.timer[place] = session
    t.session[session].timer_place = place + 1
