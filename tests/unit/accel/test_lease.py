"""An engine is lent only where compiled code may do what Serving would: one engine, well, and made for it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from accel.aead.cryptography import CryptographyAead
from accel.aead.simd import SimdAead
from accel.engine import EngineSession, Job, Maturity, Operation, Provenance, Ticket
from accel.fec.simd import SimdFec
from accel.finished import FINISHED, Synchronous
from accel.job_block import JobBlocks
from accel.lease import CONTEXT, FUNCTION, LEFT
from accel.rung import Step
from accel.selftest import all_cases, slot_keys
from accel.serving import Serving
from accel.trials import copy_job, difference


class Wrapped(Synchronous):
    """An engine around another one, whose session it uses: it must be asked itself."""

    name = "wrapped"
    provenance = Provenance.CPU
    maturity = Maturity.UNTESTED

    def __init__(self) -> None:
        self._inner = SimdAead()
        self.operations = self._inner.operations

    def open(self, operation: Operation) -> EngineSession:
        return self._inner.open(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        self._inner.submit(session, job)
        return FINISHED


def serve(engine: SimdAead | SimdFec | Wrapped | CryptographyAead, operation: Operation) -> Serving:
    spare = SimdFec() if operation in (Operation.FEC_ENCODE, Operation.FEC_DECODE) else CryptographyAead()
    serving = Serving(engine, engine.open(operation), (spare,), seed=1)
    if operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN):
        for slot, spec in slot_keys().items():
            serving.session.install_key(slot, spec)
    return serving


@pytest.mark.parametrize("operation", list(Operation))
def test_by_the_words_of_a_lease_a_job_comes_out_as_by_the_engine(operation: Operation) -> None:
    fec = operation in (Operation.FEC_ENCODE, Operation.FEC_DECODE)
    serving = serve(SimdFec() if fec else SimdAead(), operation)
    function, context = serving.lease.view[FUNCTION], serving.lease.view[CONTEXT]
    assert function
    assert (context == 0) == fec
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(function)
    for case in all_cases(operation):
        job = copy_job(case.job)
        block = JobBlocks().block(job)
        address = int(block.ctypes.data)
        if context:
            word = ctypes.c_int64.from_address(context)
            before, word.value = word.value, address
            call(context)
            word.value = before
        else:
            call(address)
        assert difference(job, case.expected) == "", case.name
        again = copy_job(case.job)  # and the engine, called in between, notices nothing
        serving.run(again)
        assert difference(again, case.expected) == "", case.name


def test_nobody_is_lent_who_must_be_asked() -> None:
    for engine in (Wrapped(), CryptographyAead()):
        assert serve(engine, Operation.AEAD_SEAL).lease.view[FUNCTION] == 0


def test_a_lease_ends_with_the_service_and_begins_again_with_it() -> None:
    serving = serve(SimdAead(), Operation.AEAD_SEAL)
    lent = serving.lease.view[FUNCTION]
    serving.quarantine("simd", "a test")
    assert serving.lease.view[FUNCTION] == 0
    again = serve(SimdAead(), Operation.AEAD_SEAL)
    assert again.lease.view[FUNCTION] == lent
    mine, other = again.session.rungs[0].engine, CryptographyAead()
    again.adopt({0: [Step(0, other), Step(64, mine)]})
    assert again.lease.view[FUNCTION] == 0
    again.adopt({0: [Step(0, mine)]})
    assert again.lease.view[FUNCTION] == lent


def test_rows_that_are_done_by_lease_count_towards_the_next_that_is_computed_twice() -> None:
    serving = serve(SimdAead(), Operation.AEAD_SEAL)
    case = next(case for case in all_cases(Operation.AEAD_SEAL) if len(case.job.status))
    serving.lease.words[LEFT] = 1
    before = serving.counts["audited"]
    serving.run(copy_job(case.job))
    assert serving.counts["audited"] == before + 1
    assert 1 <= serving.lease.words[LEFT] < np.iinfo(np.int64).max
