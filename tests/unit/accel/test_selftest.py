"""The gate: every sick engine is caught, every well one passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel import trials
from accel.aead.cryptography import CryptographyAead
from accel.catalogue import CATALOGUE
from accel.engine import Engine, Health, Operation
from accel.fec.simd import SimdFec
from accel.selftest import all_cases, self_test
from accel.trials import difference, run
from tests.unit.accel import sick

WELL = [
    (make(), operation)
    for row in CATALOGUE
    if row.look(Path("/")).present and not row.emulated
    for kind, make in row.make.items()
    for operation in kind.operations
]
"""What is there; an emulator has tests of its own, with more patience."""
ENCODE, DECODE, SEAL, OPEN = Operation


@pytest.mark.parametrize(("engine", "operation"), WELL)
def test_a_well_engine_passes(engine: Engine, operation: Operation) -> None:
    verdict = self_test(engine, operation)
    assert verdict.passed, verdict.reason
    assert verdict.reason.startswith("self-test passed (")


@pytest.mark.parametrize(
    ("engine", "operation", "reason"),
    [
        (sick.simd(sick.flip_parity), ENCODE, "known answer: memory["),
        (sick.simd(sick.overrun_unit), ENCODE, "known answer: memory["),
        (sick.simd(sick.reject_nothing), ENCODE, "many spans: status["),
        (sick.simd(sick.forget_status), ENCODE, "known answer: status["),
        (sick.simd(sick.flip_rebuilt), DECODE, "known answer: memory["),
        (sick.simd(sick.reject_nothing), DECODE, "many spans: status["),
        (sick.aead(sick.flip_tag), SEAL, "known answers: target["),
        (sick.aead(sick.unprotect_header), SEAL, "known answers: target["),
        (sick.aead(sick.overrun_row), SEAL, "known answers: target["),
        (sick.aead(sick.write_source), SEAL, "known answers: source["),
        (sick.aead(sick.reject_nothing), SEAL, "many rows: status["),
        (sick.aead(sick.leave_plaintext), SEAL, "many rows: target["),
        (sick.ForgetfulEngine(CryptographyAead()), SEAL, "many rows: target["),
        (sick.aead(sick.overrun_row), OPEN, "known answers: target["),
        (sick.aead(sick.reject_nothing), OPEN, "damaged rows: status["),
        (sick.aead(sick.leave_plaintext), OPEN, "damaged rows: target["),
        (sick.aead(sick.keep_numbers), OPEN, "known answers: number["),
        (sick.simd(sick.raise_an_error), ENCODE, "known answer: RuntimeError: the device is on fire"),
        (sick.SickEngine(SimdFec()), SEAL, "opening it: ValueError: engine simd"),
    ],
)
def test_a_sick_engine_is_caught(engine: Engine, operation: Operation, reason: str) -> None:
    verdict = self_test(engine, operation)
    assert not verdict.passed
    assert verdict.reason.startswith(f"self-test of {operation.value} failed, ")
    assert reason in verdict.reason


def test_an_engine_that_is_not_well_is_not_opened() -> None:
    engine = sick.SickEngine(SimdFec(), sick.raise_an_error, Health(usable=False, reason="the device has gone"))
    assert self_test(engine, ENCODE).reason == "it is not well: the device has gone"


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_an_asynchronous_engine_passes(operation: Operation) -> None:
    engine = sick.LateEngine(SimdFec() if operation in (ENCODE, DECODE) else CryptographyAead())
    verdict = self_test(engine, operation)
    assert verdict.passed, verdict.reason


def test_an_engine_that_never_finishes_is_given_up() -> None:
    class Stuck(sick.LateEngine):
        def poll(self) -> int:
            return 0

    assert "did not finish a job" in self_test(Stuck(SimdFec()), ENCODE, patience=0.0).reason


def test_the_jobs_stay_as_they_were() -> None:
    """They are shared by all engines."""
    engine = SimdFec()
    for case in all_cases(ENCODE):
        before = trials.copy_job(case.job)
        run(engine, engine.open(ENCODE), trials.copy_job(case.job))
        assert not difference(case.job, before)
