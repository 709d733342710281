"""Engines that are wrong in one way each: a working one behind a fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accel.aead.cryptography import CryptographyAead
from accel.engine import (
    TAG_LENGTH,
    Engine,
    EngineSession,
    Health,
    Job,
    KeySpec,
    Maturity,
    OpenJob,
    Operation,
    Provenance,
    SealJob,
    SpanJob,
    Status,
    Ticket,
)
from accel.fec.simd import SimdFec
from accel.trials import copy_job

Fault = Callable[[Job, Job], None]
"""Damages a finished job, given the job as it was submitted."""


class SickEngine:
    """Does what ``engine`` does, then lets ``fault`` at the result."""

    name = "sick"
    provenance = Provenance.FAKE
    maturity = Maturity.UNTESTED

    def __init__(self, engine: Engine, fault: Fault | None = None, health: Health | None = None) -> None:
        self._engine = engine
        self._fault = fault
        self._health = health or Health(usable=True)
        self.operations = engine.operations

    def open(self, operation: Operation) -> EngineSession:
        return self._engine.open(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        before = copy_job(job)
        ticket = self._engine.submit(session, job)
        if self._fault is not None:
            self._fault(job, before)
        return ticket

    def poll(self) -> int:
        return self._engine.poll()

    def cancel(self, ticket: Ticket) -> bool:
        return self._engine.cancel(ticket)

    def health(self) -> Health:
        return self._health


class LateEngine(SickEngine):
    """Works, but is full at first, and finishes when polled: what an asynchronous device does."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._asked = 0
        self._waiting: list[tuple[EngineSession, Job, LateTicket]] = []

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        self._asked += 1
        if self._asked % 2:
            return None
        ticket = LateTicket()
        self._waiting.append((session, job, ticket))
        return ticket

    def poll(self) -> int:
        done, self._waiting = self._waiting, []
        for session, job, ticket in done:
            self._engine.submit(session, job)
            ticket.done = True
        return len(done)


class LateTicket:
    """A ticket that is done later."""

    done = False


class ForgetfulSession:
    """A session that keeps every key that was removed."""

    def __init__(self, session: EngineSession) -> None:
        self.inner = session
        self.operation = session.operation

    def install_key(self, slot: int, spec: KeySpec) -> None:
        self.inner.install_key(slot, spec)

    def remove_key(self, slot: int) -> None:
        """Forget to forget."""

    def close(self) -> None:
        self.inner.close()


class ForgetfulEngine(SickEngine):
    """Goes on using removed keys."""

    def open(self, operation: Operation) -> EngineSession:
        return ForgetfulSession(super().open(operation))

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        assert isinstance(session, ForgetfulSession)
        return super().submit(session.inner, job)


def flip_parity(job: Job, before: Job) -> None:
    assert isinstance(job, SpanJob)
    job.memory[job.parity[-1]] ^= 1


def flip_rebuilt(job: Job, before: Job) -> None:
    assert isinstance(job, SpanJob)
    assert isinstance(before, SpanJob)
    changed = np.flatnonzero(job.memory != before.memory)
    job.memory[changed[-1]] ^= 1


def overrun_unit(job: Job, before: Job) -> None:
    """Write a byte behind the first parity unit, as a kernel of whole vectors would."""
    assert isinstance(job, SpanJob)
    job.memory[job.parity[0] + job.length[0]] = 0


def overrun_row(job: Job, before: Job) -> None:
    assert isinstance(job, SealJob | OpenJob)
    growth = TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH
    job.target[job.target_offset[0] + job.length[0] + growth] = 0


def write_source(job: Job, before: Job) -> None:
    assert isinstance(job, SealJob | OpenJob)
    job.source[job.source_offset[0] + 5] ^= 1


def reject_nothing(job: Job, before: Job) -> None:
    job.status[:] = Status.DONE


def leave_plaintext(job: Job, before: Job) -> None:
    """Reject a row but leave something in its target."""
    assert isinstance(job, SealJob | OpenJob)
    for i in np.flatnonzero(job.status == Status.REJECTED).tolist():
        if job.length[i] > TAG_LENGTH:
            job.target[job.target_offset[i]] = 0x43


def keep_numbers(job: Job, before: Job) -> None:
    assert isinstance(job, SealJob | OpenJob)
    assert isinstance(before, SealJob | OpenJob)
    job.number[:] = before.number


def flip_tag(job: Job, before: Job) -> None:
    assert isinstance(job, SealJob)
    job.target[job.target_offset[0] + job.length[0] + TAG_LENGTH - 1] ^= 1


def unprotect_header(job: Job, before: Job) -> None:
    """Leave the packet number in the clear."""
    assert isinstance(job, SealJob)
    start, end = int(job.source_offset[0]), int(job.target_offset[0])
    job.target[end + 9 : end + 13] = job.source[start + 9 : start + 13]


def forget_status(job: Job, before: Job) -> None:
    job.status[-1] = Status.PENDING


def raise_an_error(job: Job, before: Job) -> None:
    raise RuntimeError("the device is on fire")


def simd(fault: Fault) -> Engine:
    return SickEngine(SimdFec(), fault)


def aead(fault: Fault) -> Engine:
    return SickEngine(CryptographyAead(), fault)
