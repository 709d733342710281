"""The moves of buckets of the TUN's flows from a worker that has too much to do to another.

A flow falls into one bucket (:mod:`drivers.linux.tun_steering`), and moves with it, as a whole. Both ends of a tunnel
choose for the packets that they send. What an end moves, the other follows: it sees packets of a bucket arrive by
another slice, and sends those the other way there, too. So an end can get rid of what it receives.

Nothing plays ball: a worker must have been overloaded for some looks, the other must have room, the move must leave
both below what one had, and a bucket that has moved stays for a while. When both ends move the same bucket at once, the
client gives in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vantun.control.bucket_row import Buckets
from vantun.tun_messages import BUCKETS

BUSY = 0.85
"""Share of its time from which a worker is overloaded: it was running, or waited for a processor."""
ROOM = 0.6
"""Up to which it takes something from another."""
MARGIN = 0.1
"""By so much less must the busier of two be after a move."""
LOOKS = 3
"""Looks for which it must have been overloaded."""
HOLD = 10.0
"""Seconds for which a bucket stays where it was moved to."""
MOST = 32
"""Buckets moved at once."""
CLEAR = 0.75
"""Share of a bucket's packets that must arrive by one slice to count as its way."""
_PACKET_BYTES = 512
"""What a packet costs, in bytes that cost as much."""


class Move(NamedTuple):
    """Buckets that go from one worker to another; ``busy`` of both, 0 for what follows the peer."""

    buckets: tuple[int, ...]
    source: int
    target: int
    busy: tuple[float, float]


@dataclass(frozen=True)
class _Look:
    """What has happened since the last look: times that workers were busy, and by worker and bucket the cost."""

    now: float
    busy: Sequence[float]
    cost: NDArray[np.float64]
    usable: frozenset[int]


class Thief:
    """Decides which buckets move. Knows no clock and no process.

    Parameters
    ----------
    client
        Whether this end gives in when both move the same.
    """

    def __init__(self, buckets: Buckets, workers: int, *, client: bool) -> None:
        self._buckets = buckets
        self._client = client
        self._over = [0] * workers
        self._held: dict[int, float] = {}
        self._came: NDArray[np.int64] = np.full(BUCKETS, -1)
        """By bucket, the worker by whose slice its packets have arrived last."""
        self._last: NDArray[np.int64] | None = None

    def look(self, now: float, busy: Sequence[float], counts: NDArray[np.int64], usable: Iterable[int]) -> list[Move]:
        """Make moves, and return them.

        Parameters
        ----------
        busy
            By worker, the share of the time since the last look.
        counts
            By worker and bucket: packets and bytes out, packets and bytes in, ever.
        usable
            Workers that can carry every session's packets now.
        """
        last, self._last = self._last, counts.copy()
        if last is None:
            return []
        since = counts - last
        packets, sizes = since[:, :, 0] + since[:, :, 2], since[:, :, 1] + since[:, :, 3]
        seen = _Look(now, busy, (sizes + _PACKET_BYTES * packets).astype(np.float64), frozenset(usable))
        return [*self._follow(seen, since[:, :, 2]), *self._relieve(seen)]

    def _follow(self, seen: _Look, arrived: NDArray[np.int64]) -> list[Move]:
        total = arrived.sum(axis=0)
        by = arrived.argmax(axis=0)
        clear = (total > 0) & (arrived.max(axis=0) >= CLEAR * total)
        turned = np.flatnonzero(clear & (self._came >= 0) & (self._came != by)).tolist()
        self._came[clear] = by[clear]
        moved: dict[tuple[int, int], list[int]] = {}
        for bucket in turned:
            source, target = self._buckets.assigned[bucket], int(by[bucket])
            if source == target or target not in seen.usable or not (self._client or self._free(bucket, seen.now)):
                continue
            moved.setdefault((source, target), []).append(bucket)
        return [self._move(buckets, *ends, seen.now, (0.0, 0.0)) for ends, buckets in moved.items()]

    def _relieve(self, seen: _Look) -> list[Move]:
        moves: list[Move] = []
        for source in sorted(seen.usable, key=lambda worker: -seen.busy[worker]):
            self._over[source] = self._over[source] + 1 if seen.busy[source] >= BUSY else 0
            target = min(seen.usable, key=lambda worker: (seen.busy[worker], worker))
            if self._over[source] < LOOKS or seen.busy[target] > ROOM or moves:
                continue
            chosen = self._choose(seen, source, seen.busy[source] - seen.busy[target])
            if chosen:
                self._over[source] = self._over[target] = 0
                moves.append(self._move(chosen, source, target, seen.now, (seen.busy[source], seen.busy[target])))
        return moves

    def _choose(self, seen: _Look, source: int, gap: float) -> list[int]:
        """Return the buckets to be moved over a gap of load: half of it, or what makes it smaller at all."""
        cost = seen.cost[source]
        if not cost.any():
            return []
        share = seen.busy[source] * cost / cost.sum()
        order = [
            bucket
            for bucket in np.argsort(-share, kind="stable").tolist()
            if share[bucket] > 0 and self._buckets.assigned[bucket] == source and self._free(bucket, seen.now)
        ]
        chosen: list[int] = []
        moved = 0.0
        for bucket in order:
            if moved + share[bucket] <= gap / 2 and len(chosen) < MOST:
                chosen.append(bucket)
                moved += share[bucket]
        if not chosen and order and share[order[-1]] < gap - MARGIN:
            chosen = order[-1:]
        return chosen

    def _free(self, bucket: int, now: float) -> bool:
        return self._held.get(bucket, 0.0) <= now

    def _move(self, buckets: list[int], source: int, target: int, now: float, busy: tuple[float, float]) -> Move:
        for bucket in buckets:
            self._buckets.assigned[bucket] = target
            self._held[bucket] = now + HOLD
        return Move(tuple(buckets), source, target, busy)
