"""What the control process does for the engines of its data workers: GPU services, and measuring."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from vantun.config_accel import AccelConfig
from vantun.control.calibrator import Calibrator
from vantun.control.gpu_services import GpuServices
from vantun.control.recruits import Recruits

if TYPE_CHECKING:  # the data plane's settings import numba, which this process does without
    from vantun.control.nursery import Nursery
    from vantun.dataplane.config import DataplaneConfig

log = logging.getLogger(__name__)


class EngineCare:
    """Starts what engines need, and says when workers are to look at them again.

    Parameters
    ----------
    retune
        Has the workers serve by what was measured, and by the services of then.

    Attributes
    ----------
    services
        The GPU services.
    """

    def __init__(self, config: AccelConfig, retune: Callable[[], None]) -> None:
        self.services = GpuServices(config, retune)
        self._config = config
        self._retune = retune
        self._calibrator = Calibrator(config, self._measured)
        self._starting: asyncio.Task[None] | None = None

    async def recruits(self, settings: DataplaneConfig, nursery: Nursery | None) -> Recruits:
        """Return where data workers come from, once the services that they are to use are there."""
        await self.services.start()
        return Recruits(settings, self._config, nursery, self.services)

    def measure(self) -> None:
        """Have the machine measured in the background, unless it is known or not wanted."""
        self._calibrator.start()

    def _measured(self) -> None:
        log.info("engines were measured: they serve by that from now on")
        self._starting = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        await self.services.start()  # what measured best may be a GPU
        self._retune()

    def report(self) -> dict[str, object]:
        """Return the state of both, as parts of a status."""
        return {"calibration": self._calibrator.report(), "gpu_services": self.services.report()}

    async def close(self) -> None:
        """End every process that this has started."""
        await self._calibrator.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self.services.close()
