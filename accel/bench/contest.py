"""Who is faster, and by how much: contestants that take turns in one run, and ratios formed round by round.

A shared machine changes its speed by tens of per cent from one second to the next, so two figures that were taken one
after the other say little. Here every contestant runs for a fraction of a millisecond, then the next one; a round is
one sample of each, in alternating order, and a ratio is taken inside each round. The median of those ratios, with the
quartiles, is what is reported: a burst of other load hits both sides of a round, or it makes one outlier. A sample
during which the kernel gave the CPU to somebody else says nothing and is taken again.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Clock = Callable[[], int]
"""Nanoseconds; only differences count."""
Preemptions = Callable[[], int]
"""How often the CPU was taken away so far."""
FEWEST_ROUNDS, MOST_ROUNDS = 5, 501
_ATTEMPTS = 5
"""Samples taken in place of one that was interrupted, at most; a pass may be longer than the kernel's patience."""


@dataclass(frozen=True)
class Contestant:
    """One way to do a piece of work; every call of ``run`` does all of it once (a pass)."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    budget_s
        Seconds for a contest, about; the number of rounds follows.
    sample_s
        Seconds of a sample; as many passes are in it as fit, at least one.
    """

    budget_s: float = 1.0
    sample_s: float = 0.0003

    def __post_init__(self) -> None:
        if self.sample_s <= 0 or self.budget_s <= 0:
            raise ValueError(f"an effort is positive, given are {self.budget_s} s and samples of {self.sample_s} s")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    def document(self, digits: int = 3) -> dict[str, float]:
        """Return it as JSON."""
        return {"median": round(self.median, digits), "q1": round(self.low, digits), "q3": round(self.high, digits)}


@dataclass(frozen=True)
class Outcome:
    """What a contest gave.

    Attributes
    ----------
    ns
        Nanoseconds per pass [rounds] of each contestant; element ``i`` of all belongs to the same round.
    repeated
        Samples that were taken again; 0 on a quiet machine.
    """

    ns: Mapping[str, Sequence[float]]
    repeated: int = 0

    def time(self, name: str) -> Spread:
        """Return nanoseconds per pass."""
        return spread(self.ns[name])

    def ratio(self, name: str, against: str) -> Spread:
        """Return how many times as fast as ``against`` a contestant is; above 1 = faster."""
        return spread([theirs / own for own, theirs in zip(self.ns[name], self.ns[against], strict=True)])

    def excess(self, name: str, over: str) -> Spread:
        """Return by how many nanoseconds a pass takes longer than that of another."""
        return spread([own - theirs for own, theirs in zip(self.ns[name], self.ns[over], strict=True)])


def pool(outcomes: Sequence[Outcome]) -> Outcome:
    """Return contests of the same contestants as one: who took part in all of them, with the rounds of all."""
    names = [name for name in outcomes[0].ns if all(name in each.ns for each in outcomes)]
    return Outcome(
        {name: [ns for each in outcomes for ns in each.ns[name]] for name in names},
        sum(each.repeated for each in outcomes),
    )


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; raises ValueError for no values."""
    if not values:
        raise ValueError("nothing was measured")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the mean that suits ratios; raises ValueError for no values, or one that is not positive."""
    if not values or min(values) <= 0:
        raise ValueError(f"a geometric mean takes positive values, given are {list(values)}")
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def preemptions() -> int:
    """Return how often the kernel took the CPU from this thread."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def compete(
    contestants: Sequence[Contestant],
    effort: Effort = Effort(),
    clock: Clock = time.perf_counter_ns,
    interrupted: Preemptions = preemptions,
) -> Outcome:
    """Let contestants take turns.

    Raises
    ------
    ValueError
        When two have one name.
    """
    names = [each.name for each in contestants]
    if len(set(names)) != len(names):
        raise ValueError(f"contestants need names of their own, given are {', '.join(names)}")
    passes = {each.name: _passes(each, effort.sample_s * 1e9, clock) for each in contestants}
    ns: dict[str, list[float]] = {name: [] for name in names}
    repeated = 0
    began = clock()
    with _no_collection():
        for number in range(MOST_ROUNDS):
            if number >= FEWEST_ROUNDS and clock() - began >= effort.budget_s * 1e9:
                break
            for each in contestants if number % 2 == 0 else reversed(contestants):
                for attempt in range(_ATTEMPTS):
                    before = interrupted()
                    found = _sample(each, passes[each.name], clock)
                    if interrupted() == before:
                        break
                    repeated += attempt < _ATTEMPTS - 1
                ns[each.name].append(found)
    return Outcome(ns, repeated)


def _passes(contestant: Contestant, sample_ns: float, clock: Clock) -> int:
    """Return how many passes fill a sample; they warm up caches, tables of pages and code on the way."""
    passes = 1
    while True:
        each = _sample(contestant, passes, clock)
        if each * passes >= sample_ns / 2:
            return max(1, round(sample_ns / max(each, 1.0)))
        passes *= 2


def _sample(contestant: Contestant, passes: int, clock: Clock) -> float:
    run = contestant.run
    begin = clock()
    for _ in range(passes):
        run()
    return (clock() - begin) / passes


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of samples."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def pinned() -> Iterator[int]:
    """Keep this thread on one CPU, the last that it may use (the first serves most interrupts); yield its number."""
    before = os.sched_getaffinity(0)
    cpu = max(before)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)
