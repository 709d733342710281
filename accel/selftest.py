"""The gate that every engine passes before it may serve: known answers, then jobs of odd sizes against the reference.

One job has every awkward thing in one batch: all suites, both key phases, slots without keys, damaged packets, rows
at odd offsets between guard bytes. A finished job must equal the reference's in every byte of every column, so that a
guard byte that was touched, or a rejected row that was not zeroed, fails it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, product
from random import Random

import numpy as np
from numpy.typing import NDArray

from accel.engine import Engine, EngineSession, Job, KeySpec, Operation, Status, Suite
from accel.known_answers import PARITY, SEALED_PACKETS, SPAN
from accel.reference.engine import ReferenceEngine
from accel.trials import (
    PATIENCE,
    AnyJob,
    OpenRow,
    SealRow,
    SpanRow,
    copy_job,
    difference,
    lose_units,
    open_job,
    packet,
    rows_of,
    run,
    seal_job,
    span_job,
)
from drivers.errors import DriverError

HALF_SLOT, REMOVED_SLOT, UNKNOWN_SLOT = 6, 8, 1_000_000
"""A slot whose second phase has no key, one whose keys were removed, and one that never had any."""
_KNOWN_SLOT = 100
_SEED = 0x56414E
_PAYLOADS = (4, 5, 15, 16, 17, 31, 32, 33, 63, 64, 65, 80, 97, 333)
"""Bytes; on both sides of the blocks of every cipher."""
_NUMBERS = (0, 1, 255, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 40) + 12345, (1 << 62) - 1)
_SHAPES = ((1, 0, 1, 1), (3, 126, 8, 2), (10, 0, 129, 4), (17, 64, 63, 17), (40, 100, 15, 9), (128, 5, 31, 6))
"""(k, column, bytes, m)."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of a self-test.

    Attributes
    ----------
    passed
        Whether the engine may serve the operation.
    reason
        What was tested, or what came out wrong.
    kernels
        What the engine has measured of its own kernels, in words, and which serve.
    """

    passed: bool
    reason: str
    kernels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """A job and how it must come out."""

    name: str
    job: Job
    expected: Job


def self_test(engine: Engine, operation: Operation, patience: float = PATIENCE) -> Verdict:
    """Return whether ``engine`` computes ``operation`` as the reference does; never raises.

    ``patience`` is for each job, seconds.
    """
    test = SelfTest(engine, operation, patience)
    while (verdict := test.step()) is None:
        pass
    return verdict


class SelfTest:
    """A self-test in steps, for whoever has packets to carry in between: a step opens the engine, or does one job."""

    def __init__(self, engine: Engine, operation: Operation, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._operation = operation
        self._patience = patience
        self._doing = "opening it"
        self._steps = self._run()

    def step(self) -> Verdict | None:
        """Go on; return the verdict when there is one, None before. Never raises."""
        try:
            next(self._steps)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        except DriverError as error:
            return self._failed(str(error))
        except Exception as error:  # whatever a sick engine raises is a verdict on it, not on us
            return self._failed(f"{type(error).__name__}: {error}")
        return None

    def close(self) -> None:
        """Give it up, and close the engine."""
        self._steps.close()

    def _run(self) -> Generator[None, None, Verdict]:
        cases = all_cases(self._operation)
        health = self._engine.health()
        if not health.usable:
            return Verdict(passed=False, reason=f"it is not well: {health.reason}")
        session = self._engine.open(self._operation)
        try:
            _install(session, self._operation)
            for case in cases:
                yield
                self._doing = case.name
                wrong = _try(self._engine, session, case, self._patience)
                if wrong:
                    return self._failed(wrong)
        finally:
            session.close()
        rows = sum(len(case.job.status) for case in cases)
        text, kernels = f"self-test passed ({len(cases)} jobs, {rows} rows)", tuple(choices(self._engine))
        return Verdict(passed=True, reason="; ".join((text, *kernels)), kernels=kernels)

    def _failed(self, reason: str) -> Verdict:
        return Verdict(passed=False, reason=f"self-test of {self._operation.value} failed, {self._doing}: {reason}")


def choices(engine: Engine) -> list[str]:
    """Return in words what an engine has measured of its own kernels, and which serve; most have no choice."""
    return [str(each) for each in getattr(engine, "choices", ())]


def _try(engine: Engine, session: EngineSession, case: Case, patience: float) -> str:
    job = copy_job(case.job)
    run(engine, session, job, patience)
    return difference(job, case.expected)


def _install(session: EngineSession, operation: Operation) -> None:
    if operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN):
        keys = slot_keys()
        for slot, spec in keys.items():
            session.install_key(slot, spec)
        session.install_key(REMOVED_SLOT, keys[0])
        session.install_key(REMOVED_SLOT + 1, keys[1])
        session.remove_key(REMOVED_SLOT)
        session.remove_key(UNKNOWN_SLOT)


@cache
def slot_keys() -> dict[int, KeySpec]:
    """Return keys by slot: two phases of each suite, a first phase alone, and those of the known answers.

    The header-protection keys of the two phases differ, to see that an engine uses that of the first.
    """
    generator = Random(_SEED)
    keys: dict[int, KeySpec] = {}
    for index, suite in enumerate(Suite):
        for phase in range(2):
            size = suite.key_length
            keys[2 * index + phase] = KeySpec(suite, *map(generator.randbytes, (size, 12, size)))
    keys[HALF_SLOT] = keys[0]
    for index, answer in enumerate(SEALED_PACKETS):
        keys[_KNOWN_SLOT + 2 * index] = keys[_KNOWN_SLOT + 2 * index + 1] = answer.keys
    return keys


@cache
def all_cases(operation: Operation) -> tuple[Case, ...]:
    """Return the jobs of a self-test; the reference computes their answers once."""
    make: Callable[[], Iterator[Case]] = {
        Operation.FEC_ENCODE: _encode_cases,
        Operation.FEC_DECODE: _decode_cases,
        Operation.AEAD_SEAL: _seal_cases,
        Operation.AEAD_OPEN: _open_cases,
    }[operation]
    return tuple(make())


def refer(operation: Operation, job: AnyJob) -> AnyJob:
    """Return what the reference makes of a job."""
    engine = ReferenceEngine()
    session = engine.open(operation)
    _install(session, operation)
    expected = copy_job(job)
    engine.submit(session, expected)
    return expected


def _write(memory: NDArray[np.uint8], offset: int, data: bytes) -> None:
    memory[offset : offset + len(data)] = np.frombuffer(data, np.uint8)


def _seal_cases() -> Iterator[Case]:
    known = [SealRow(_KNOWN_SLOT + 2 * i, each.row.number, each.row.packet) for i, each in enumerate(SEALED_PACKETS)]
    job = seal_job(known)
    expected = copy_job(job)
    for offset, each in zip(job.target_offset.tolist(), SEALED_PACKETS, strict=True):
        _write(expected.target, offset, each.sealed)
    expected.status[:] = Status.DONE
    yield Case("known answers", job, expected)
    rows = _plain_rows()
    for name, some in (("one row", rows[:1]), ("many rows", rows + _keyless_rows())):
        job = seal_job(some)
        yield Case(name, job, refer(Operation.AEAD_SEAL, job))


def _open_cases() -> Iterator[Case]:
    known = [OpenRow(_KNOWN_SLOT + 2 * i, each.row.number - 1, each.sealed) for i, each in enumerate(SEALED_PACKETS)]
    job = open_job(known)
    expected = copy_job(job)
    for i, each in enumerate(SEALED_PACKETS):
        _write(expected.target, int(job.target_offset[i]), each.row.packet)
        expected.number[i] = each.row.number
    expected.status[:] = Status.DONE
    yield Case("known answers", job, expected)
    rows = _plain_rows()
    sealed = rows_of(refer(Operation.AEAD_SEAL, seal_job(rows)))
    good = [
        OpenRow(row.slot, max(-1, row.number + step), data)
        for row, step, data in zip(rows, cycle((-1, 9, -100, 1 << 30)), sealed, strict=False)
    ]
    for name, some in (("one row", good[:1]), ("many rows", good), ("damaged rows", [*_damage(good), *good[:1]])):
        job = open_job(some)
        yield Case(name, job, refer(Operation.AEAD_OPEN, job))


def _plain_rows() -> list[SealRow]:
    """Return rows of every suite, phase and size, in disorder."""
    generator = Random(_SEED + 1)
    rows = []
    for index, (suite, size) in enumerate(product(range(len(Suite)), _PAYLOADS)):
        number, phase = _NUMBERS[index % len(_NUMBERS)], index & 1
        rows.append(SealRow(2 * suite, number, packet(number, phase, generator.randbytes(size))))
    generator.shuffle(rows)
    return rows


def _keyless_rows() -> list[SealRow]:
    """Return rows that no engine can seal: an unknown slot, a missing phase, removed keys."""
    slots = ((UNKNOWN_SLOT, 0), (-1, 0), (HALF_SLOT, 1), (REMOVED_SLOT, 0), (REMOVED_SLOT, 1))
    return [SealRow(slot, 5, packet(5, phase, bytes(20 + phase))) for slot, phase in slots]


def _damage(rows: list[OpenRow]) -> list[OpenRow]:
    """Return rows that no engine may open: a byte changed, cut short, or without a key."""
    damaged = []
    for row, place in zip(rows, cycle((0, 1, 8, 9, 12, 13, 16, -17, -16, -1)), strict=False):
        data = bytearray(row.packet)
        data[place] ^= 1 if place else 0x20
        damaged.append(OpenRow(row.slot, row.largest, bytes(data)))
    damaged += [OpenRow(row.slot, row.largest, row.packet[:size]) for row, size in zip(rows, range(34), strict=False)]
    damaged += [OpenRow(slot, 0, rows[0].packet) for slot in (UNKNOWN_SLOT, -1, REMOVED_SLOT)]
    return damaged


def _spans(*, distinct: bool) -> list[SpanRow]:
    generator = Random(_SEED + 2)
    spans = []
    for k, column, size, m in _SHAPES:
        rows = generator.sample(range(127), m) if distinct else generator.choices(range(127), k=m)
        lost = generator.sample(range(k), min(m, k))
        units = tuple(generator.randbytes(size) for _ in range(k))
        spans.append(SpanRow(units, column, tuple(rows[: len(lost)]), tuple(lost)))
    return spans


def _encode_cases() -> Iterator[Case]:
    job = span_job([SPAN])
    expected = copy_job(job)
    for offset, unit in zip(job.parity.tolist(), PARITY, strict=True):
        _write(expected.memory, offset, unit)
    expected.status[:] = Status.DONE
    yield Case("known answer", job, expected)
    units = (b"abc", b"def")
    outside = [SpanRow(units, 0, (0, 127)), SpanRow((b"x",) * 129, 0, (0,)), SpanRow(units, 0, (255,))]
    job = span_job([*_spans(distinct=False), *outside])
    yield Case("many spans", job, refer(Operation.FEC_ENCODE, job))


def _decode_cases() -> Iterator[Case]:
    job = span_job([SPAN])
    for offset, unit in zip(job.parity.tolist(), PARITY, strict=True):
        _write(job.memory, offset, unit)
    expected = copy_job(job)
    expected.status[:] = Status.DONE
    lose_units(job)
    yield Case("known answer", job, expected)
    units = (b"abc", b"def", b"ghi")
    wrong = [((3, 3), (0, 1)), ((0, 1), (2, 2)), ((0,), (3,)), ((127,), (0,)), ((0, 1, 2, 3), (0, 1, 2, 0))]
    outside = [SpanRow(units, 0, rows, lost) for rows, lost in wrong]
    job = refer(Operation.FEC_ENCODE, span_job([*_spans(distinct=True), *outside]))
    lose_units(job)
    yield Case("many spans", job, refer(Operation.FEC_DECODE, job))
