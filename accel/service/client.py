"""An engine whose device is behind a service.

Jobs are copied into the ring, results out of it: neither the device nor the service ever sees the job's own memory, so
a job can be cancelled whatever they do. When the service ends, its client knows by the socket: ``submit`` and ``poll``
raise, tickets stay undone, and whoever serves by this engine does them in software. Opened again, it connects to the
service of then.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
from typing import NamedTuple

import numpy as np

from accel.engine import EngineSession, Health, Job, KeySpec, Maturity, Operation, Provenance, Status
from accel.later import LateEngine, LateSession, LateTicket
from accel.service.messages import (
    BAD,
    GOOD,
    LONGEST,
    LONGEST_WELCOME,
    OVER,
    address_of_name,
    greeting,
    install,
    is_ours,
    read_welcome,
    remove,
    wipe,
)
from accel.service.packing import packer
from accel.service.ring import ANSWERED, ASKED, HOW_MANY, MOST_ROWS, PARITIES, SIZE, SLOTS, fence, ring_of
from accel.service.trays import has_keys
from drivers.errors import DriverError

PATIENCE = 2.0
"""Seconds that the service may take to answer a message: it computes nothing for it, and packets may wait meanwhile."""
_STEP = "another one is started by itself; see the log, or set accel.service: off"


class ServiceTicket(LateTicket):
    """A job that was accepted; ``left`` of its rows wait from row ``after`` on."""

    def __init__(self, job: Job, left: int) -> None:
        super().__init__(job)
        self.left = left
        self.after = 0

    @property
    def waiting(self) -> bool:
        """Whether a row of it is in no slot yet."""
        return self.left > 0

    def forget(self) -> None:
        """Put no further row into a slot."""
        self.left = 0


class _Running(NamedTuple):
    ticket: ServiceTicket
    rows: int


class ServiceSession(LateSession[ServiceTicket]):
    """A connection to the service, for one operation.

    Attributes
    ----------
    kernels
        What the service's engine has measured of its kernels, in words.
    lost
        Why the service is not there any more; empty while it is.
    told
        Whether that was said by the engine's health.
    """

    def __init__(self, operation: Operation, sock: socket.socket) -> None:
        """Greet the service behind ``sock``. Raises DriverError."""
        super().__init__(operation)
        self.lost = ""
        self.told = False
        self._socket = sock
        self._bell = -1
        self._packer = packer(operation)
        self._numbers = [0] * SLOTS
        self._rows = tuple(np.zeros((SLOTS, MOST_ROWS), np.int64))  # of jobs, by the slot that they are in
        self._running: dict[int, _Running] = {}
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        try:
            self._greet()
        except OSError as error:
            self.lose(f"it did not answer: {error}")
            raise self._error() from None

    def _greet(self) -> None:
        self._socket.settimeout(PATIENCE)
        self._socket.send(greeting(self.operation))
        answer, descriptors, _, _ = socket.recv_fds(self._socket, LONGEST_WELCOME, 2)
        if answer[:1] != GOOD or len(descriptors) != 2:
            for each in descriptors:
                os.close(each)
            self.lose(answer[1:].decode(errors="replace") or "it has ended")
            raise self._error()
        self.kernels = read_welcome(answer)
        memory, self._bell = descriptors
        try:
            self._ring = ring_of(np.frombuffer(mmap.mmap(memory, SIZE), np.uint8))
        finally:
            os.close(memory)

    # --- keys

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Make a slot usable. Raises DriverError."""
        if not has_keys(self.operation):
            raise TypeError(f"{self.operation.value} takes no keys, one was given for slot {slot} ({spec.suite.value})")
        if not -(1 << 31) <= slot < 1 << 31:
            raise ValueError(f"key slots are 32-bit numbers, this one is {slot}")
        self._ask(install(slot, spec))

    def remove_key(self, slot: int) -> None:
        """Wipe a slot. Raises DriverError."""
        if has_keys(self.operation) and 0 <= slot < 1 << 31:
            self._ask(remove(slot))

    def _ask(self, message: bytearray) -> None:
        """Send a message and wait for its answer."""
        try:
            if not self.lost:
                self._socket.send(message)
                answer = self._socket.recv(LONGEST)
                if answer[:1] == BAD:
                    raise DriverError(f"the GPU service: {answer[1:].decode(errors='replace')}")
                if answer != GOOD:
                    self.lose(answer[1:].decode(errors="replace") or "it has ended")
        except OSError as error:
            self.lose(f"it did not answer: {error}")
        finally:
            wipe(message)
        if self.lost:
            raise self._error()

    # --- jobs

    @property
    def alive(self) -> bool:
        """Whether it was not closed: one that was lost says so when it is polled."""
        return not self.closed

    @property
    def full(self) -> bool:
        """Whether every slot is taken."""
        return len(self._running) == SLOTS

    def begin(self, job: Job) -> ServiceTicket:
        """Accept a job. Raises DriverError when the service has ended."""
        if self.lost:
            raise self._error()
        ticket = ServiceTicket(job, self._packer.choose(job))
        self._open.append(ticket)
        self._advance()
        self._settle()
        return ticket

    def poll(self) -> int:
        """Take back what is answered; return how many tickets were finished.

        Raises DriverError, once, when the service has ended; its tickets stay undone.
        """
        if self.lost:
            undone, self._open = self._open, []
            if undone:
                raise self._error()
        if self.lost or not self._running:
            return 0
        answered = self._ring.service[:, ANSWERED].tolist()
        fence()
        found = [slot for slot in self._running if answered[slot] == self._numbers[slot]]
        if not found:
            if not self.check():
                return self.poll()
            os.sched_yield()  # the service may need this very processor
            return 0
        for slot in found:
            ticket, rows = self._running.pop(slot)
            ticket.running -= 1
            if not ticket.cancelled:
                self._packer.read(ticket.job, self._ring.slots[slot], self._rows[slot], rows)
        self._advance()
        return self._settle()

    def _advance(self) -> None:
        free = [slot for slot in range(SLOTS) if slot not in self._running]
        rung = False
        for ticket in self._open:
            while ticket.left and free:
                slot = free.pop(0)
                packed = self._packer.write(ticket.job, ticket.after, self._ring.slots[slot], self._rows[slot])
                ticket.left, ticket.after = ticket.left - packed.rows, packed.after
                ticket.running += 1
                self._running[slot] = _Running(ticket, packed.rows)
                line = self._ring.client[slot]
                line[HOW_MANY], line[PARITIES] = packed.rows, packed.parities
                fence()
                self._numbers[slot] += 1
                line[ASKED] = self._numbers[slot]
                rung = True
        if rung:
            os.eventfd_write(self._bell, 1)

    def refuse(self, job: Job) -> None:
        """Reject every row: a session that was closed has no keys."""
        self._packer.choose(job)
        job.status[:] = Status.REJECTED

    # --- the end

    def check(self) -> bool:
        """Return whether the service is there; finds out why when it is not."""
        if not self.lost and self._poll.poll(0):
            try:
                last = self._socket.recv(LONGEST, socket.MSG_DONTWAIT)
            except OSError:
                last = b""
            self.lose(last[1:].decode(errors="replace") if last[:1] == OVER else "it has ended")
        return not self.lost

    def lose(self, why: str) -> None:
        """Give the service up."""
        self.lost = why
        self._poll.unregister(self._socket)
        self._socket.close()

    def _error(self) -> DriverError:
        return DriverError(f"the GPU service for {self.operation.value} is lost: {self.lost}; {_STEP}")

    def close(self) -> None:
        """Have the service wipe the keys, and give the memory up. May be called twice."""
        if self.closed:
            return
        self.closed = True
        self._open.clear()
        self._running.clear()
        self._socket.close()
        del self._ring
        os.close(self._bell)


class ServiceEngine(LateEngine[ServiceSession]):
    """An engine behind a service.

    Parameters
    ----------
    name, operations, provenance, maturity
        Of the engine that the service has.
    place
        Name of the service's socket; ``@`` at its beginning = in no folder.

    Attributes
    ----------
    choices
        What the service's engine has measured of its kernels, and which serve, as the last session was told.
    """

    def __init__(
        self, name: str, operations: frozenset[Operation], place: str, provenance: Provenance, maturity: Maturity
    ) -> None:
        super().__init__(name, operations, provenance, maturity)
        self.choices: tuple[str, ...] = ()
        self._place = place

    def open(self, operation: Operation) -> EngineSession:
        """Connect to the service. Raises DriverError when it is not there."""
        self._refuse_others(operation)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(address_of_name(self._place))
        except OSError as error:
            sock.close()
            raise DriverError(f"the GPU service of {self.name} is not there ({error}); {_STEP}") from None
        if not is_ours(sock):
            sock.close()
            step = "start VANTUN again, and look who runs there"
            raise DriverError(f"at the place of the GPU service of {self.name} is somebody else's process; {step}")
        session = self._hold(ServiceSession(operation, sock))
        self.choices = session.kernels
        return session

    def health(self) -> Health:
        """Return whether the service is there, as far as the sockets tell; what was lost is told once.

        Whether it is back, only a test tells.
        """
        for session in self._held():
            if not session.told and not session.check():
                session.told = True
                return Health(usable=False, reason=f"the GPU service is lost: {session.lost}")
        return Health(usable=True)

    def close(self) -> None:
        """Close every session."""
        for session in self._held():
            session.close()
