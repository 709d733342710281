"""The service: it owns a device, and does for its clients what they ask, in as few launches as time allows.

Nothing that comes from a client is believed: messages and submissions are bounded (:mod:`accel.service.ring`), its keys
are reached by its own submissions only (:mod:`accel.service.keys`), and a client that lies is shown the door. When the
device fails the service ends: a new process is the one sure way to a new context of the device.
"""

from __future__ import annotations

import fcntl
import math
import os
import select
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from accel.device.engine import ROOM
from accel.engine import Engine, Operation
from accel.selftest import choices
from accel.service.desk import Desk, Seat
from accel.service.gather import Gathering
from accel.service.messages import (
    BAD,
    GOOD,
    INSTALL,
    LONGEST,
    OVER,
    REMOVE,
    is_ours,
    read_greeting,
    read_install,
    read_remove,
    reason,
    welcome,
    wipe,
)
from accel.service.ring import SIZE, UnbelievableError
from drivers.errors import DriverError
from drivers.linux.wait import Sleeper
from drivers.reserve import Reserve

MOST_CLIENTS = 256
GATHER_US = 200
"""Microseconds that a submission waits for company, unless told otherwise."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_SHORTEST_PAUSE, _LONGEST_PAUSE = 20e-6, 1e-3
"""Seconds between looks at a device that computes: an eighth of the time that it has had, within these bounds."""

Report = dict[str, object]


class Server:
    """The service of one device; ``turn`` after ``turn``.

    Parameters
    ----------
    engine
        Of the device.
    operations
        What is offered; each is opened here, which may compile kernels.
    listen
        Returns a listening socket of the kind SEQPACKET; called when the device is open: no client waits for that.
    gather_us
        Microseconds that a submission waits for company.
    full
        Bytes of a launch that waits for no more.

    Raises
    ------
    DriverError
        When the device cannot be opened.
    """

    def __init__(
        self,
        engine: Engine,
        operations: Collection[Operation],
        listen: Callable[[], socket.socket],
        *,
        gather_us: float = GATHER_US,
        full: int = ROOM.source,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._engine = engine
        self._gather_us = gather_us
        self._clock = clock
        self._reserve = Reserve(MOST_CLIENTS, SIZE)
        budget = int(gather_us * 1000)
        self._desks: dict[Operation, Desk] = {}
        self._clients: dict[int, socket.socket] = {}
        self._seats: dict[int, tuple[Desk, Seat]] = {}
        self._bells: dict[int, int] = {}
        self._listener: socket.socket | None = None
        self._epoll = select.epoll()
        self._sleeper = Sleeper(self._epoll.fileno())
        try:
            for operation in operations:
                gathering = Gathering(budget, full)
                self._desks[operation] = Desk(engine, operation, self._reserve.memory, gathering)
            self._listener = listen()
        except DriverError:
            self.close()
            raise
        self._listener.settimeout(0)
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    def watch(self, descriptor: int) -> None:
        """End the sleep of :meth:`turn` when ``descriptor`` becomes readable, too; nothing is read from it."""
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def report(self) -> Report:
        """Return what was done, as JSON."""
        desks = self._desks.values()
        return {
            "clients": len(self._clients),
            "jobs": sum(desk.asked for desk in desks),
            "launches": sum(desk.launched for desk in desks),
            "gather_us": self._gather_us,
            "pinned": sum(desk.pinned for desk in desks),
            "copied_because": next((desk.copied_because for desk in desks if desk.copied_because), ""),
        }

    def turn(self, longest: float = math.inf) -> None:
        """Sleep until there is something to do, ``longest`` seconds at most, and do it.

        Raises DriverError when the device has failed; the server is to be closed then.
        """
        self._sleeper.sleep(min(longest, self._pause()))
        for descriptor, _ in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            elif descriptor in self._bells:
                self._rung(descriptor)
            elif descriptor in self._clients:
                self._speak(descriptor)
        self._work()

    def close(self, why: str = "it was told to end") -> None:
        """Tell every client, wipe every key and give the device back. May be called twice."""
        for sock in self._clients.values():
            with suppress(OSError):
                sock.send(reason(OVER, why), socket.MSG_DONTWAIT)
            sock.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
        with suppress(DriverError):  # one that has failed may not answer; what it held ends with this process
            for desk in self._desks.values():
                desk.close()
        self._desks.clear()
        self._seats.clear()
        self._bells.clear()
        self._epoll.close()
        self._reserve.close()

    # --- work

    def _pause(self) -> float:
        """Return how long there is nothing to do for certain, seconds."""
        now, pause = self._clock(), math.inf
        for desk in self._desks.values():
            until = desk.until()
            if until is not None:
                pause = min(pause, max(until - now, 0) * 1e-9)
            if desk.busy:
                had = (now - desk.since()) * 1e-9 / 8 if desk.since() else 0.0
                pause = min(pause, max(_SHORTEST_PAUSE, min(had, _LONGEST_PAUSE)))
        return pause

    def _work(self) -> None:
        now = self._clock()
        for desk in self._desks.values():
            desk.launch(now)
        if any(desk.busy for desk in self._desks.values()):
            self._engine.poll()
            for desk in self._desks.values():
                desk.answer(now)
                desk.launch(now)

    # --- clients

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left for it
            return
        if len(self._clients) >= MOST_CLIENTS or not is_ours(sock):
            with suppress(OSError):
                sock.send(reason(BAD, "there is no place for another client"), socket.MSG_DONTWAIT)
            sock.close()
            return
        sock.settimeout(0)
        self._clients[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _rung(self, bell: int) -> None:
        descriptor = self._bells[bell]
        with suppress(BlockingIOError):
            os.eventfd_read(bell)
        desk, seat = self._seats[descriptor]
        try:
            desk.hear(seat, self._clock())
        except UnbelievableError as lie:
            self._dismiss(descriptor, f"a submission cannot be believed: {lie}")

    def _speak(self, descriptor: int) -> None:
        """Take one message of a client."""
        message = bytearray(LONGEST)
        try:
            size = self._clients[descriptor].recv_into(message)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self._dismiss(descriptor)
            return
        said = message[:size]
        try:
            answer = self._greeted(descriptor, said) if descriptor not in self._seats else self._key(descriptor, said)
            if answer:
                self._clients[descriptor].send(answer)
        except UnbelievableError as lie:
            self._dismiss(descriptor, f"a message cannot be believed: {lie}")
        except OSError:  # it does not read its answers, or is gone
            self._dismiss(descriptor)
        finally:
            wipe(message)
            wipe(said)

    def _greeted(self, descriptor: int, message: bytearray) -> bytes:
        """Give a client its memory; return what else is to be said."""
        operation = read_greeting(bytes(message))
        desk = self._desks.get(operation)
        if desk is None:
            return reason(BAD, f"this service does not offer {operation.value}")
        memory = os.memfd_create("vantun-service", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        bell = start = -1
        try:
            os.ftruncate(memory, SIZE)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            start = self._reserve.map(memory)
            seat = Seat(self._clients[descriptor], bell, self._reserve, start)
            socket.send_fds(seat.socket, [welcome(choices(self._engine))], [memory, bell])
        except (OSError, DriverError) as error:
            if start >= 0:
                self._reserve.unmap(start)
            if bell >= 0:
                os.close(bell)
            return reason(BAD, f"no memory for another client: {error}")
        finally:
            os.close(memory)
        desk.take_seat(seat)
        self._seats[descriptor] = desk, seat
        self._bells[bell] = descriptor
        self._epoll.register(bell, select.EPOLLIN)
        return b""

    def _key(self, descriptor: int, message: bytearray) -> bytes:
        """Install or remove a key; return the answer."""
        keys = self._seats[descriptor][1].keys
        if keys is None:
            return reason(BAD, "this operation takes no keys")
        try:
            if message[:1] == INSTALL:
                keys.install(*read_install(message))
            elif message[:1] == REMOVE:
                keys.remove(read_remove(message))
                if not self._seats[descriptor][1].out:
                    keys.settle()
            else:
                raise UnbelievableError("neither a key nor the end of one")
        except DriverError as error:
            return reason(BAD, str(error))
        return GOOD

    def _dismiss(self, descriptor: int, why: str = "") -> None:
        """Let a client go."""
        sock = self._clients.pop(descriptor)
        self._epoll.unregister(descriptor)
        if why:
            with suppress(OSError):
                sock.send(reason(OVER, why))
        sock.close()
        found = self._seats.pop(descriptor, None)
        if found is not None:
            desk, seat = found
            self._epoll.unregister(seat.bell)
            del self._bells[seat.bell]
            desk.leave(seat)
