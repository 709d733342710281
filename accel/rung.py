"""One opened engine of a serving operation: its session, its life, and how a batch is given to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accel.engine import Engine, EngineSession, KeySpec, Operation, Provenance, Status, Ticket
from accel.finished import Synchronous
from accel.isolation import Isolation
from accel.life import Cause, Life, State
from accel.selftest import SelfTest, choices
from accel.weight import mean_octets

LEAST_DEADLINE = 2_000_000
"""Nanoseconds that every ticket has."""
UNKNOWN_DEADLINE = 20_000_000
"""Nanoseconds that a ticket has of which nobody measured how long it takes."""
_FULL = 250_000
"""Nanoseconds of asking an engine that is full before software does the batch."""
_FULL_IN_A_ROW = 64
_TEST_PATIENCE = 0.02
"""Seconds that each job of a self-test may take while packets wait."""
_MOST_LATE = 16
"""Tickets out for ever that end an engine: its memory does not come back."""
_SMOOTH = 0.125
_ENOUGH = 8
SLOW = 4.0
"""Times the calibrated time per row that make an engine suspect."""

Clock = Callable[[], int]
"""Nanoseconds."""


class Expectation(Protocol):
    """What calibration has measured of an engine."""

    def batch_ns(self, rows: int, size: float) -> float:
        """Return the nanoseconds that a batch should take: CPU time if ``Provenance.CPU``, else wall time.

        ``size`` is that of a row, in bytes that count (accel/weight.py).
        """

    def p99_ns(self, rows: int, size: float) -> float:
        """Return the nanoseconds that 99 of 100 batches take at most."""


@dataclass(frozen=True)
class Step:
    """From how many rows in a batch on an engine serves, and what was measured of it."""

    from_rows: int
    engine: Engine
    expect: Expectation | None = None


@dataclass(frozen=True)
class Failure:
    """Why an engine did not do a batch."""

    cause: Cause
    reason: str


@dataclass
class Rung:
    """An engine, opened for one operation.

    Attributes
    ----------
    late
        Tickets that missed their deadline, with the memory that the device may still write to.
    ratio
        Time per batch over the calibrated one, smoothed.
    """

    engine: Engine
    session: EngineSession
    clock: Clock
    life: Life = field(default_factory=Life)
    expect: Expectation | None = None
    late: list[tuple[Ticket, Isolation]] = field(default_factory=list)
    ratio: float = 1.0
    batches: int = 0
    full: int = 0
    _timed: int = 0
    _full_in_a_row: int = 0
    _test: SelfTest | None = None
    _passed: bool = False

    @property
    def name(self) -> str:
        """The engine's name."""
        return self.engine.name

    @property
    def operation(self) -> Operation:
        """What it is opened for."""
        return self.session.operation

    @property
    def trusted(self) -> bool:
        """Whether it works in the pipeline's own memory: on this CPU, and done when ``submit`` returns."""
        return self.engine.provenance is Provenance.CPU and isinstance(self.engine, Synchronous)

    @property
    def serves(self) -> bool:
        """Whether it may be given whole traffic."""
        return self.life.state is State.SERVING

    def deadline(self, rows: int, size: float) -> int:
        """Return the nanoseconds that a ticket of so many rows has."""
        if self.expect is None:
            return UNKNOWN_DEADLINE
        return max(LEAST_DEADLINE, int(8 * self.expect.p99_ns(rows, size)))

    def attempt(self, isolation: Isolation) -> Failure | None:
        """Have the engine do an isolated job; return why it did not. The memory of a late one stays with it."""
        rows = len(isolation.job.status)
        begun = self.clock()
        try:
            ticket = self._offer(isolation, begun)
            if ticket is None:
                self.full += 1
                self._full_in_a_row += 1
                if self._full_in_a_row < _FULL_IN_A_ROW:
                    return Failure(Cause.FULL, "")
                self._full_in_a_row = 0
                return Failure(Cause.FULL, f"it took none of {_FULL_IN_A_ROW} batches in a row")
            self._full_in_a_row = 0
            size = mean_octets(isolation.job)
            until = begun + self.deadline(rows, size)
            while not _poll(self.engine, ticket):
                if self.clock() >= until:
                    self._overdue(ticket, isolation)
                    return Failure(Cause.TIMEOUT, f"a batch of {rows} missed its deadline")
        except Exception as error:  # whatever a sick engine raises is said of it, and software does the work
            return Failure(Cause.FAULT, f"{type(error).__name__}: {error}")
        self.timed(rows, size, self.clock() - begun)
        return None

    def _offer(self, isolation: Isolation, begun: int) -> Ticket | None:
        ticket = self.engine.submit(self.session, isolation.job)
        while ticket is None and self.clock() < begun + _FULL:
            self.engine.poll()
            ticket = self.engine.submit(self.session, isolation.job)
        return ticket

    def _overdue(self, ticket: Ticket, isolation: Isolation) -> None:
        if not self.engine.cancel(ticket):
            self.late.append((ticket, isolation))

    def timed(self, rows: int, size: float, took: int) -> None:
        """Take in how long a batch took."""
        self.batches += 1
        if self.expect is None:
            return
        expected = self.expect.batch_ns(rows, size)
        if expected > 0:
            self._timed += 1
            self.ratio += (took / expected - self.ratio) * _SMOOTH

    def look_after(self, now: float) -> Failure | None:
        """Give back what late tickets held, ask for its health and speed; return what is wrong."""
        try:
            self.late = [each for each in self.late if not (each[0].done or self.engine.cancel(each[0]))]
            health = self.engine.health()
        except Exception as error:  # as in attempt
            return Failure(Cause.FAULT, f"{type(error).__name__}: {error}")
        if not health.usable:
            return Failure(Cause.UNWELL, health.reason or "it is not well")
        if len(self.late) > _MOST_LATE:
            return Failure(Cause.TIMEOUT, f"{len(self.late)} tickets never came back")
        if self.ratio > SLOW and self._timed >= _ENOUGH:
            reason = f"{self.ratio:.1f} times the time that calibration has measured"
            self.ratio, self._timed = 1.0, 0
            return Failure(Cause.SLOW, reason)
        return None

    def rearm(self, keys: dict[int, KeySpec], now: float) -> bool | None:
        """Go one step on in testing the engine after its rest, and in giving it a new session with the keys of now.

        A step opens the engine, or does one job: packets pass in between, for a device may take a while to open.
        Returns whether it passed, None as long as it goes on.
        """
        if self._passed:
            self._passed = False
            return self._open_again(keys, now)
        if self._test is None:
            self._test = SelfTest(self.engine, self.operation, _TEST_PATIENCE)
        verdict = self._test.step()
        if verdict is None:
            return None
        self._test, self._passed = None, verdict.passed
        if verdict.passed:
            return None
        self.life.refused(verdict.reason, now)
        return False

    @property
    def being_tested(self) -> bool:
        """Whether re-arming it has begun and goes on."""
        return self._passed or self._test is not None

    def give_up_test(self) -> None:
        """Close what a test that goes on has opened."""
        if self._test is not None:
            self._test.close()
        self._test, self._passed = None, False

    def _open_again(self, keys: dict[int, KeySpec], now: float) -> bool:
        try:
            session = self.engine.open(self.operation)
            for slot, spec in keys.items():
                session.install_key(slot, spec)
            old, self.session = self.session, session
            old.close()
        except Exception as error:  # as in attempt
            self.life.refused(f"it could not be opened again: {type(error).__name__}: {error}", now)
            return False
        self.ratio, self._timed = 1.0, 0
        self.life.rearmed(now)
        return True

    def report(self) -> dict[str, object]:
        """Return its state as JSON."""
        return {
            "engine": self.name,
            "provenance": self.engine.provenance.value,
            "state": self.life.state.value,
            "reason": self.life.reason,
            "until_cleared": self.life.until_cleared,
            "batches": self.batches,
            "full": self.full,
            "late": len(self.late),
            "slowness": round(self.ratio, 2),
            "failures": {cause.value: count for cause, count in self.life.counts.items() if count},
            "kernels": choices(self.engine),
        }


def _poll(engine: Engine, ticket: Ticket) -> bool:
    """Let the engine complete what is ready; return whether the ticket is done."""
    if not ticket.done:
        engine.poll()
    return ticket.done


def unfinished(statuses: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the rows that an engine has left without a verdict on their input."""
    return np.flatnonzero((statuses != Status.DONE) & (statuses != Status.REJECTED))
