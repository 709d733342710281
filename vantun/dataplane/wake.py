"""When a worker rests after a turn, and whether it watches its sockets for a while before it sleeps.

A turn costs nearly the same for one packet as for thirty, so while packets come faster than one in COALESCE the loop
lets them gather. Below that there is nothing to gather: the rest would only stand between a question and its answer,
which the kernel often has at once (a round trip through two workers is four wake-ups, and rests in two of them were
most of it). Where packets go one way nobody waits for an answer, and the rest may be longer: as long as keeps the turns
themselves to a share of a core, SHARE, and no longer than LONGEST. Where nothing at all has come back but RECEIPTs, not
even acknowledgements of TCP, it is LONELY: a turn costs what ten packets do. The end that receives them takes a turn
when they come, since the other one has gathered them: resting as long itself, it would now and then write two of these
bursts at once, more than the socket that they are for has room for. It is timers that wait there, PATIENCE, until the
next burst: so that of RECEIPTs costs no turn.

Where packets come by the ten thousand a second, somebody transfers something, and what he may have under way is
limited: his rate is that divided by the round trip, of which rests in two workers and two directions were most (one
TCP stream: 4.8 Gbit/s, with both cores half idle; with BRIEF rests 10). Not without any: a flood of single packets
would be a turn for each.

With ``goal: latency`` there is no rest, and the worker watches after every turn that moved something: falling asleep
and being woken costs more than the turn itself. It watches for twice as long as packets have lately been apart at most
(not on average: with the RECEIPTs in between, a question every 4 ms was 1 ms apart, and each of them found the worker
asleep). That is CPU time that does nothing else, but nobody else's: the watch gives the core away to whoever wants it,
and pauses while others take it for long (then only being woken brings the worker before them).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel

COALESCE = 250e-6
"""Seconds of rest after a turn that moved few packets: what comes meanwhile shares the next."""
LONGEST = 1e-3
"""Seconds of rest at most, where packets go one way."""
SHARE = 0.04
"""Of a core, for turns that move few packets one way."""
ONE_WAY = 4
"""Times as many packets as come the other way: receipts, and the acknowledgements of a download, are fewer."""
MANY = 300
"""Smoothed packets, both ways, from which on a rest is BRIEF: 60,000 a second."""
BRIEF = 50e-6
"""Seconds of such a rest: a transfer waits for several in each round trip, and a flood of single packets gathers."""
FEW = 64
"""Packets, both ways, from which on a turn is full: there may be more at once, and nothing has to be gathered."""
ALONE = 0.25
"""Seconds in which packets of the TUN have gone one way only, without any answer, until nobody waits for one."""
STEADY = 25
"""Smoothed packets, both ways, from which on a rest of LONELY gathers enough to be worth it: 5,000 a second."""
LONELY = 4e-3
"""Seconds of rest after a turn that sent such packets."""
PATIENCE = 1.5 * LONELY
"""Seconds that timers of the data plane may wait for the next burst, at the end that receives them."""
CROWD = 200
"""Smoothed packets of the TUN, 40,000 a second, from which on such a rest would overrun the device's queue (500
packets), or the buffer of the socket that they are for: 64 B at 200,000 a second filled the one, and a fifth was lost.
They are packed many to a shard, and do not look like MANY."""
MEMORY = 5e-3
"""Seconds over which packet rates are smoothed."""
SPIN = 150e-6
"""Seconds of watching, at least, with ``goal: latency``."""
SPIN_LONGEST = 10e-3
"""And at most. Packets farther apart are not worth a core."""
TAKEN = 500e-6
"""Seconds without the core during a watch from which on somebody else needs it. A program that has been answered takes
it for less, and leaves it again."""
PAUSE, LONGEST_PAUSE = 10e-3, 0.1
"""Seconds without a watch when that was seen once, and again and again. With a second, that the control process looks
at its worker every two was enough for a pause half of the time."""
_ENOUGH = MEMORY / COALESCE
"""Smoothed packets from which one is due within COALESCE."""
_SMOOTH = 0.125
_FADE = 1 / 32
"""By which the longest gap of late is forgotten, a turn."""

(
    REST,
    SPIN_FOR,
    LATENCY,
    RECEIVED,
    SENT,
    AT,
    COST,
    GAP,
    BUSY_AT,
    PAUSE_FOR,
    PAUSED_UNTIL,
    OUT_AT,
    IN_AT,
    PATIENT_FOR,
    GATHERED,
    GATHERED_AT,
    WAKE_WORDS,
) = range(17)
"""Words of what is remembered: the two decisions, the goal, then smoothed packets, their time and the cost of a turn;
the longest gap of late, the last turn that moved something, and the pause of watching; when a packet was last read of a
TUN device, and written to one; the third decision; smoothed packets of the TUN, and their time."""


@kernel
def note_turn(
    w: NDArray[np.float64],
    moved: tuple[int, int],
    now: float,
    busy: bool,  # noqa: FBT001 - a fact, not a mode
    took: float,
    away: float,
    alone: bool,  # noqa: FBT001 - facts, not modes
) -> None:
    """Learn what a turn has moved, and decide: see :meth:`Wake.note`; ``w`` [shape=(WAKE_WORDS,), dtype=float64].

    ``alone``: packets go one way without an answer, and no shard waits for a lane.
    """
    if w[LATENCY] > 0.0:
        _watch(w, now, busy, away)
        return
    received, sent = moved
    kept = math.exp((w[AT] - now) / MEMORY)
    w[RECEIVED] = w[RECEIVED] * kept + received
    w[SENT] = w[SENT] * kept + sent
    w[AT] = now
    if received > 0 or sent > 0:
        w[COST] += (took - w[COST]) * _SMOOTH
    gather = busy and received + sent < FEW and w[RECEIVED] + w[SENT] >= _ENOUGH
    w[REST] = _length(w, alone) if gather else 0.0
    w[PATIENT_FOR] = 0.0
    if w[REST] == LONELY and w[RECEIVED] > w[SENT]:
        w[PATIENT_FOR] = PATIENCE
        w[REST] = LONGEST if now - w[BUSY_AT] < LONGEST else 0.0  # they come one by one: not a turn for each
    if busy:
        w[BUSY_AT] = now


@kernel
def _length(w: NDArray[np.float64], alone: bool) -> float:  # noqa: FBT001 - a fact, not a mode
    if w[RECEIVED] + w[SENT] >= MANY:
        return BRIEF
    less, more = min(w[RECEIVED], w[SENT]), max(w[RECEIVED], w[SENT])
    if less * ONE_WAY > more:
        return COALESCE
    if alone and less + more >= STEADY:
        return LONELY
    return float(min(max(COALESCE, w[COST] / SHARE), LONGEST))


@kernel
def note_ways(w: NDArray[np.float64], read: int, written: int, now: float) -> None:
    """Learn how many packets of the TUN a turn has read, and written to it."""
    if read > 0:
        w[OUT_AT] = now
    if written > 0:
        w[IN_AT] = now
    w[GATHERED] = w[GATHERED] * math.exp((w[GATHERED_AT] - now) / MEMORY) + read + written
    w[GATHERED_AT] = now
    if w[GATHERED] > CROWD:
        w[OUT_AT] = w[IN_AT] = now


@kernel
def is_alone(w: NDArray[np.float64], now: float) -> bool:
    """Tell whether packets of the TUN have gone one way only for so long that nobody waits for an answer."""
    return bool(now - min(w[OUT_AT], w[IN_AT]) >= ALONE)


@kernel
def _watch(w: NDArray[np.float64], now: float, busy: bool, away: float) -> None:  # noqa: FBT001 - a fact, not a mode
    if away >= TAKEN:
        w[PAUSED_UNTIL] = now + w[PAUSE_FOR]
        w[PAUSE_FOR] = min(2 * w[PAUSE_FOR], LONGEST_PAUSE)
    if not busy:
        w[SPIN_FOR] = 0.0
        return
    gap = now - w[BUSY_AT]
    w[BUSY_AT] = now
    if gap <= SPIN_LONGEST / 2:
        w[GAP] = max(gap, w[GAP] + (gap - w[GAP]) * _FADE)
    if now < w[PAUSED_UNTIL]:
        w[SPIN_FOR] = 0.0
        return
    if away == 0.0 and now > w[PAUSED_UNTIL] + w[PAUSE_FOR]:
        w[PAUSE_FOR] = PAUSE
    w[SPIN_FOR] = max(SPIN, 2 * w[GAP])


class Wake:
    """Decides after each turn; ``latency`` = the appliance's goal is latency.

    Attributes
    ----------
    words
        [shape=(WAKE_WORDS,), dtype=float64] what it remembers, for turns that compiled code makes.
    """

    def __init__(self, *, latency: bool = False) -> None:
        self.words = np.zeros(WAKE_WORDS)
        self.words[LATENCY] = float(latency)
        self.words[[BUSY_AT, PAUSED_UNTIL, GATHERED_AT]] = -math.inf
        self.words[PAUSE_FOR] = PAUSE
        self._view = self.words.data  # item access on a memoryview costs a third of numpy's

    @property
    def rest(self) -> float:
        """Seconds to sleep now, whatever arrives."""
        return self._view[REST]

    @property
    def spin(self) -> float:
        """Seconds to watch the sockets before sleeping on them."""
        return self._view[SPIN_FOR]

    def note(self, moved: tuple[int, int], now: float, *, busy: bool, took: float = 0.0, away: float = 0.0) -> None:
        """Learn what a turn has ``moved`` (packets received, packets sent); ``busy`` = it had a reason.

        ``took`` is what it took, and ``away`` for how long others had the core while it was waited for by watching.
        """
        note_turn(self.words, moved, now, busy, took, away, False)  # noqa: FBT003 - a fact, not a mode
