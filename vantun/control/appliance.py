"""What server and client have in common: the data worker's life, signals, the status socket, and the exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, cast

from vantun import __version__
from vantun.config import ClientConfig, ServerConfig, default_status_socket
from vantun.config_schema import Role
from vantun.control.crew import Crew
from vantun.control.drain import drain
from vantun.control.engine_care import EngineCare
from vantun.control.logs import set_up_logging
from vantun.control.notify import notify
from vantun.control.reload import Config, ConfigSource, Reloader
from vantun.control.resolver import Resolver
from vantun.control.revival import Deaths, Seat, revive
from vantun.control.sleep_watch import SleepWatch
from vantun.control.status_server import StatusServer
from vantun.control.telemetry import Telemetry
from vantun.control.tidy import Tidy
from vantun.control.udp_sockets import UdpSockets
from vantun.control.worker_count import places_of, worker_count
from vantun.control.worker_settings import worker_settings
from vantun.errors import EXIT_OK, WorkerError

if TYPE_CHECKING:
    from vantun.control.nursery import Nursery
    from vantun.dataplane.events import Event

log = logging.getLogger(__name__)

WATCH_EVERY = 2.0
"""Seconds between looks at which lanes are alive."""
SHARE_EVERY = 1.0
"""The same with several workers, who share users' rates by what each has lately carried."""
_SNAPSHOT_TIME = 3.0
"""Seconds; `vantun status` waits for 5."""


def run_server(config: ServerConfig, source: ConfigSource | None = None, nursery: Nursery | None = None) -> int:
    """Run a server until SIGINT or SIGTERM; return the exit code. Raises VantunError."""
    from vantun.control.server import Server

    set_up_logging(config.log_level, config.log_format)
    asyncio.run(_run(Server, config, source, nursery))
    return EXIT_OK


def run_client(config: ClientConfig, source: ConfigSource | None = None, nursery: Nursery | None = None) -> int:
    """Run a client until SIGINT or SIGTERM; return the exit code. Raises VantunError."""
    from vantun.control.client import Client

    set_up_logging(config.log_level, config.log_format)
    asyncio.run(_run(Client, config, source, nursery))
    return EXIT_OK


async def _run(kind: type[Appliance], config: Config, source: ConfigSource | None, nursery: Nursery | None) -> None:
    # A program in the handshake, or a target that is being connected to, is an open file.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    appliance = kind(config)
    appliance.nursery = nursery
    appliance.reload_from(source)
    await appliance.run()


class Appliance(ABC):
    """A server or a client: a control process with its data workers.

    Attributes
    ----------
    nursery
        Where data workers are born, if there is one; whoever has planted it closes it.
    link
        The data workers, once they have served.
    workers
        How many there are to be.
    draining
        Whether the end has come: what is open goes on for a while, nothing new is begun.
    """

    role: Role

    def __init__(self, config: ServerConfig | ClientConfig) -> None:
        self.nursery: Nursery | None = None
        self.link: Crew | None = None
        self.draining = False
        self.resolver = Resolver()
        self.workers, self._fewer = worker_count(config.life)
        self.sockets = UdpSockets(self.workers)
        self._common = config
        self._status: StatusServer | None = None
        self._telemetry = Telemetry()
        self._tidy = Tidy()
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._losses: deque[tuple[int, str]] = deque()
        self._loss = asyncio.Event()
        self._reviving: dict[int, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[str] = self._loop.create_future()
        self._seen: dict[tuple[int, int], int] = {}
        self._reloader: Reloader | None = None
        self._deaths = [Deaths(self._loop.time) for _ in range(self.workers)]
        self._last_death = ""
        self._sleep = SleepWatch()
        self._care = EngineCare(config.accel, self._retune)

    # --- what a role adds

    @abstractmethod
    async def prepare(self) -> None:
        """Check and bind everything that can fail, before a worker is started. Raises VantunError."""

    @abstractmethod
    def begin(self, link: Crew) -> None:
        """Serve by the first workers."""

    @abstractmethod
    def resume(self, link: Crew) -> None:
        """Go on with a new worker in place of the only one.

        It has the lanes and their UDP sockets, and nothing else that the one before had. TUN devices, sockets of UDP
        flows and the like are to be handed to it again.
        """

    @abstractmethod
    async def abandon(self) -> None:
        """Drop what was on its way into the only worker, which is lost; paths and sessions go on."""

    @abstractmethod
    def leave(self, link: Crew, worker: int) -> None:
        """Drop what was on its way into a worker that is lost; that of the others goes on."""

    @abstractmethod
    def rejoin(self, link: Crew, worker: int) -> None:
        """Go on with a new worker among others: it has all that the one before was told, but no sockets of programs."""

    @abstractmethod
    async def finish(self) -> None:
        """Say goodbye to the peers, and close everything that :meth:`prepare` has opened."""

    @abstractmethod
    def ready(self) -> bool:
        """Tell whether it can do its work."""

    @abstractmethod
    def report(self) -> dict[str, object]:
        """Return the role's part of the status."""

    async def reload(self, config: Config) -> None:
        """Use what of ``config`` takes effect without a restart; a role adds its own parts before it calls this.

        Raises
        ------
        VantunError
            When it cannot be used; then nothing has changed.
        """
        set_up_logging(config.log_level, config.log_format)
        self._retune(clear=True)

    def _retune(self, *, clear: bool = False) -> None:
        """Serve by what was measured, and by the GPU services of now."""
        if self.link is not None:
            self.link.retune(clear=clear)

    @abstractmethod
    def touch(self, session: int, path: int) -> None:
        """Learn that packets have come in on a lane since the last look."""

    @abstractmethod
    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """See WorkerListener."""

    @abstractmethod
    def on_event(self, event: Event) -> None:
        """See WorkerListener."""

    @abstractmethod
    def follow(self, mtus: dict[tuple[int, int], int]) -> None:
        """Learn the largest UDP payload of every lane, by (session, path), bytes."""

    def count(self, lanes: list[dict[str, object]]) -> None:
        """Learn what every lane has carried, as the worker's snapshot has it; of no use to most."""
        del lanes

    @abstractmethod
    def more_fallbacks(self) -> list[dict[str, object]]:
        """Return what the role does without."""

    # --- life

    async def run(self) -> None:
        """Serve until a signal comes. Raises VantunError when it cannot go on."""
        stop, hurry = asyncio.Event(), asyncio.Event()

        def signalled() -> None:
            (hurry if stop.is_set() else stop).set()

        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, signalled)
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            log.info("vantun %s: stopping", self.role)
            self.draining = True
            await drain(self._open_flows, self._common.life.drain, hurry)
            notify("STOPPING=1")
        finally:
            for task in (serving, stopping):
                task.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            await self._stop()

    def reload_from(self, source: ConfigSource | None) -> None:
        """Read the configuration again at each SIGHUP, which ends the process without a source, as is its default."""
        if source is not None:
            self._reloader = Reloader(source, self.role, self.reload)
            self._loop.add_signal_handler(signal.SIGHUP, self._reloader.request)

    def on_slept(self, seconds: float) -> None:
        """Learn that the machine was suspended for so long; timers did not count it."""
        log.warning("this machine was asleep for %.0f s", seconds)

    async def _open_flows(self) -> int:
        """Return how many connections of programs are open, 0 also when nobody knows."""
        flows = (await self._snapshot()).get("flows")
        return int(flows.get("streams", 0)) if isinstance(flows, dict) else 0

    def fail(self, error: BaseException) -> None:
        """End the appliance: nothing that it could still try helps."""
        if not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()  # a signal may have come first, and nobody looks at it any more

    def on_worker_lost(self, reason: str, worker: int = 0) -> None:
        """See CrewListener."""
        self._losses.append((worker, reason))
        self._loss.set()

    async def _serve(self) -> None:
        self._status = StatusServer(self._common.status_socket or default_status_socket(self.role), self.document)
        if self._common.metrics is not None:
            await self._telemetry.serve(self._common.metrics, self.document)
        await self.prepare()
        settings = worker_settings(self._common, self.workers)
        if self._fewer:
            log.warning("there is one data worker only: %s", self._fewer)
        log.info("starting %s", "the data worker" if self.workers == 1 else f"{self.workers} data workers")
        recruits = await self._care.recruits(settings, self.nursery)
        link = self.link = await Crew.start(recruits, self, self.workers)
        if self.nursery is not None and not self._common.life.standby:
            self.nursery.close()
        link.pin(places_of(self._common, self.workers))
        self.begin(link)
        notify("READY=1")
        self._care.measure()
        while True:
            await self._wait()
            while self._losses:
                worker, self._last_death = self._losses.popleft()
                log.error("%s is lost: %s; another one takes over", self._name(worker), self._last_death)
                self._reviving[worker] = asyncio.create_task(self._replace(link, worker))
                self._reviving[worker].add_done_callback(self._on_revived)
            if not self._reviving:
                await self._look(link)

    async def _wait(self) -> None:
        """Wait until a worker is lost, or for the time of a look. Raises what makes it pointless to go on."""
        self._loss.clear()
        losing = asyncio.ensure_future(self._loss.wait())
        try:
            if not self._losses:
                every = WATCH_EVERY if self.workers == 1 else SHARE_EVERY
                await asyncio.wait((losing, self._failed), timeout=every, return_when=asyncio.FIRST_COMPLETED)
        finally:
            losing.cancel()
        if self._failed.done():
            self._failed.result()

    async def _look(self, link: Crew) -> None:
        """Watch the lanes, and see to it that a worker waits for the death of another."""
        slept = self._sleep.slept()
        if slept:
            self.on_slept(slept)
        if self._common.life.standby:
            link.keep_spare()
        self._watch(await self._snapshot())

    async def _replace(self, link: Crew, worker: int) -> None:
        """Put another worker in the place of one that is lost. Raises WorkerError when none can be started any more."""
        self._seen.clear()
        if self.workers == 1:
            await self.abandon()
        else:
            self.leave(link, worker)
        began = self._loop.time()
        await revive(Seat(link, worker), self._deaths[worker])
        took = self._loop.time() - began
        log.info("%s is replaced after %.1f s; its open connections were reset", self._name(worker), took)
        if self.workers == 1:
            self.resume(link)
        else:
            self.rejoin(link, worker)
        del self._reviving[worker]

    def _on_revived(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _name(self, worker: int) -> str:
        return "the data worker" if self.workers == 1 else f"data worker {worker}"

    def _watch(self, snapshot: dict[str, object]) -> None:
        """Tell the role which lanes have received something."""
        lanes = snapshot.get("lanes")
        seen, mtus = dict[tuple[int, int], int](), dict[tuple[int, int], int]()
        for lane in lanes if isinstance(lanes, list) else []:
            where = (int(lane["session"], 16), int(lane["path"]))
            seen[where] = int(lane["received"])
            mtus[where] = int(lane["mtu"])
            if seen[where] > self._seen.get(where, 0):
                self.touch(*where)
        self._seen = seen
        self._tidy.look(frozenset(seen))
        self.follow(mtus)
        self.count(lanes if isinstance(lanes, list) else [])
        self._telemetry.look({**snapshot, "role": self.role})

    async def _stop(self) -> None:
        if self._reloader is not None:
            await self._reloader.close()
        for task in self._reviving.values():
            task.cancel()
        await asyncio.gather(*self._reviving.values(), return_exceptions=True)
        await self.finish()
        link, self.link = self.link, None
        if link is not None:
            await link.close()
        await self._care.close()
        await self._telemetry.close()
        if self._status is not None:
            await self._status.close()

    # --- status

    async def document(self) -> dict[str, object]:
        """Return what `vantun status` shows: the worker's snapshot and the control process's own state."""
        snapshot = await self._snapshot()
        each = snapshot.pop("each", [])
        fallbacks = snapshot.get("fallbacks")
        own = self.report()
        if isinstance(own.get("tun"), dict):  # the control process knows the interface, the worker its packets
            own["tun"] = {**cast("dict[str, object]", own["tun"]), "packets": snapshot.get("tun", {})}
        return {
            **snapshot,
            "role": self.role,
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(self._loop.time() - self._started, 3),
            "ready": self.link is not None and self.link.serving and self.ready(),
            "workers": self._workers(each),
            **self._care.report(),
            "fallbacks": [
                *(fallbacks if isinstance(fallbacks, list) else []),
                *self.sockets.fallbacks(snapshot.get("lanes")),
                *([{"what": "one data worker only", "reason": self._fewer}] if self._fewer else []),
                *self._care.services.fallbacks(),
                *self.more_fallbacks(),
            ],
            **({"reload": self._reloader.report()} if self._reloader is not None else {}),
            **own,
        }

    def _workers(self, each: object) -> dict[str, object]:
        """Return the workers, how often one died, why at last, and what there is for the next time."""
        dead, spare = (0, "none") if self.link is None else (self.link.deaths, self.link.spare)
        return {"each": each, "deaths": dead, "last_death": self._last_death, "standby": spare}

    async def _snapshot(self) -> dict[str, object]:
        """Return the worker's snapshot; empty while there is no worker that answers in time."""
        if self.link is None:
            return {}
        try:
            async with asyncio.timeout(_SNAPSHOT_TIME):
                return await self.link.snapshot()
        except (WorkerError, TimeoutError) as error:
            log.debug("no snapshot of the data worker: %s", str(error) or "it is busy")
            return {}
