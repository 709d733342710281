from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.bench.compare import (
    MEMCPY,
    Candidate,
    Comparison,
    Point,
    Question,
    candidates,
    crossovers,
    entrants,
    measure,
    prepare,
)
from accel.bench.contest import Effort, Spread
from accel.catalogue import Kind, Row
from accel.engine import Engine, EngineSession, Job, Maturity, Operation, Provenance, Status, Ticket
from accel.fec.simd import SimdFec
from accel.reference.engine import ReferenceEngine
from accel.sight import Sighting
from drivers.errors import DriverError

TINY = Effort(budget_s=1e-6, sample_s=1e-6)
ENCODE, DECODE, SEAL, OPEN = Operation


def row(name: str, make: Callable[[], Engine] = ReferenceEngine, provenance: Provenance = Provenance.CPU) -> Row:
    return Row(
        name, (Kind.FEC, Kind.AEAD), provenance, Maturity.UNTESTED, "nothing",
        lambda _: Sighting(present=name != "absent", missing=("the card",)), "a card", {Kind.FEC: make},
    )  # fmt: skip


def cannot() -> Engine:
    raise DriverError("no power")


class LateEngine:
    """Finishes a job when it is polled the second time."""

    name = "late"
    operations = frozenset({ENCODE})
    provenance = Provenance.FAKE
    maturity = Maturity.UNTESTED

    def __init__(self) -> None:
        self.waiting: list[tuple[LateTicket, Job]] = []
        self.calls = 0
        self.software = SimdFec()

    def open(self, operation: Operation) -> EngineSession:
        return self.software.open(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        self.calls += 1
        if self.waiting or self.calls % 3 == 0:
            return None
        job.status[:] = Status.PENDING
        ticket = LateTicket()
        self.waiting.append((ticket, job))
        return ticket

    def poll(self) -> int:
        for ticket, job in self.waiting:
            self.software.submit(self.software.open(ENCODE), job)
            ticket.done = True
        done, self.waiting = len(self.waiting), []
        return done

    def cancel(self, ticket: Ticket) -> bool:
        return ticket.done

    def health(self) -> Any:
        return self.software.health()


class LateTicket:
    done = False


ROWS = [
    row("one"), row("absent"), row("broken", cannot), row("reference"),
    row("pretend", provenance=Provenance.EMULATOR),
]  # fmt: skip


def test_who_takes_part_and_who_does_not() -> None:
    found, absent = candidates(ENCODE, rows=ROWS)
    assert [each.name for each in found] == ["one"]
    assert "the card" in absent["absent"]
    assert "a card" in absent["absent"]
    assert "no power" in absent["broken"]
    assert set(absent) == {"absent", "broken"}
    assert candidates(SEAL, rows=ROWS)[1]["one"] == "no such engine in this version"


def test_emulators_take_part_when_they_are_named() -> None:
    found, _ = candidates(ENCODE, ["pretend"], ROWS)
    assert [(each.name, each.emulated) for each in found] == [("one", False), ("pretend", True)]


def test_one_alone_is_compared_with_the_reference() -> None:
    assert [each.name for each in entrants(ENCODE, rows=ROWS)[0]] == ["one", "reference"]
    assert [each.name for each in entrants(ENCODE, "one", "pretend", ROWS)[0]] == ["one", "pretend"]


@pytest.mark.parametrize(
    ("name", "told"), [("one1", "did you mean 'one'"), ("absent", "the card"), ("broken", "no power")]
)
def test_an_engine_that_is_named_must_be_there(name: str, told: str) -> None:
    with pytest.raises(DriverError, match=told):
        candidates(ENCODE, [name], ROWS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shape": (129, 1)}, "k=129"), ({"shape": (2, 3)}, "k=2, m=3"), ({"size": 0}, "0 and 1"),
        ({"batches": []}, "at least one"), ({"batches": [16_384], "size": 65_000}, "MiB"),
    ],
)  # fmt: skip
def test_what_nobody_can_do(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(Question(DECODE, [1], 100), **changes)


def candidate(name: str, engine: Engine, provenance: Provenance = Provenance.CPU) -> Candidate:
    return Candidate(name, engine, provenance, Maturity.UNTESTED)


@pytest.mark.parametrize("operation", [ENCODE, DECODE, SEAL, OPEN], ids=lambda each: each.value)
def test_every_operation_is_measured(operation: Operation) -> None:
    question = Question(operation, [1, 3], 100, (4, 2))
    engine: Engine = SimdFec() if question.is_fec else CryptographyAead()
    found = measure(question, ([candidate("a", engine), candidate("b", ReferenceEngine())], {}), Effort(0.1, 1e-6))
    assert found.subject == "a"
    assert found.baseline == "b"
    assert [point.batch for point in found.points] == [1, 3]
    assert found.points[0].ratio["a"].median > 1
    assert found.points[0].ratio["b"].median == 1
    assert set(found.points[1].row_ns) <= {"a", "b", MEMCPY}
    assert found.points[0].row_ns["b"].median > found.points[0].row_ns["a"].median


def test_who_is_too_slow_for_the_budget_is_left_out() -> None:
    question = Question(SEAL, [1, 1024], 1350)
    found = measure(question, ([candidate("slow", ReferenceEngine())], {}), Effort(0.02, 1e-6))
    assert set(found.points[-1].row_ns) == {MEMCPY}
    assert found.points[-1].ratio == {}


def test_who_is_named_is_measured_at_the_smallest_batch_however_slow() -> None:
    question = Question(SEAL, [1, 1024], 1350)
    effort = Effort(1e-5, 1e-6)
    found = measure(question, ([candidate("slow", ReferenceEngine())], {}), effort, baseline="slow")
    assert found.points[0].ratio["slow"].median == 1
    assert set(found.points[-1].row_ns) == {MEMCPY}


def test_an_engine_that_finishes_later_and_is_full_at_times() -> None:
    engine = LateEngine()
    run = prepare(Question(ENCODE, [2], 64, (3, 1)), candidate("late", engine), 2)
    for _ in range(5):
        run()
    assert not engine.waiting


def test_an_engine_that_fails_is_no_contestant() -> None:
    class Failing(SimdFec):
        def submit(self, session: EngineSession, job: Job) -> Ticket:
            ticket = super().submit(session, job)
            job.status[:] = Status.FAULT
            return ticket

    with pytest.raises(DriverError, match=r"bad: fec.encode came out as \[-2\]"):
        prepare(Question(ENCODE, [2], 64), candidate("bad", Failing()), 2)


def test_nobody_at_all() -> None:
    with pytest.raises(DriverError, match="x: not here"):
        measure(Question(ENCODE, [1], 64), ([], {"x": "not here"}), TINY)


def point(batch: int, **row_ns: float) -> Point:
    spreads = {name: Spread(ns, ns, ns) for name, ns in row_ns.items()}
    return Point(batch, spreads, {name: Spread(row_ns["a"] / ns, 0.5, 2.0) for name, ns in row_ns.items()})


def comparison(*points: Point, fake: str = "", lead: tuple[str, ...] = ()) -> Comparison:
    names = [name for name in points[0].row_ns if name != MEMCPY]
    engines = tuple(
        candidate(name, ReferenceEngine(), Provenance.EMULATOR if name == fake else Provenance.CPU) for name in names
    )
    crossing = crossovers(list(zip(points, lead, strict=True))) if lead else ()
    question = Question(ENCODE, [each.batch for each in points], 1200)
    return Comparison(question, engines, {}, "b", "a", points, crossing)


def test_a_crossover_is_interpolated() -> None:
    """At 4 the new one takes twice as long, at 64 half: halfway on a logarithmic axis lies 16."""
    found = comparison(point(4, a=10, b=20, memcpy=5), point(64, a=10, b=5, memcpy=5), lead=("a", "b"))
    (crossing,) = found.crossovers
    assert (crossing.before, crossing.after, crossing.below, crossing.above, crossing.batch) == ("a", "b", 4, 64, 16)


def test_a_crossover_to_one_that_was_not_there_before() -> None:
    assert crossovers([(point(1, a=5), "a"), (point(8, a=9, b=3), "b")])[0].batch == 8
    assert crossovers([(point(1, a=5), "a"), (point(8, a=9), "a")]) == ()


def test_an_emulator_never_leads() -> None:
    question = Question(ENCODE, [1], 64, (3, 1))
    fast = candidate("fast", SimdFec(), Provenance.EMULATOR)
    found = measure(question, ([fast, candidate("slow", ReferenceEngine())], {}), Effort(0.1, 1e-6))
    assert found.subject == "slow"
    assert found.crossovers == ()
