"""A million random packets and blocks on a device, in large batches, against ``simd``; samples meet the reference too.

On a stand-in or an emulator it is a few thousand, to see that the test itself is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from accel.aead.simd import SimdAead
from accel.catalogue import Kind
from accel.engine import Engine, EngineSession, Job, OpenJob, Operation, SealJob, SpanJob, Status
from accel.fec.simd import SimdFec
from accel.trials import copy_job, difference, run
from tests.engines.engine_list import refer, session_of
from tests.hw.conftest import DEVICES, Machine
from tests.hw.random_jobs import arriving, losing, random_packets, random_spans, some_rows, some_spans

ENCODE, DECODE, SEAL, OPEN = Operation
PATIENCE = 120.0
_PACKETS, _SPANS = 4096, 1024
"""Rows of a batch at most: more than a lane holds."""
_SAMPLE = 2
each_device = pytest.mark.parametrize("machine", DEVICES, indirect=True)


class Bench:
    """An engine and the oracle, side by side, for one operation."""

    def __init__(self, engine: Engine, operation: Operation) -> None:
        self.oracle: Engine = SimdAead() if operation in Kind.AEAD.operations else SimdFec()
        self.operation = operation
        self._sessions: list[tuple[Engine, EngineSession]] = [
            (each, session_of(each, operation)) for each in (engine, self.oracle)
        ]

    def check(self, job: Job, sample: Callable[[Job], Job]) -> Job:
        """Have both do a job, and the reference a sample of it; return the job when it is done."""
        theirs, ours = copy_job(job), copy_job(job)
        for (engine, session), each in zip(self._sessions, (ours, theirs), strict=True):
            run(engine, session, each, PATIENCE)
        assert difference(ours, theirs) == ""
        few = sample(job)
        alone = copy_job(few)
        run(self.oracle, self._sessions[1][1], alone, PATIENCE)
        assert difference(alone, refer(self.operation, few)) == ""
        return ours

    def close(self) -> None:
        for _, session in self._sessions:
            session.close()


def sampler(generator: np.random.Generator) -> Callable[[Job], Job]:
    def sample(job: Job) -> Job:
        rows = generator.integers(0, len(job.status), _SAMPLE)
        return some_spans(job, rows) if isinstance(job, SpanJob) else some_rows(job, np.unique(rows))

    return sample


@each_device
def test_packets(machine: Machine) -> None:
    engine, generator = machine.engine(), np.random.default_rng(61)
    sealing, opening = Bench(engine, SEAL), Bench(engine, OPEN)
    sample, done, opened = sampler(generator), 0, 0
    while done < machine.count:
        sealed = sealing.check(random_packets(generator, min(_PACKETS, machine.count - done)), sample)
        assert isinstance(sealed, SealJob)
        found = opening.check(arriving(generator, sealed), sample)
        assert isinstance(found, OpenJob)
        done += len(sealed.status)
        opened += int((found.status == Status.DONE).sum())
    assert 0.5 * done < opened < 0.95 * done
    sealing.close()
    opening.close()


@each_device
def test_blocks(machine: Machine) -> None:
    engine, generator = machine.engine(), np.random.default_rng(62)
    encoding, decoding = Bench(engine, ENCODE), Bench(engine, DECODE)
    sample, done = sampler(generator), 0
    while done < machine.count:
        encoded = encoding.check(random_spans(generator, min(_SPANS, machine.count - done)), sample)
        assert isinstance(encoded, SpanJob)
        rebuilt = decoding.check(losing(encoded), sample)
        assert difference(rebuilt, encoded) == ""
        assert (rebuilt.status == Status.DONE).all()
        done += len(encoded.status)
    encoding.close()
    decoding.close()
