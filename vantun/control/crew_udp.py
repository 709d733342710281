"""The UDP sockets of programs among several workers: who serves which, and the page by which they know each other's.

A socket that listens is one of a group on its address, made for one worker; an association's goes to the worker that
has least to do.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from drivers.errors import DriverError
from drivers.shared import SharedPage
from vantun.control.slices import Slice, Slices
from vantun.control.tun_link import Carried
from vantun.errors import WorkerError
from vantun.udp_messages import ANY_WORKER, PORTS, CloseUdp, MoveUdp, NotePorts, OpenUdp

if TYPE_CHECKING:
    from vantun.worker_messages import Command


class Link(Protocol):
    """What WorkerLink is here."""

    def _post(self, message: Command, sock: Carried | None = None) -> None: ...


class CrewUdp:
    """A part of Crew.

    Parameters
    ----------
    least
        Returns the slice of a session whose worker has least to do.
    """

    def __init__(self, links: Sequence[Link], slices: Slices, least: Callable[[int], Slice]) -> None:
        self._links = links
        self._slices = slices
        self._least = least
        self._worker_of: dict[int, int] = {}
        """By the number of a socket."""
        self._ports: SharedPage | None = None

    # --- the page of local ports

    def make(self) -> None:
        """Make the page, which one worker alone does without. Raises WorkerError."""
        if len(self._links) > 1:
            try:
                self._ports = SharedPage.reserve(PORTS, "vantun-udp-ports")
            except DriverError as error:
                raise WorkerError(str(error)) from None

    def join(self, worker: int) -> None:
        """Give the page to a worker. Raises WorkerError when no descriptor is left."""
        if self._ports is None:
            return
        try:
            page = io.FileIO(os.dup(self._ports.fd), "r+")
        except OSError as error:
            raise WorkerError(
                f"the workers cannot share a page: {error.strerror}; allow more open files (ulimit -n)"
            ) from None
        self._links[worker]._post(NotePorts(worker), page)

    def lost(self, worker: int) -> None:
        """Learn that a worker is lost, and its direct sockets with it."""
        if self._ports is not None:
            ports, its = self._ports.memory, bytes([worker + 1])
            port = ports.find(its, 0)
            while port >= 0:
                ports[port] = 0
                port = ports.find(its, port)

    def close(self) -> None:
        """Give the page up. May be called twice."""
        if self._ports is not None:
            self._ports.close()
            self._ports = None

    # --- sockets

    def serves(self, worker: int, number: int) -> bool:
        """Tell whether a socket, by its number, is of a worker."""
        return self._worker_of.get(number) == worker

    def places(self, session: int) -> tuple[int, ...]:
        """Return the workers that have a slice of a session, in the order of the slices, each once."""
        return tuple(dict.fromkeys(each.worker for each in sorted(self._slices.of(session))))

    def open(self, message: OpenUdp, sock: Carried | None) -> None:
        """Have a socket served by the worker that it is meant for, or by the one with least to do."""
        worker, session = message.worker, 0
        if worker != ANY_WORKER:
            session = self._number(message.session, worker)
        elif message.session:
            chosen = self._least(message.session)
            worker, session = chosen.worker, chosen.number
        else:
            worker = 0
        self._worker_of[message.number] = worker
        self._links[worker]._post(replace(message, session=session), sock)

    def tell(self, number: int, message: MoveUdp | CloseUdp) -> None:
        """Tell the worker that serves a socket what is new about it."""
        worker = self._worker_of.get(number, 0)
        if isinstance(message, CloseUdp):
            self._worker_of.pop(number, None)
        else:
            message = MoveUdp(number, self._number(message.session, worker))
        self._links[worker]._post(message)

    def closed(self, number: int) -> None:
        """Learn that a worker has closed a socket."""
        self._worker_of.pop(number, None)

    def _number(self, session: int, worker: int) -> int:
        """Return the number by which a worker knows its slice of a session; 0 = it has none."""
        return next((each.number for each in self._slices.of(session) if each.worker == worker), 0)
