"""The TUN of several workers: who has which queue, flow and route, and the look at who has too much to do."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from drivers.errors import DriverError
from drivers.shared import SharedPage
from vantun.control.busy import BusyTimes
from vantun.control.crew_memory import CrewMemory
from vantun.control.crew_routes import CrewRoutes
from vantun.control.crew_tun import CrewTun
from vantun.control.slices import Slices
from vantun.control.tun_link import Carried, duplicate
from vantun.one_thread import one_thread
from vantun.tun_messages import BUCKET_NUMBERS, BUCKET_ROWS, BUCKETS, AddTun, CountTun, OpenTun, SetTunRoutes, TunFlow

if TYPE_CHECKING:
    from vantun.control.crew_buckets import Move, Thief
    from vantun.worker_messages import Command

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between looks at the workers' load."""
_AGAIN = 0.5
"""Seconds until a flow of packets that has ended is opened again."""
_SHOWN = 8
"""Moves that a status shows."""


class Link(Protocol):
    """What WorkerLink is here."""

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def serving(self) -> bool:
        """Whether there is one now."""

    def _post(self, message: Command, sock: Carried | None = None) -> None: ...


class CrewTunnel:
    """A part of Crew.

    Attributes
    ----------
    tun
        The queues.
    """

    def __init__(self, links: Sequence[Link], slices: Slices, memory: CrewMemory) -> None:
        self.tun = CrewTun()
        self._links = links
        self._slices = slices
        self._memory = memory
        self._routes = CrewRoutes(len(links))
        self._device: AddTun | None = None
        self._page: SharedPage | None = None
        self._thief: Thief | None = None
        self._busy = BusyTimes()
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._moved = self._followed = 0
        self._moves: deque[str] = deque(maxlen=_SHOWN)

    # --- the device and its workers

    def add(self, device: AddTun, descriptors: Sequence[int]) -> None:
        """Have worker i read and write queue i; workers without one carry no packets."""
        self._device = device
        self.tun.close()
        self.tun = CrewTun(descriptors[: len(self._links)], self._networks)
        if self.tun.steered:
            self._count(client=device.client)
        for worker in range(len(self.tun.queues)):
            self._hand_out(worker)

    def _count(self, *, client: bool) -> None:
        with one_thread():
            from vantun.control.crew_buckets import Thief  # with numpy, which one worker needs not

        self._thief = Thief(self.tun.buckets, len(self.tun.queues), client=client)
        if self._page is not None:
            return
        try:
            self._page = SharedPage.create("i8", (BUCKET_ROWS, BUCKETS, BUCKET_NUMBERS), "vantun-buckets")
        except DriverError as error:
            log.warning("tun: the load of flows is not counted, so none is moved: %s", error)
            return
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _hand_out(self, worker: int) -> None:
        assert self._device is not None
        link = self._links[worker]
        link._post(self._device, duplicate(self.tun.queues[worker]))
        if self._page is not None and self._thief is not None:
            link._post(CountTun(worker), duplicate(self._page.fd))

    def lost(self, worker: int) -> None:
        """Learn that a worker is lost."""
        self._routes.lost(worker)
        self.tun.lost(worker)
        self._settle_all()

    def returned(self, worker: int) -> None:
        """Tell a new worker what the one before it knew."""
        if self._device is None or not self.tun.has(worker):
            return
        self._hand_out(worker)
        self.tun.returned(worker)
        self._settle_all()
        for session, each in self._slices.on(worker):
            if session in self._memory.opened:
                self._links[worker]._post(OpenTun(each.number))

    # --- flows and routes

    def open(self, session: int) -> None:
        """Client: open the flow of packets of every slice that has a queue, and no flow yet."""
        for each in self._slices.of(session):
            alone = len(self._links) == 1  # then the flow that is there is replaced
            if self.tun.has(each.worker) and (alone or each.worker not in self.tun.opened(session)):
                self._links[each.worker]._post(OpenTun(each.number))

    def flow(self, worker: int, event: TunFlow) -> bool:
        """Note what became of a slice's flow of packets; return whether the owner is to learn of it.

        The flow of slice 0 stands for all to the owner. At a client, that of another slice is opened again here.
        """
        session = self._slices.session_of(event.session)
        self.tun.flow(session, worker, is_open=event.open)
        self.settle(session)
        if self._slices.index_of(event.session) == 0:
            return True
        if not event.open and not event.code and session in self._memory.opened:
            asyncio.get_running_loop().call_later(_AGAIN, self._reopen, session)
        return False

    def _reopen(self, session: int) -> None:
        if session in self._memory.opened and not self._closing:
            self.open(session)

    def _networks(self, session: int) -> tuple[str, ...]:
        routes = self._memory.routes.get(session)
        return (*routes.addresses, *routes.prefixes) if routes is not None else ()

    def settle(self, session: int) -> None:
        """Tell workers what is new about a session's routes."""
        serving = [worker for worker, link in enumerate(self._links) if link.serving]
        routes = self._memory.routes.get(session, SetTunRoutes(session, (), ()))
        slices, opened = self._slices.of(session), self.tun.opened(session)
        if session in self._memory.routes or opened or self._routes.knows(session):
            for worker, message in self._routes.settle(routes, slices, opened, serving):
                self._links[worker]._post(message)

    def route(self, session: int) -> None:
        """Tell workers, and the kernel, what is routed to a session from now on."""
        self.settle(session)
        self.tun.changed()

    def _settle_all(self) -> None:
        for session in self._memory.routes:
            self.settle(session)

    def forget(self, session: int) -> None:
        """Learn that a session ends; its slices are still known."""
        self.tun.forget(session)
        for worker, message in self._routes.forget(session, self._slices.of(session)):
            self._links[worker]._post(message)

    # --- load

    def _look(self) -> None:
        """Look at the workers' load, and move flows if one has too much."""
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        if self._page is None or self._thief is None:
            return
        busy = self._busy.look([link.pid for link in self._links], asyncio.get_running_loop().time())
        self.judge(asyncio.get_running_loop().time(), busy)

    def judge(self, now: float, busy: Sequence[float]) -> None:
        """Move flows by what workers had to do since the last look."""
        assert self._page is not None
        assert self._thief is not None
        counts = self._page.array[: len(self.tun.queues)]
        moves = self._thief.look(now, busy, counts, self.tun.usable)
        for move in moves:
            self._note(move)
        if moves:
            self.tun.settle()

    def _note(self, move: Move) -> None:
        count = len(move.buckets)
        what = f"{count} bucket{'s' if count > 1 else ''} of flows from worker {move.source} to {move.target}"
        if move.busy == (0.0, 0.0):
            self._followed += count
            log.debug("tun: %s, as the peer has", what)
            return
        self._moved += count
        why = f"{what}: busy {move.busy[0]:.0%} and {move.busy[1]:.0%}"
        self._moves.append(why)
        log.info("tun: moved %s", why)

    # --- the end, and what is shown

    def report(self) -> dict[str, object]:
        """Return what the status shows beside the workers' counters."""
        if len(self.tun.queues) < 2:
            return {}
        return {
            "steering": "program" if self.tun.steered else "kernel",
            "moved_buckets": self._moved,
            "followed_buckets": self._followed,
            "moves": list(self._moves),
            "queues": [self.tun.buckets.assigned.count(worker) for worker in range(len(self.tun.queues))],
        }

    def fallbacks(self) -> list[dict[str, object]]:
        """Return what is done without."""
        if not self.tun.reason:
            return []
        return [{"what": "TUN queues chosen by the kernel", "reason": self.tun.reason}]

    def close(self) -> None:
        """Change nothing any more. May be called twice."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self.tun.close()
        if self._page is not None:
            self._page.close()
            self._page = None
