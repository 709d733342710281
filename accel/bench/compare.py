"""Engines against each other over batch sizes: what each costs, who leads where, and what a copy of the bytes costs.

An engine takes part when its library is there and it passes its self-test. Emulators and the slow reference take part
only when they are named; an emulator never leads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from accel.bench.contest import FEWEST_ROUNDS, Clock, Contestant, Effort, Outcome, Spread, compete
from accel.bench.work import copier, install_keys, lose, make_packets, make_spans, stride, to_open
from accel.catalogue import CATALOGUE, Kind, Row
from accel.engine import Engine, Job, Maturity, Operation, Provenance, Status, Suite
from accel.preference import parse
from accel.selftest import self_test
from drivers.cpu import ROOT
from drivers.errors import DriverError

MEMCPY = "memcpy"
REFERENCE = "reference"
MOST_BYTES = 1 << 30
"""Bytes of the largest job."""
_WARM = 3
"""Passes before the first round, about."""


@dataclass(frozen=True)
class Question:
    """What is to be done: ``batches`` jobs of so many spans or packets of ``size`` bytes."""

    operation: Operation
    batches: Sequence[int]
    size: int
    shape: tuple[int, int] = (10, 4)
    suite: Suite = Suite.AES_128_GCM

    def __post_init__(self) -> None:
        """Refuse what nobody could do, before anything is measured."""
        if not self.batches:
            raise ValueError("name at least one batch size")
        self.job(1)
        most = max(self.batches) * stride(self.size) * (sum(self.shape) if self.is_fec else 2)
        if most > MOST_BYTES:
            raise ValueError(
                f"a batch of {max(self.batches)} would take {most >> 20} MiB, {MOST_BYTES >> 20} are allowed"
            )

    @property
    def is_fec(self) -> bool:
        """Whether rows are spans."""
        return self.operation in Kind.FEC.operations

    @property
    def row_bytes(self) -> int:
        """Bytes that count for a row: data units of a span, or the packet on the wire."""
        return self.shape[0] * self.size if self.is_fec else self.size

    def job(self, batch: int) -> Job:
        """Return the job; of AEAD_OPEN the packets are still to be sealed, see :func:`prepare`."""
        if not self.is_fec:
            return make_packets(self.size, batch)
        job = make_spans(self.shape, self.size, batch)
        return lose(job, batch) if self.operation is Operation.FEC_DECODE else job


@dataclass(frozen=True)
class Candidate:
    """An engine that may take part."""

    name: str
    engine: Engine
    provenance: Provenance
    maturity: Maturity

    @property
    def emulated(self) -> bool:
        """Whether its speed says nothing about a real device."""
        return self.provenance in (Provenance.EMULATOR, Provenance.FAKE)


@dataclass(frozen=True)
class Point:
    """All engines at one batch size.

    Attributes
    ----------
    row_ns
        Nanoseconds per row, by engine; ``memcpy`` is the copy of as many bytes.
    ratio
        Times as fast as the baseline, by engine.
    """

    batch: int
    row_ns: Mapping[str, Spread]
    ratio: Mapping[str, Spread]


@dataclass(frozen=True)
class Crossover:
    """Where another engine takes the lead: behind ``below``, at ``above`` at the latest, at about ``batch``."""

    before: str
    after: str
    below: int
    above: int
    batch: int


@dataclass(frozen=True)
class Comparison:
    """What was measured for one operation; ``absent`` says who could not take part, and why."""

    question: Question
    candidates: tuple[Candidate, ...]
    absent: Mapping[str, str]
    subject: str
    baseline: str
    points: tuple[Point, ...]
    crossovers: tuple[Crossover, ...] = field(default=())

    def gigabytes(self, point: Point, name: str) -> float:
        """Return GB/s."""
        return self.question.row_bytes / point.row_ns[name].median


def candidates(
    operation: Operation, names: Sequence[str] = (), rows: Sequence[Row] = CATALOGUE
) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Return the engines that can do an operation, and why others cannot.

    Parameters
    ----------
    names
        Engines that must take part even though they are emulators, or slow.

    Raises
    ------
    DriverError
        When a name is not known (says the nearest), or its engine cannot do it.
    """
    kind = next(kind for kind in Kind if operation in kind.operations)
    for name in names:
        parse(name, [row.name for row in rows if kind in row.kinds], f"{kind.value} engine")
    found: list[Candidate] = []
    absent: dict[str, str] = {}
    for row in rows:
        if kind not in row.kinds or (row.name not in names and (row.emulated or row.name == REFERENCE)):
            continue
        engine = _make(row, kind, operation)
        if isinstance(engine, str):
            absent[row.name] = engine
        else:
            found.append(Candidate(row.name, engine, row.provenance, row.maturity))
    for name in names:
        if name in absent:
            raise DriverError(f"engine {name} cannot do {operation.value}: {absent[name]}")
    return tuple(found), absent


def _make(row: Row, kind: Kind, operation: Operation) -> Engine | str:
    """Return the engine, or why there is none."""
    if kind not in row.make:
        return "no such engine in this version"
    sight = row.look(ROOT)
    if not sight.present:
        return f"not found: {', '.join(sight.missing)}; it needs {row.needs}"
    try:
        engine = row.make[kind]()
    except (ImportError, OSError, DriverError) as error:
        return f"it cannot be loaded: {error}"
    verdict = self_test(engine, operation)
    return engine if verdict.passed else verdict.reason


def prepare(question: Question, candidate: Candidate, batch: int) -> Callable[[], object]:
    """Return what does the job once more; it has been done once and every row was DONE.

    Raises
    ------
    DriverError
        When a row was not.
    """
    job, engine = question.job(batch), candidate.engine
    if question.operation is Operation.AEAD_OPEN:
        sealing = engine.open(Operation.AEAD_SEAL)
        install_keys(sealing, question.suite)
        engine.submit(sealing, job)
        job = to_open(job)  # type: ignore[arg-type]
    session = engine.open(question.operation)
    if not question.is_fec:
        install_keys(session, question.suite)
    engine.submit(session, job)
    while not (job.status != Status.PENDING).all():
        engine.poll()
    if not (job.status == Status.DONE).all():
        raise DriverError(
            f"{candidate.name}: {question.operation.value} came out as {sorted(set(job.status.tolist()))}"
        )

    def run() -> None:
        ticket = engine.submit(session, job)
        while ticket is None or not ticket.done:
            engine.poll()
            if ticket is None:
                ticket = engine.submit(session, job)

    return run


def entrants(
    operation: Operation, subject: str = "", baseline: str = "", rows: Sequence[Row] = CATALOGUE
) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Return who is to be measured: every real engine, and those that are named.

    Where there is only one, the reference takes part so that there is somebody to compare it with.

    Raises
    ------
    DriverError
        As :func:`candidates`.
    """
    names = [name for name in (subject, baseline) if name]
    found, absent = candidates(operation, names, rows)
    if len(found) < 2 and REFERENCE not in names:
        return candidates(operation, [*names, REFERENCE], rows)
    return found, absent


def measure(
    question: Question,
    found: tuple[Sequence[Candidate], Mapping[str, str]],
    effort: Effort,
    *,
    subject: str = "",
    baseline: str = "",
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Let the candidates compete at every batch size.

    Parameters
    ----------
    effort
        For each batch size; who cannot do five passes in twice that is left out there. Who is named takes part at the
        smallest batch in any case: a first call that was slow must not leave a comparison without its baseline.
    subject
        Whose figures are told first; "" = the fastest real engine at the largest batch.
    baseline
        With whom all are compared; "" = the fastest of the other real engines.

    Raises
    ------
    DriverError
        When nobody takes part.
    """
    engines, absent = found
    if not engines:
        raise DriverError(f"no engine can do {question.operation.value}: {_why(absent)}")
    outcomes: dict[int, Outcome] = {}
    row_ns = {each.name: _once(question, each, clock) for each in engines}
    for batch in sorted(set(question.batches)):
        patience_ns = 2e9 * max(effort.budget_s, effort.sample_s) / (FEWEST_ROUNDS + _WARM)
        wanted = (subject, baseline) if not outcomes else ()
        able = [each for each in engines if each.name in wanted or row_ns[each.name] * batch <= patience_ns]
        outcomes[batch] = _contest(question, able, batch, effort, clock)
        row_ns |= {each.name: outcomes[batch].time(each.name).median / batch for each in able}
    leaders = {batch: _order(engines, outcome) for batch, outcome in outcomes.items()}
    # At the largest batch the fastest first; who was too slow for it comes behind.
    ranked = list(dict.fromkeys(name for order in reversed(leaders.values()) for name in order)) or [engines[0].name]
    subject = subject or next((name for name in ranked if name != baseline), ranked[0])
    baseline = baseline or next((name for name in ranked if name != subject), subject)
    points = tuple(_point(batch, outcome, baseline) for batch, outcome in outcomes.items())
    lead = [(point, order[0]) for point, order in zip(points, leaders.values(), strict=True) if order]
    return Comparison(question, tuple(engines), dict(absent), subject, baseline, points, crossovers(lead))


def _why(absent: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in absent.items()) or "no other engine is known"


def _once(question: Question, candidate: Candidate, clock: Clock) -> float:
    """Return the nanoseconds of one row in a batch of one."""
    run = prepare(question, candidate, 1)
    run()
    begin = clock()
    run()
    return float(clock() - begin)


def _contest(question: Question, able: Sequence[Candidate], batch: int, effort: Effort, clock: Clock) -> Outcome:
    engines = [Contestant(each.name, prepare(question, each, batch)) for each in able]
    return compete([*engines, Contestant(MEMCPY, copier(question.row_bytes * batch))], effort, clock)


def _order(engines: Sequence[Candidate], outcome: Outcome) -> list[str]:
    """Return the real engines that took part, the fastest first."""
    names = [each.name for each in engines if not each.emulated and each.name in outcome.ns]
    return sorted(names, key=lambda name: outcome.time(name).median)


def _point(batch: int, outcome: Outcome, baseline: str) -> Point:
    times = {name: outcome.time(name) for name in outcome.ns}
    row_ns = {name: Spread(each.median / batch, each.low / batch, each.high / batch) for name, each in times.items()}
    there = [name for name in outcome.ns if name != MEMCPY] if baseline in outcome.ns else []
    return Point(batch, row_ns, {name: outcome.ratio(name, baseline) for name in there})


def crossovers(lead: Sequence[tuple[Point, str]]) -> tuple[Crossover, ...]:
    """Return where the lead changes; the batch size is interpolated, both axes logarithmic."""
    changes = []
    for (low, before), (high, after) in pairwise(lead):
        if before != after:
            changes.append(Crossover(before, after, low.batch, high.batch, _between(low, high, before, after)))
    return tuple(changes)


def _between(low: Point, high: Point, before: str, after: str) -> int:
    if not all(name in point.row_ns for point in (low, high) for name in (before, after)):
        return high.batch
    gaps = [
        math.log(point.row_ns[after].median / point.row_ns[before].median) for point in (low, high)
    ]  # from above 0 to below
    share = gaps[0] / (gaps[0] - gaps[1]) if gaps[0] > gaps[1] else 1.0
    return round(low.batch * math.exp(share * math.log(high.batch / low.batch)))
