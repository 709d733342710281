"""Where data workers come from: a nursery, in which the next one is born at once.

Without a nursery they are new processes, of which one may wait, idle, for the death of any of those at work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from drivers.shared import SharedPage
from vantun.config import AccelConfig
from vantun.control.engine_notes import EngineNotes
from vantun.control.gpu_services import GpuServices
from vantun.control.lane_keeper import FloorPage
from vantun.control.worker_channel import Process, WorkerChannel
from vantun.control.worker_process import spawn_worker
from vantun.errors import WorkerError
from vantun.session.limits import SHARE_BYTES, SHARE_PLACES, SLICES
from vantun.worker_messages import Configure, Message

if TYPE_CHECKING:
    from vantun.control.nursery import Nursery
    from vantun.dataplane.config import DataplaneConfig

log = logging.getLogger(__name__)

Take = Callable[[Message, list[int]], None]


class Recruits:
    """Starts the workers of an appliance.

    Attributes
    ----------
    floors
        The page that all of them share.
    engines
        Operation -> name of the engine that serves it, as the last one said that was started.
    engine_notes
        Engines that were wrong in one of them.
    services
        Those that have GPUs for them; whoever gave them closes them.
    """

    def __init__(
        self,
        config: DataplaneConfig,
        accel: AccelConfig,
        nursery: Nursery | None = None,
        services: GpuServices | None = None,
    ) -> None:
        self.floors = FloorPage()
        self._rates = SharedPage.reserve(SHARE_PLACES * SLICES * SHARE_BYTES, "vantun-rates")
        self.engines: dict[str, str] = {}
        self.engine_notes = EngineNotes()
        self._config = config
        self._accel = accel
        self._nursery = nursery
        self.services = services if services is not None else GpuServices(accel, lambda: None)
        self._started = 0
        self._told = False
        self._spare: asyncio.Task[WorkerChannel] | None = None

    async def start(self, patience: float, take: Take) -> WorkerChannel:
        """Start a worker and wait until it could serve. Raises WorkerError."""
        self._started += 1
        await self.services.settle()
        process, ours = await self._new()
        channel = WorkerChannel(process, ours, patience, take)
        ready = await channel.begin(self._configure())
        self.engines = ready.engines
        if ready.compiled and not self._told:
            self._told = True
            log.warning("the data worker compiled its kernels when it started: %s", ready.compiled)
        return channel

    def _configure(self) -> Configure:
        return Configure(asdict(self._config), asdict(self._accel), self._started, self.services.offers())

    async def _new(self) -> tuple[Process, socket.socket]:
        """Return a new process and our end of the socket to it. Raises WorkerError."""
        floors, rates = self.floors.page.fd, self._rates.fd
        if self._nursery is not None:
            try:
                return await self._nursery.bear(floors, rates)
            except WorkerError as error:
                log.debug("a data worker is started as a new process: %s", error)
        return spawn_worker(floors, rates)

    async def next(self, patience: float, take: Take) -> WorkerChannel:
        """Return the worker that waits, or a new one. Raises WorkerError."""
        spare, self._spare = self._spare, None
        if spare is not None:
            try:
                channel = await spare
            except WorkerError:  # it died while it waited
                return await self.start(patience, take)
            if not channel.lost:
                channel.serve(take)
                return channel
        return await self.start(patience, take)

    def keep_spare(self, patience: float) -> None:
        """Start a worker that waits for the death of another, without a nursery; a failure shows when it is needed."""
        if self.spare == "none":
            self._spare = asyncio.create_task(self.start(patience, _unasked))

    @property
    def spare(self) -> str:
        """What there is for the case of a death: "none", "starting" or "ready"."""
        if self._nursery is not None and self._nursery.pid:
            return "ready" if self._nursery.ready else "starting"
        if self._spare is None or (self._spare.done() and (self._spare.cancelled() or self._spare.exception())):
            return "none"
        if not self._spare.done():
            return "starting"
        return "none" if self._spare.result().lost else "ready"

    async def dismiss(self) -> None:
        """End the one that waits."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            done = await asyncio.gather(spare, return_exceptions=True)
            if isinstance(done[0], WorkerChannel):
                done[0].lose("it is not wanted any more")
                await done[0].close()

    async def close(self) -> None:
        """End the one that waits, and give the pages up: no worker is left."""
        await self.dismiss()
        self.floors.close()
        self._rates.close()


def _unasked(_message: Message, _descriptors: list[int]) -> None:
    """Take what a worker says that nobody has asked anything."""
