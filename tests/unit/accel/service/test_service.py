"""The service over the stand-in of a device: gathering, keys, and jobs of all sizes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from accel.device.choice import Choice
from accel.engine import (
    Maturity,
    OpenJob,
    Operation,
    Provenance,
    SpanJob,
    Status,
)
from accel.fec.simd import SimdFec
from accel.selftest import self_test
from accel.service.client import ServiceEngine
from accel.service.ring import DATA, SLOTS
from accel.serving import Serving
from accel.trials import SpanRow, copy_job, difference, rows_of, run, span_job
from drivers.errors import DriverError
from drivers.lanes import Room
from tests.service import HostService, expected, finish, key, packets, spans, until

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
FOREVER = 60e6
"""Microseconds: longer than any test takes."""


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_it_passes_the_self_test(operation: Operation) -> None:
    with HostService() as service:
        verdict = self_test(service.client(), operation)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("operation", [Operation.FEC_ENCODE, Operation.FEC_DECODE], ids=lambda each: each.value)
def test_launches_larger_than_a_lane_go_in_parts(operation: Operation) -> None:
    with HostService((operation,), room=Room(source=8192, target=8192, work=512, scratch=7168)) as service:
        verdict = self_test(service.client(), operation)
    assert verdict.passed, verdict.reason


def test_a_client_knows_which_kernels_were_chosen() -> None:
    """As many as a message holds."""
    chosen = tuple(Choice(k, 4, 2e-6, 1e-6, 7) for k in range(200))
    with HostService((Operation.FEC_ENCODE,)) as service:
        service.engine.choices = chosen
        engine = service.client()
        assert not engine.choices
        verdict = self_test(engine, Operation.FEC_ENCODE)
        told: tuple[str, ...] = engine.choices
        assert 50 < len(told) < 200
        assert told[0] == "(0, 4): compiled (general 2.0 us, compiled 1.0 us for 7 spans)"
        assert verdict.kernels == engine.choices
        service.engine.choices = chosen[:1]
        serving = Serving(engine, engine.open(Operation.FEC_ENCODE), [SimdFec()], seed=1)
        assert serving.session.rungs[0].report()["kernels"] == [str(chosen[0])]
        serving.close()


def test_small_batches_of_many_clients_are_one_launch() -> None:
    """Clients differ in keys, slots, phases, lengths and counts; each gets its own, and the device sees one job."""
    with HostService((Operation.AEAD_SEAL,), gather_us=FOREVER) as service:
        engine = service.client()
        sessions = [engine.open(Operation.AEAD_SEAL) for _ in range(12)]
        until(lambda: service.server.report()["clients"] == len(sessions))
        keys = [{slot: key(3 * seed + slot % 5) for slot in (seed, seed + 1)} for seed in range(len(sessions))]
        for session, own in zip(sessions, keys, strict=True):
            for slot, spec in own.items():
                session.install_key(slot, spec)
        jobs = [packets(1 + seed % 4, seed, 10 + 97 * seed, seed % 2) for seed in range(len(sessions))]
        tickets = [engine.submit(session, job) for session, job in zip(sessions, map(copy_job, jobs), strict=True)]
        finish(engine, tickets)
        report = service.server.report()
    assert (report["jobs"], report["launches"]) == (12, 1)
    for ticket, job, own in zip(tickets, jobs, keys, strict=True):
        assert difference(ticket.job, expected(job, Operation.AEAD_SEAL, own)) == ""  # type: ignore[union-attr]


def test_each_operation_is_a_launch_of_its_own() -> None:
    with HostService((Operation.FEC_ENCODE, Operation.FEC_DECODE), gather_us=FOREVER) as service:
        engine = service.client()
        encoding, decoding = (engine.open(each) for each in (Operation.FEC_ENCODE, Operation.FEC_DECODE))
        job = spans(3)
        finish(engine, [engine.submit(encoding, job), engine.submit(decoding, copy_job(spans(2, m=0)))])
        assert service.server.report()["launches"] == 2
        assert difference(job, expected(spans(3), Operation.FEC_ENCODE)) == ""


def test_a_client_that_waits_for_company_is_served_when_its_time_is_up() -> None:
    with HostService((Operation.FEC_ENCODE,), gather_us=1000.0) as service:
        engine = service.client()
        sessions = [engine.open(Operation.FEC_ENCODE) for _ in range(2)]
        job = spans(2)
        run(engine, sessions[0], job)
        assert difference(job, expected(spans(2), Operation.FEC_ENCODE)) == ""


def test_the_key_of_a_slot_is_its_clients_own() -> None:
    """The same slot of two clients, one of whom has no key in it, and none in the next."""
    with HostService((Operation.AEAD_SEAL,)) as service:
        engine = service.client()
        owner, other = engine.open(Operation.AEAD_SEAL), engine.open(Operation.AEAD_SEAL)
        for slot in (0, 1, 64):
            owner.install_key(slot, key(slot))
        other.install_key(63, key(9))
        for slot, phase in ((0, 0), (1, 0), (63, 1), (64, 0), (-1, 0), (5_000_000, 0)):
            job = packets(2, slot, phase=phase)
            run(engine, other, job)
            assert (job.status == Status.REJECTED).all()
            assert not any(map(any, rows_of(job)))
        job = packets(2, 1, phase=1)
        run(engine, owner, job)
        assert (job.status == Status.REJECTED).all()  # slot 2 has no key
        job = packets(2, 0, phase=1)
        run(engine, owner, job)
        assert (job.status == Status.DONE).all()


def test_keys_are_wiped_when_they_are_removed_and_when_their_client_ends() -> None:
    with HostService((Operation.AEAD_OPEN,)) as service:
        engine = service.client()
        session = engine.open(Operation.AEAD_OPEN)
        table = service.devices[0].table
        for slot in range(4):
            session.install_key(slot, key(slot))
        assert table.any()
        for slot in range(3):
            session.remove_key(slot)
        session.remove_key(1000)
        assert table.any()
        session.close()
        session.close()
        until(lambda: service.server.report()["clients"] == 0)
        until(lambda: not table.any())
        job = packets(1)
        opening = OpenJob(*job)._replace(length=job.length.copy())
        ticket = engine.submit(session, opening)
        assert ticket is not None
        assert opening.status.tolist() == [Status.REJECTED]


def test_what_the_service_does_not_offer() -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        engine = service.client()
        with pytest.raises(DriverError, match=r"does not offer aead\.seal"):
            engine.open(Operation.AEAD_SEAL)
        session = engine.open(Operation.FEC_ENCODE)
        with pytest.raises(TypeError, match="takes no keys"):
            session.install_key(0, key(1))
        session.remove_key(0)
        job = spans(1)
        run(engine, session, job)
        assert job.status.tolist() == [Status.DONE]
    with pytest.raises(DriverError, match="is not there"):
        engine.open(Operation.FEC_ENCODE)
    fec_only = ServiceEngine("host", frozenset(), "@nobody", Provenance.FAKE, Maturity.UNTESTED)
    with pytest.raises(ValueError, match=r"cannot do fec\.encode"):
        fec_only.open(Operation.FEC_ENCODE)


def test_a_key_without_room_is_refused_and_the_session_goes_on() -> None:
    with HostService((Operation.AEAD_SEAL,)) as service:
        engine = service.client()
        session = engine.open(Operation.AEAD_SEAL)
        with pytest.raises(DriverError, match="numbered from 0"):
            session.install_key(-1, key(1))
        with pytest.raises(ValueError, match="32-bit"):
            session.install_key(1 << 31, key(1))
        session.install_key(0, key(0))
        session.install_key(1, key(1))
        job = packets(1)
        run(engine, session, job)
        assert job.status.tolist() == [Status.DONE]


def test_rows_that_no_slot_holds_are_for_software_and_large_jobs_go_in_parts() -> None:
    with HostService((Operation.FEC_ENCODE,)) as service:
        engine = service.client()
        session = engine.open(Operation.FEC_ENCODE)
        job = span_job(
            [
                SpanRow((bytes(DATA + 16),), 0, (0,)),
                *(SpanRow((bytes([i]) * 900_000,), 0, (0, 1)) for i in range(11)),
            ]
        )
        assert len(job.status) > SLOTS
        run(engine, session, job, patience=60.0)
        assert job.status.tolist() == [Status.FAULT, *([Status.DONE] * 11)]
        wanted = expected(job, Operation.FEC_ENCODE)
        assert isinstance(wanted, SpanJob)
        for start in job.parity[1:].tolist():
            assert np.array_equal(job.memory[start:][:900_000], wanted.memory[start:][:900_000])


def test_when_every_slot_is_taken_it_is_full_and_what_is_cancelled_is_not_written() -> None:
    with HostService((Operation.FEC_ENCODE,), gather_us=FOREVER) as service:
        engine = service.client()
        session, other = (engine.open(Operation.FEC_ENCODE) for _ in range(2))
        until(lambda: service.server.report()["clients"] == 2)
        jobs = [spans(2) for _ in range(SLOTS)]
        before = copy_job(jobs[0])
        tickets = [engine.submit(session, job) for job in jobs]
        assert engine.submit(session, spans(1)) is None
        assert tickets[0] is not None
        assert engine.cancel(tickets[0])
        finish(engine, [*tickets[1:], engine.submit(other, spans(1))])
        jobs[0].status[:] = before.status
        assert difference(jobs[0], before) == ""
        assert engine.submit(session, spans(1)) is not None
