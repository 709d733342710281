"""One operation of the device at the service: who asks for it, what waits, and what is on its way."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from accel.calls import address_of
from accel.device.session import DeviceSession
from accel.engine import Engine, Job, OpenJob, Operation, Ticket
from accel.service.columns import Bytes
from accel.service.gather import Asked, Gathering, Guest
from accel.service.keys import ClientKeys, KeyTable
from accel.service.ring import ANSWERED, ASKED, SIZE, SLOTS, Ring, fence, own_columns, ring_of, source_of
from accel.service.trays import Tray, has_keys, look, tray_of
from drivers.errors import DriverError
from drivers.reserve import Reserve

MOST_PINNED = 256 << 20
"""Bytes of clients' memory that are registered for an operation: all of them take room then, used or not."""
HUNG = 60_000_000_000
"""Nanoseconds after which a device that does not answer is given up."""


class Seat(Guest):
    """A client with its memory.

    Attributes
    ----------
    keys
        None where the operation has none.
    own
        Copies of what was asked in each slot.
    out
        Submissions that are part of a job of the device.
    gone
        Whether nobody waits for answers any more.
    unpin
        Has the device forget its memory; None where the device was not told of it.
    """

    def __init__(self, sock: socket.socket, bell: int, reserve: Reserve, start: int) -> None:
        super().__init__()
        self.socket = sock
        self.bell = bell
        self.keys: ClientKeys | None = None
        self.out = 0
        self.gone = False
        self.unpin: Callable[[], None] | None = None
        self.start = start
        self._reserve = reserve
        self.ring: Ring = ring_of(reserve.memory[start : start + SIZE])
        self.own = tuple(own_columns() for _ in range(SLOTS))
        self._taken = [0] * SLOTS
        self._busy = [False] * SLOTS

    def ready(self) -> list[tuple[int, int]]:
        """Return slots with new submissions, and their numbers; each is told once, until it was answered."""
        found = []
        for slot, number in enumerate(self.ring.client[:, ASKED].tolist()):
            if number != self._taken[slot] and not self._busy[slot]:
                self._taken[slot], self._busy[slot] = number, True
                found.append((slot, number))
        return found

    def write(self, slot: int, job: Job, begin: int, end: int) -> None:
        """Write the results of rows that are not in the slot already; they count with :meth:`tell`."""
        to = self.ring.slots[slot]
        to.status[: end - begin] = job.status[begin:end]
        if isinstance(job, OpenJob):
            to.number[: end - begin] = job.number[begin:end]

    def tell(self, slot: int, number: int) -> None:
        """Have the client find its results."""
        self.ring.service[slot, ANSWERED] = number
        self._busy[slot] = False

    def settle(self) -> None:
        """Do what waits for nothing to be on its way any more."""
        if self.gone:
            self.release()
        elif self.keys is not None:
            self.keys.settle()

    def release(self) -> None:
        """Wipe the keys and give the memory back; nothing may be on its way."""
        unpin, self.unpin = self.unpin, None
        try:
            if self.keys is not None:
                self.keys.close()
                self.keys.settle()
            if unpin is not None:
                unpin()
        finally:
            self.keys = None
            del self.ring
            self._reserve.unmap(self.start)
            os.close(self.bell)


class Flight(NamedTuple):
    """A job of the device."""

    parts: list[Asked]
    tray: Tray
    job: Job
    ticket: Ticket
    begun: int


class Desk:
    """An operation.

    Parameters
    ----------
    engine
        Of the device; the operation is opened here.
    memory
        In which the clients' memories lie.

    Attributes
    ----------
    seats
        Who may ask.
    asked, launched
        Submissions, and jobs of the device, so far.
    copied_because
        Why the memory of some client is not registered with a device that could be; empty while every one is.
    """

    def __init__(self, engine: Engine, operation: Operation, memory: Bytes, gathering: Gathering) -> None:
        self.operation = operation
        self.seats: list[Seat] = []
        self.asked = 0
        self.launched = 0
        self.copied_because = ""
        self._engine = engine
        self._session = engine.open(operation)
        self._table = KeyTable(self._session) if has_keys(operation) else None
        self._memory = memory
        self._gathering = gathering
        self._trays: list[Tray] = []
        self._held: tuple[list[Asked], Tray, Job] | None = None
        self._flights: deque[Flight] = deque()

    def take_seat(self, seat: Seat) -> None:
        """Let a client ask."""
        if self._table is not None:
            seat.keys = ClientKeys(self._table)
        self.seats.append(seat)
        session = self._session
        if isinstance(session, DeviceSession) and session.pins:
            self.copied_because = self._pin(session, seat) or self.copied_because

    def _pin(self, session: DeviceSession, seat: Seat) -> str:
        """Have the device copy from and to a client's memory directly, once for all; return why not, "" = done."""
        if SIZE * (1 + self.pinned) > MOST_PINNED:
            most = f"{MOST_PINNED >> 20} MiB of clients' memory"
            return f"{most} are registered for {self.operation.value}, which is the most"
        address = address_of(self._memory) + seat.start
        reason = session.pin(address, SIZE)
        if not reason:
            seat.unpin = partial(session.unpin, address)
        return reason

    @property
    def pinned(self) -> int:
        """How many clients' memories are registered with the device."""
        return sum(seat.unpin is not None for seat in self.seats)

    def hear(self, seat: Seat, now: int) -> None:
        """Take in what a client asks. Raises UnbelievableError."""
        for slot, number in seat.ready():
            heard = look(seat.ring, slot, self.operation, seat.own[slot])
            self._gathering.add(Asked(seat, slot, number, heard), now)
            self.asked += 1

    def leave(self, seat: Seat) -> None:
        """Let a client go; what it holds is given back when nothing of it is on its way."""
        seat.gone = True
        self.seats.remove(seat)
        self._gathering.forget(seat)
        if not seat.out:
            seat.settle()

    @property
    def busy(self) -> bool:
        """Whether a job is on its way, or waits for a lane."""
        return bool(self._flights) or self._held is not None

    def since(self) -> int:
        """Return when the last job was begun, of those on their way; 0 = none was."""
        return self._flights[-1].begun if self._flights else 0

    def until(self) -> int | None:
        """Return when there is something to launch; None while nothing waits for company."""
        return self._gathering.until() if len(self._gathering) and self._held is None else None

    def launch(self, now: int) -> None:
        """Begin what is due. Raises DriverError when the device has failed."""
        while self._held is not None or self._gathering.due(now, self.seats):
            if self._held is None:
                self._held = self._lay(self._gathering.take(self.seats))
            parts, tray, job = self._held
            ticket = self._engine.submit(self._session, job)
            if ticket is None:
                return
            self._held = None
            self.launched += 1
            self._flights.append(Flight(parts, tray, job, ticket, now))

    def _lay(self, parts: list[Asked]) -> tuple[list[Asked], Tray, Job]:
        """Make one job of submissions."""
        tray = self._trays.pop() if self._trays else tray_of(self.operation, self._memory)
        tray.clear()
        for each in parts:
            seat = _seat(each)
            seat.out += 1
            pages = None if seat.keys is None else seat.keys.pages
            tray.add(seat.own[each.slot], each.heard, seat.start + source_of(each.slot), pages)
        return parts, tray, tray.job()

    def answer(self, now: int) -> None:
        """Hand out what is done. Raises DriverError when the device does not answer."""
        for flight in [each for each in self._flights if each.ticket.done]:
            self._flights.remove(flight)
            begin = 0
            for each in flight.parts:
                end = begin + each.heard.rows
                _seat(each).write(each.slot, flight.job, begin, end)
                begin = end
            fence()
            for each in flight.parts:
                seat = _seat(each)
                seat.tell(each.slot, each.number)
                seat.out -= 1
                if not seat.out:
                    seat.settle()
            self._trays.append(flight.tray)
        if self._flights and now - self._flights[0].begun > HUNG:
            raise DriverError(f"the device did not finish a job within {HUNG // 1_000_000_000} s; restart it")

    def close(self) -> None:
        """Close the device's session, which wipes every key, and every bell."""
        leaving = {_seat(each) for flight in self._flights for each in flight.parts if _seat(each).gone}
        self.seats = [*leaving.union(self.seats)]
        for seat in self.seats:
            os.close(seat.bell)
        self._session.close()  # which waits for what is on its way
        for seat in self.seats:
            if seat.unpin is not None:
                seat.unpin()
        self.seats.clear()


def _seat(what: Asked) -> Seat:
    assert isinstance(what.guest, Seat)
    return what.guest
