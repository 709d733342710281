"""A device that fails on demand: for drills of whoever watches engines. It is a fake, and in no catalogue.

It is asynchronous: a job is begun by ``submit`` and done by a later ``poll``, by another engine behind it, unless its
mood is another.
"""

from __future__ import annotations

import random
from enum import Enum

import numpy as np

from accel.engine import (
    Engine,
    EngineSession,
    Health,
    Job,
    KeySpec,
    Maturity,
    Operation,
    Provenance,
    SpanJob,
    Status,
    Ticket,
)


class Mood(Enum):
    """What it does to the share of jobs, or of rows, that ``rate`` says."""

    WELL = "well"
    BUSY = "busy"
    """Takes no job."""
    SLOW = "slow"
    """Takes ``polls`` polls for a job."""
    WRONG = "wrong"
    """Changes a byte of a row's result and calls it done."""
    DENYING = "denying"
    """Rejects a row that is good."""
    FAULTY = "faulty"
    """Says of a row that it could not do it."""
    HANGING = "hanging"
    """Never finishes a job, and cannot cancel it."""
    LATE = "late"
    """As HANGING; then, while the next job is done, it writes all over the memory that the first had."""
    OVERRUNNING = "overrunning"
    """Writes a byte behind a row's result."""
    DYING = "dying"
    """Does half of the rows of a job, and raises at every call from then on, until it is revived."""


class _Slip:
    """A ticket."""

    def __init__(self, session: _Session, job: Job, polls: int) -> None:
        self.done = False
        self.session = session
        self.job = job
        self.polls = polls


class _Session:
    """A session of the engine behind it, which a dead device does not answer."""

    def __init__(self, inner: EngineSession, device: UnreliableEngine) -> None:
        self.inner = inner
        self.operation = inner.operation
        self._device = device

    def install_key(self, slot: int, spec: KeySpec) -> None:
        self._device.breathe()
        self.inner.install_key(slot, spec)

    def remove_key(self, slot: int) -> None:
        self._device.breathe()
        self.inner.remove_key(slot)

    def close(self) -> None:
        self._device.breathe()
        self.inner.close()


class UnreliableEngine:
    """Does what ``engine`` does, in its own mood.

    Attributes
    ----------
    mood, rate, polls
        Set by whoever drills; ``rate`` is a probability, by row for what befalls rows, else by job.
    damaged
        Rows made wrong, or denied, so far.
    dead
        Whether every call raises.
    """

    provenance = Provenance.FAKE
    maturity = Maturity.UNTESTED

    def __init__(self, engine: Engine, seed: int = 1, name: str = "unreliable") -> None:
        self.name = name
        self.operations: frozenset[Operation] = engine.operations
        self.mood = Mood.WELL
        self.rate = 1.0
        self.polls = 1
        self.damaged = 0
        self.dead = False
        self._engine = engine
        self._random = random.Random(seed)
        self._waiting: list[_Slip] = []
        self._stuck: list[_Slip] = []

    def open(self, operation: Operation) -> EngineSession:
        """Return a session of the engine behind it."""
        self.breathe()
        return _Session(self._engine.open(operation), self)

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        """Begin a job, or not."""
        self.breathe()
        assert isinstance(session, _Session)
        strikes = self._random.random() < self.rate
        if self.mood is Mood.BUSY and strikes:
            return None
        slip = _Slip(session, job, self.polls if self.mood is Mood.SLOW and strikes else 1)
        if self.mood in (Mood.HANGING, Mood.LATE) and strikes:
            self._stuck.append(slip)
        elif self.mood is Mood.DYING and strikes:
            self._engine.submit(session.inner, job)
            job.status[len(job.status) // 2 :] = Status.PENDING
            self.dead = True
            self._waiting.clear()
        else:
            self._waiting.append(slip)
        return slip

    def poll(self) -> int:
        """Finish what has waited long enough."""
        self.breathe()
        if self.mood is Mood.LATE and self._waiting:
            for slip in self._stuck:
                _scribble(slip.job)
        ready = []
        for slip in self._waiting:
            slip.polls -= 1
            if slip.polls <= 0:
                ready.append(slip)
        for slip in ready:
            self._waiting.remove(slip)
            self._engine.submit(slip.session.inner, slip.job)
            self._spoil(slip)
            slip.done = True
        return len(ready)

    def cancel(self, ticket: Ticket) -> bool:
        """Return whether a job's memory is free again; that of a hanging one never is, unless it is well again."""
        self.breathe()
        assert isinstance(ticket, _Slip)
        if ticket in self._stuck:
            if self.mood in (Mood.HANGING, Mood.LATE):
                return False
            self._stuck.remove(ticket)
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        return True

    def health(self) -> Health:
        """Return that it is well, as sick devices do."""
        return Health(usable=True)

    def breathe(self) -> None:
        """Raise if it is dead."""
        if self.dead:
            raise RuntimeError("the device is gone")

    def _spoil(self, slip: _Slip) -> None:
        if self.mood not in (Mood.WRONG, Mood.DENYING, Mood.FAULTY, Mood.OVERRUNNING):
            return
        job = slip.job
        for row in np.flatnonzero(job.status == Status.DONE).tolist():
            if self._random.random() >= self.rate:
                continue
            self.damaged += 1
            if self.mood is Mood.DENYING:
                job.status[row] = Status.REJECTED
            elif self.mood is Mood.FAULTY:
                job.status[row] = Status.FAULT
            else:
                self._strike(job, row, slip.session.operation)

    def _strike(self, job: Job, row: int, operation: Operation) -> None:
        """Change a byte of a row's result, or behind it."""
        if isinstance(job, SpanJob):
            memory, size = job.memory, int(job.length[row])
            first = int(job.parity_start[row])
            if operation is Operation.FEC_ENCODE:
                start = int(job.parity[first])
            else:
                start = int(job.data[job.data_start[row] + job.lost[first]])
        else:
            memory, start = job.target, int(job.target_offset[row])
            size = int(job.length[row]) + (16 if operation is Operation.AEAD_SEAL else -16)
        place = size if self.mood is Mood.OVERRUNNING else self._random.randrange(size)
        memory[start + place] ^= 1 << self._random.randrange(8)


def _scribble(job: Job) -> None:
    """Write where a job's results belonged, as a device does that was given up."""
    if isinstance(job, SpanJob):
        for offset in job.parity.tolist():
            job.memory[offset : offset + 16] = 0x55
    else:
        for offset in job.target_offset.tolist():
            job.target[offset : offset + 16] = 0x55
    job.status[:] = Status.DONE
