"""What engines have in common whose jobs are done later, in parts: tickets, sessions, and the engine above them.

Both devices and services work on a copy of a job, so that a ticket is cancelled by forgetting about it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from accel.engine import EngineSession, Job, KeySpec, Maturity, Operation, Provenance, Ticket
from accel.finished import FINISHED


class LateTicket(ABC):
    """A job that was accepted.

    Attributes
    ----------
    running
        Parts of it that are on their way.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = False
        self.cancelled = False
        self.running = 0

    @property
    @abstractmethod
    def waiting(self) -> bool:
        """Whether a part of it was not begun yet."""

    @abstractmethod
    def forget(self) -> None:
        """Begin no further part."""


TicketKind = TypeVar("TicketKind", bound=LateTicket)


class LateSession(ABC, Generic[TicketKind]):
    """An opened engine for one operation, of which jobs are on their way.

    Attributes
    ----------
    closed
        Whether it was given up.
    """

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.closed = False
        self._open: list[TicketKind] = []

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it is worth asking."""

    @property
    @abstractmethod
    def full(self) -> bool:
        """Whether no further job can be begun."""

    @abstractmethod
    def refuse(self, job: Job) -> None:
        """Reject every row: a session that was closed has no keys."""

    @abstractmethod
    def begin(self, job: Job) -> TicketKind:
        """Accept a job. Raises DriverError when the device has failed."""

    @abstractmethod
    def poll(self) -> int:
        """Take back what is complete, and begin what waits; return how many tickets were finished.

        Raises DriverError, once, when the device has failed: its tickets stay undone.
        """

    @abstractmethod
    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Make a slot usable."""

    @abstractmethod
    def remove_key(self, slot: int) -> None:
        """Wipe a slot."""

    @abstractmethod
    def close(self) -> None:
        """Wipe the keys and give everything back. May be called twice."""

    def cancel(self, ticket: LateTicket) -> None:
        """Let a job's results go; its memory is free, what it is in on the way is not yet."""
        ticket.cancelled = True
        ticket.forget()
        self._open = [each for each in self._open if each is not ticket]

    def _settle(self) -> int:
        """Finish the tickets of which nothing waits or runs; return how many."""
        before = len(self._open)
        for ticket in list(self._open):
            if not ticket.waiting and not ticket.running:
                ticket.done = True
                self._open.remove(ticket)
        return before - len(self._open)


SessionKind = TypeVar("SessionKind", bound=LateSession[Any])


class LateEngine(Generic[SessionKind]):
    """An engine over such sessions.

    Parameters
    ----------
    name, operations, provenance, maturity
        As in :class:`accel.engine.Engine`.
    """

    def __init__(self, name: str, operations: frozenset[Operation], provenance: Provenance, maturity: Maturity) -> None:
        self.name = name
        self.operations = operations
        self.provenance = provenance
        self.maturity = maturity
        self._sessions: list[SessionKind] = []

    def submit(self, session: EngineSession, job: Job) -> Ticket | None:
        """Copy a job to where it is done, and begin it; None while there is no room."""
        assert isinstance(session, LateSession)
        if session.closed:
            session.refuse(job)
            return FINISHED
        return None if session.full else session.begin(job)

    def poll(self) -> int:
        """Take back the results that are there."""
        return sum(session.poll() for session in self._held())

    def cancel(self, ticket: Ticket) -> bool:
        """Return True: who works on it has a copy, and nobody looks at its results any more."""
        assert isinstance(ticket, LateTicket)
        for session in self._held():
            session.cancel(ticket)
        return True

    def _hold(self, session: SessionKind) -> SessionKind:
        """Take in a session that was opened."""
        self._sessions = [*self._held(), session]
        return session

    def _held(self) -> list[SessionKind]:
        return [session for session in self._sessions if session.alive]

    def _refuse_others(self, operation: Operation) -> None:
        """Raise ValueError for an operation that it does not have."""
        if operation not in self.operations:
            raise ValueError(f"engine {self.name} cannot do {operation.value}")
