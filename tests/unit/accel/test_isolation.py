from __future__ import annotations

import numpy as np
import pytest

from accel.aead.cryptography import CryptographyAead
from accel.engine import Operation, Status
from accel.fec.simd import SimdFec
from accel.isolation import Isolation, pick
from accel.selftest import all_cases, slot_keys
from accel.trials import AnyJob, copy_job, difference

CASES = [(operation, case) for operation in Operation for case in all_cases(operation)]
ENCODE, DECODE, SEAL, OPEN = Operation


def work(operation: Operation, job: AnyJob) -> AnyJob:
    engine = SimdFec() if operation in (ENCODE, DECODE) else CryptographyAead()
    session = engine.open(operation)
    if operation in (SEAL, OPEN):
        for slot, spec in slot_keys().items():
            session.install_key(slot, spec)
    engine.submit(session, job)
    return job


@pytest.mark.parametrize(("operation", "case"), CASES, ids=lambda each: getattr(each, "name", None) or each.value)
def test_the_copy_is_the_same_job(operation: Operation, case: object) -> None:
    job = copy_job(case.job)  # type: ignore[attr-defined]
    isolation = Isolation(job, operation)
    untouched = copy_job(job)
    work(operation, isolation.job)
    assert difference(job, untouched) == ""
    assert isolation.guards_intact()
    isolation.write_back(np.arange(len(job.status)))
    assert difference(job, case.expected) == ""  # type: ignore[attr-defined]
    assert len(isolation.differing()) == 0


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_some_rows(operation: Operation) -> None:
    case = all_cases(operation)[1 if operation in (ENCODE, DECODE) else 2]
    job = copy_job(case.job)
    rows = np.flatnonzero(case.expected.status == Status.DONE)[1:3]
    some = work(operation, pick(job, rows))
    assert (some.status == Status.DONE).all()
    isolation = Isolation(pick(copy_job(case.job), rows), operation)
    work(operation, isolation.job)
    assert (isolation.job.status == Status.DONE).all()


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_a_byte_beside_a_row_is_seen(operation: Operation) -> None:
    case = all_cases(operation)[-1]
    isolation = Isolation(copy_job(case.job), operation)
    memory = isolation.job.memory if operation in (ENCODE, DECODE) else isolation.job.target  # type: ignore[union-attr]
    first = isolation.job.data[0] if operation in (ENCODE, DECODE) else isolation.job.target_offset[0]  # type: ignore[union-attr]
    memory[first - 1] ^= 1
    assert not isolation.guards_intact()


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_a_changed_byte_is_found(operation: Operation) -> None:
    case = all_cases(operation)[0]
    done = copy_job(case.expected)
    row = len(done.status) - 1
    if operation is ENCODE:
        done.memory[done.parity[done.parity_start[row]]] ^= 1  # type: ignore[union-attr]
    elif operation is DECODE:
        unit = done.data_start[row] + done.lost[done.parity_start[row]]  # type: ignore[union-attr]
        done.memory[done.data[unit]] ^= 1  # type: ignore[union-attr]
    else:
        done.target[done.target_offset[row] + 14] ^= 1  # type: ignore[union-attr]
    isolation = Isolation(done, operation)
    work(operation, isolation.job)
    assert isolation.differing().tolist() == [row]
