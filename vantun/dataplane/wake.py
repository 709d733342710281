"""When a worker rests after a turn, and whether it watches its sockets for a while before it sleeps.

A turn costs the same for one packet as for thirty, so while packets come faster than one in COALESCE the loop lets them
gather. Below that there is nothing to gather: the rest would only stand between a question and its answer, which the
kernel often has at once (a round trip through two workers is four wake-ups, and rests in two of them were most of it).

With ``goal: latency`` there is no rest, and the worker watches for SPIN after every turn that moved something: falling
asleep and being woken costs more than the turn itself. That is CPU time that does nothing else.
"""

from __future__ import annotations

import math

COALESCE = 250e-6
"""Seconds of rest after a turn that moved few packets: what comes meanwhile shares the next."""
FEW = 64
MEMORY = 5e-3
"""Seconds over which the packet rate is smoothed."""
SPIN = 150e-6
"""Seconds of watching, with ``goal: latency``."""
_ENOUGH = MEMORY / COALESCE
"""Smoothed packets from which one is due within COALESCE."""


class Wake:
    """Decides after each turn; ``latency`` = the appliance's goal is latency.

    Attributes
    ----------
    rest
        Seconds to sleep now, whatever arrives.
    spin
        Seconds to watch the sockets before sleeping on them.
    """

    def __init__(self, *, latency: bool = False) -> None:
        self.rest = 0.0
        self.spin = 0.0
        self._latency = latency
        self._recent = 0.0
        self._at = -math.inf

    def note(self, packets: int, now: float, *, busy: bool) -> None:
        """Learn what a turn has moved; ``busy`` = it had a reason."""
        if packets:
            self._recent = self._recent * math.exp((self._at - now) / MEMORY) + packets
            self._at = now
        if self._latency:
            self.spin = SPIN if busy else 0.0
            return
        gather = busy and packets < FEW and self._recent * math.exp((self._at - now) / MEMORY) >= _ENOUGH
        self.rest = COALESCE if gather else 0.0
