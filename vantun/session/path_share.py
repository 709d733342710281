"""One rate for all lanes of a path: the workers that serve a path agree on shares through a page that all of them map.

A record of the page is a path, and has a line for each slice of its session: what the lane there wants to send, what it
may, and when its worker was last alive. Each worker writes its own line alone, so no lock is needed; it wants what it
sends, and more if the rate held it up. Rates in bytes per second, times in seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vantun.session.limits import SLICES

EVERY = 0.02
"""Seconds from one look of a worker to its next."""
STALE = 0.2
"""Seconds after which a worker that has not written counts as dead, and its share goes to the others."""
LEAST = 0.005
"""Share of the limit that a lane keeps which sends nothing: its first packets need not wait for the next look."""
_MORE = 1.25
"""What a lane wants that was held up, over what it has sent: the others give way in a few looks."""

share_dtype = np.dtype([("demand", "f8"), ("grant", "f8"), ("at", "f8")], align=True)


def allot(limit: float, demands: Sequence[float]) -> list[float]:
    """Divide ``limit`` among ``demands`` max-min fairly: small ones are met, the others have equal parts of the rest.

    What nobody wants is divided equally on top, so that the shares always sum up to the limit.
    """
    shares = [0.0] * len(demands)
    left, waiting = limit, sorted(range(len(demands)), key=lambda i: demands[i])
    for place, i in enumerate(waiting):
        shares[i] = min(demands[i], left / (len(waiting) - place))
        left -= shares[i]
    return [share + left / len(shares) for share in shares] if shares else []


def take_share(page: NDArray[Any], share: tuple[int, int], limit: float, demand: float, now: float) -> float:
    """Write what a lane wants; return what it may send from now on, of ``limit`` for the path.

    ``page`` is [shape=(SHARE_PLACES, SLICES), dtype=share_dtype], ``share`` (place of the path, line of the slice).
    A lane gives up at once what is no longer its own, and takes only what the others have given up: so they never have
    more than the limit together, but while two take at once, until the next look. One that comes begins with what
    nobody has.
    """
    place, own = share
    lines = page[place]
    mine = lines[own]
    usable = limit * (1.0 - LEAST)  # what remains covers the least that every lane keeps
    before = float(mine["grant"]) if now - float(mine["at"]) <= STALE else 0.0
    mine["demand"], mine["at"] = max(demand, LEAST * limit), now
    alive = {i: row for i, row in enumerate(lines.tolist()) if i == own or 0.0 <= now - row[2] <= STALE}
    fair = allot(usable, [row[0] for row in alive.values()])[list(alive).index(own)]
    taken = sum(row[1] for i, row in alive.items() if i != own)
    grant = fair if fair <= before else min(fair, usable - taken)
    grant = max(grant, LEAST * limit / SLICES)
    mine["grant"] = grant
    return grant


def leave_share(page: NDArray[Any], place: int, line: int) -> None:
    """Give a lane's share up: it has ended."""
    page[place, line] = (0.0, 0.0, -np.inf)


def demand_of(sent: float, held_up: bool, limit: float, seconds: float) -> float:  # noqa: FBT001 - a measured fact
    """Return what a lane wants that has sent so many bytes in ``seconds``."""
    rate = sent / seconds if seconds > 0.0 else 0.0
    return min(limit, max(rate * _MORE, limit * 2 * LEAST) if held_up else rate * 1.05)
