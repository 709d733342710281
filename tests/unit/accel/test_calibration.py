from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from accel.aead.cryptography import CryptographyAead
from accel.calibration import BATCHES, Shape, calibrate, make_jobs, measure, shapes_of
from accel.engine import Engine, Operation, Status
from accel.fec.simd import SimdFec
from accel.reference.engine import ReferenceEngine
from accel.trials import copy_job, difference
from accel.unreliable import Mood, UnreliableEngine

ENCODE, DECODE, SEAL, OPEN = Operation


def software(operation: Operation) -> Engine:
    return SimdFec() if operation in (ENCODE, DECODE) else CryptographyAead()


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_the_jobs_are_sound(operation: Operation) -> None:
    """Any engine does them, again and again, as the reference does."""
    shape = shapes_of(operation)[0]
    for batch, job in make_jobs(operation, shape, (1, 3)).items():
        assert len(job.status) == batch
        for engine in (software(operation), ReferenceEngine()):
            session = engine.open(operation)
            if operation in (SEAL, OPEN):
                from accel.calibration import _KEYS

                for slot in (0, 1):
                    session.install_key(slot, _KEYS)
            first = copy_job(job)
            engine.submit(session, first)
            assert (first.status == Status.DONE).all()
            again = copy_job(first)
            engine.submit(session, again)
            if operation is not DECODE:  # a decode job of anything is a decode job of something else afterwards
                assert difference(again, first) == ""


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_every_engine_and_batch_has_a_cell(operation: Operation) -> None:
    engines = [software(operation), UnreliableEngine(software(operation))]
    cells = list(measure(engines, operation, shapes_of(operation)[0], 0.0, batches=(1, 16)))
    assert Counter((cell.engine, cell.batch) for cell in cells) == {
        (engine.name, batch): 1 for engine in engines for batch in (1, 16)
    }
    for cell in cells:
        assert 0 < cell.wall_ns <= cell.p99_ns
        assert cell.gigabytes > 0


@pytest.mark.parametrize("mood", [Mood.DYING, Mood.FAULTY, Mood.BUSY], ids=lambda mood: mood.value)
def test_an_engine_that_fails_has_none(mood: Mood) -> None:
    device = UnreliableEngine(CryptographyAead())
    device.mood = mood
    cells = list(measure([CryptographyAead(), device], SEAL, Shape(64), 0.0, batches=(4,)))
    assert [cell.engine for cell in cells] == ["cryptography"]


def test_the_budget_is_kept() -> None:
    """The clock is told: however long a cell takes, what is left is shared by those that follow."""
    times = iter(np.arange(0.0, 1e6, 0.5).tolist())
    asked: list[float] = []

    def clock() -> float:
        asked.append(next(times))
        return asked[-1]

    cells = list(calibrate({SEAL: [CryptographyAead()], OPEN: []}, 3.0, clock))
    assert {cell.operation for cell in cells} == {"aead.seal"}
    assert {cell.batch for cell in cells} == set(BATCHES)


def test_large_batches_of_large_spans_are_left_out() -> None:
    cells = list(measure([SimdFec()], ENCODE, Shape(1200, 32, 8), 0.0))
    assert max(cell.batch for cell in cells) == 256
