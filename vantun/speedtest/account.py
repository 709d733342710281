"""The accounts of a speed test: what arrived and how, when the next datagram is due, percentiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vantun.speedtest.messages import Receipt

LATE_AFTER = 100_000
"""Microseconds: a datagram that was under way for so much longer than the fastest one before it is late."""
BURST = 64
"""Datagrams that are sent in one go; who could not send for a while does not make up for all of it at once."""


class Arrivals:
    """Takes down the datagrams of one direction.

    *Duplicated* ones are those whose number was there before; they count for nothing else. *Reordered* is one that
    comes after one with a higher number (RFC 4737, section 3). *Late* is explained at LATE_AFTER. Jitter is that of
    RFC 3550, section 6.4.1.

    Parameters
    ----------
    most
        Numbers are below it; a bit is kept for each.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen = bytearray(most + 7 >> 3)
        self._received = self._octets = self._duplicated = self._reordered = self._late = 0
        self._next = 0
        self._fastest = 0
        self._before = 0
        self._jitter = 0.0
        self._first = self._last = 0

    def take(self, number: int, sent: int, now: int, size: int) -> bool:
        """Take down one of ``size`` bytes, sent and received at these microseconds of two clocks.

        Returns
        -------
        bool
            Whether the number can be one of this measurement; else nothing has changed.
        """
        if not 0 <= number < self._most:
            return False
        place, bit = number >> 3, 1 << (number & 7)
        if self._seen[place] & bit:
            self._duplicated += 1
            return True
        self._seen[place] |= bit
        transit = now - sent
        if self._received:
            self._jitter += (abs(transit - self._before) - self._jitter) / 16
            self._late += transit > self._fastest + LATE_AFTER
            self._fastest = min(self._fastest, transit)
        else:
            self._fastest, self._first = transit, now
        self._before, self._last = transit, now
        self._reordered += number < self._next
        self._next = max(self._next, number + 1)
        self._received += 1
        self._octets += size
        return True

    def receipt(self) -> Receipt:
        """Return the account until now."""
        return Receipt(
            self._received,
            self._octets,
            self._duplicated,
            self._reordered,
            self._late,
            round(min(self._jitter, 1e15)),  # clocks of a peer that lies must not make a number that cannot be written
            self._first,
            self._last,
        )


class Pace:
    """Says how many datagrams are due.

    Parameters
    ----------
    per_second, most
        Datagrams: the rate, and all of them.

    Attributes
    ----------
    sent
        Those that were.
    """

    def __init__(self, per_second: float, most: int) -> None:
        self._per_second = per_second
        self._most = most
        self._excused = 0
        self.sent = 0

    def due(self, elapsed: float) -> int:
        """Return how many are to be sent now, ``elapsed`` seconds after the beginning; at most BURST."""
        wanted = min(int(elapsed * self._per_second) + 1, self._most) - self._excused - self.sent
        if wanted > 4 * BURST:  # this process was held up: what it could not send is not sent later, as a burst
            self._excused += wanted - BURST
            wanted = BURST
        return max(0, min(wanted, BURST))

    @property
    def is_over(self) -> bool:
        """Whether all were sent, or are not to be any more."""
        return self.sent + self._excused >= self._most


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the nearest rank (the smallest value that ``share`` of all do not exceed); None of no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
