"""How long a packet of a lane may be: DPLPMTUD (RFC 8899), and the detection of black holes.

The search begins with the largest size that is allowed, because most paths take it, and goes on by halves. A size is
given up after three probes of it. Ten full-size packets lost in a row raise a doubt, no more: bursts and outages lose
as many. Then pairs of probes are sent, one of full size and one short: a path that answers the short ones only has
become a black hole, and the lane falls back to its base size.
"""

from __future__ import annotations

import numpy as np

from drivers.kernel import kernel
from vantun.session.lane_probes import answer_time
from vantun.session.pool import EVENT_MTU, push_event
from vantun.session.tables import Tables, head
from vantun.wire.integers import int64

FIXED, SEARCHING, COMPLETE = range(3)
SEARCH_NAMES = ("fixed", "searching", "complete")

BLACK_HOLE = 10
"""Full-size packets lost in a row, none acknowledged, from which a path is doubted."""
_TRIES = 3
"""MAX_PROBES (RFC 8899, section 5.1.2)."""
_GRAIN = 8
"""Bytes that are not worth a further probe."""
_RAISE_EVERY = 600.0
"""PMTU_RAISE_TIMER (RFC 8899, section 5.1.1)."""
_FIRST_REST = 1.0
"""Seconds until the next search after a black hole; doubled each time."""
_ACTIVE = 2
"""State of a lane, as in :mod:`vantun.session.recovery`, which imports this."""


@kernel
def begin_search(t: Tables, lane: int, limit: int, now: float) -> None:
    """Search up to ``limit`` bytes of UDP payload; one that is not above the present size means: do not search."""
    t = head(t)
    record = t.lane[lane]
    record.mtu_limit = max(limit, int64(record.mtu))
    _restart(record, now)
    record.mtu_settled = 1 if record.mtu_state == FIXED else 0


@kernel
def _restart(record: np.record, at: float) -> None:
    record.mtu_state = SEARCHING if record.mtu_limit > record.mtu else FIXED
    record.mtu_high = record.mtu_limit
    record.mtu_probe = 0
    record.mtu_tries = 0
    record.mtu_due = at


@kernel
def fall_back(t: Tables, lane: int, now: float) -> None:
    """Return to the base size; a lane that searches does so again after a while."""
    record = t.lane[lane]
    record.big_lost = 0
    record.hole_round = 0
    searches = record.mtu_state != FIXED
    record.mtu = record.mtu_base
    if searches:
        record.mtu_rest = min(max(2.0 * record.mtu_rest, _FIRST_REST), _RAISE_EVERY)
        _restart(record, now + record.mtu_rest)
    push_event(t, EVENT_MTU, record.session, lane, record.mtu, 0, 0)


@kernel
def start_over(t: Tables, lane: int, now: float) -> None:
    """Forget what is known of the path, because it is another one."""
    record = t.lane[lane]
    record.big_lost = 0
    record.hole_round = 0
    record.mtu_rest = 0.0
    if record.mtu_state == FIXED:
        return
    record.mtu = record.mtu_base
    _restart(record, now)
    push_event(t, EVENT_MTU, record.session, lane, record.mtu, 0, 0)


@kernel
def size_confirmed(t: Tables, lane: int, size: int, now: float) -> None:
    """Act on the acknowledgement of a full-size probe of ``size`` bytes, however late."""
    record = t.lane[lane]
    if size == record.mtu:  # no black hole, after all
        record.big_lost = 0
        record.hole_round = 0
    if size <= record.mtu or record.mtu_state == FIXED:
        return
    record.mtu = size
    record.mtu_high = max(int64(record.mtu_high), size)
    record.mtu_probe = 0
    record.mtu_tries = 0
    record.mtu_due = now
    push_event(t, EVENT_MTU, record.session, lane, size, 0, 0)


@kernel
def size_refused(t: Tables, lane: int, size: int, now: float) -> None:
    """Act on a packet of ``size`` bytes that the kernel did not take, because the interface does not (EMSGSIZE)."""
    t = head(t)
    record = t.lane[lane]
    if not record.used:
        return
    if size <= record.mtu:
        if record.mtu > record.mtu_base:
            fall_back(t, lane, now)
    elif size <= record.mtu_high:
        record.mtu_high = size - 1
        record.mtu_probe = 0
        record.mtu_tries = 0
        record.mtu_due = now


@kernel
def due_probe(t: Tables, lane: int, now: float) -> int:
    """Return the size of the full-size probe that is to be sent now, 0 = none; ``mtu_due`` says when to ask again.

    While there is a doubt (``hole_round`` > 0) a short one goes with it.
    """
    record = t.lane[lane]
    if record.big_lost >= BLACK_HOLE and record.mtu > record.mtu_base and record.hole_round == 0:
        record.hole_round = 1
        record.hole_small = 0
        record.mtu_due = now
    if record.hole_round > 0:
        return _doubt(t, lane, now)
    if record.mtu_state == FIXED or now < record.mtu_due:
        return 0
    if record.mtu_state == COMPLETE:
        _restart(record, now)
    if record.state != _ACTIVE or record.srtt == 0.0:
        record.mtu_due = now + answer_time(record)
        return 0
    if record.mtu_probe > 0:
        record.mtu_tries += 1
        if record.mtu_tries >= _TRIES:
            record.mtu_high = record.mtu_probe - 1
            record.mtu_tries = 0
            record.mtu_probe = 0
    if record.mtu_probe == 0:
        record.mtu_probe = _next_size(record)
    if record.mtu_probe == 0:
        _complete(t, lane, now)
        return 0
    # three probes that share a full queue must not share their fate
    record.mtu_due = now + answer_time(record) * (1.0 + record.mtu_tries)
    return int64(record.mtu_probe)


@kernel
def _next_size(record: np.record) -> int:
    low, high = int64(record.mtu), int64(record.mtu_high)
    if high == record.mtu_limit and high > low:
        return high
    return (low + high + 1) // 2 if high - low >= _GRAIN else 0


@kernel
def _complete(t: Tables, lane: int, now: float) -> None:
    record = t.lane[lane]
    record.mtu_state = COMPLETE
    record.mtu_due = now + _RAISE_EVERY if record.mtu < record.mtu_limit else np.inf
    if not record.mtu_settled:
        record.mtu_settled = 1
        push_event(t, EVENT_MTU, record.session, lane, record.mtu, 0, 0)


@kernel
def _doubt(t: Tables, lane: int, now: float) -> int:
    """Go on with the pairs of probes; fall back if only short ones have been answered."""
    record = t.lane[lane]
    if record.big_lost == 0:
        record.hole_round = 0
        return 0
    if now < record.mtu_due:
        return 0
    if record.hole_round > _TRIES:
        if record.hole_small >= 2:
            fall_back(t, lane, now)
            return 0
        # not even those came through: the path is silent, which is another matter
        record.hole_round = 1
        record.hole_small = 0
    record.hole_round += 1
    record.mtu_due = now + answer_time(record)
    return int64(record.mtu)
