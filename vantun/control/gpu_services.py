"""The GPU services of an appliance: one for each device of the engines that its data workers are to use."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial

from drivers.errors import DriverError
from vantun.config_accel import AccelConfig
from vantun.control.gpu_service import GpuService

log = logging.getLogger(__name__)

FIRST_SECONDS = 300.0
"""That a service may take to be ready before data workers are started without it: it may compile its kernels."""
AGAIN_SECONDS = 5.0
"""The same of one that was ready before."""


class GpuServices:
    """Starts services, and knows where they are.

    Parameters
    ----------
    changed
        Called when one serves that did not.
    """

    def __init__(self, config: AccelConfig, changed: Callable[[], None]) -> None:
        self._config = config
        self._changed = changed
        self._services: dict[tuple[str, int], GpuService] = {}
        self._begun = False

    async def start(self) -> None:
        """Start what is wanted now and is not there, and wait until it is ready, or has failed."""
        if self._config.service == "off":
            return
        from vantun.accel_known import wanted_services

        try:
            wanted = wanted_services(self._config)
        except DriverError as error:  # data workers say it, too, and that ends the appliance
            log.debug("no GPU service: %s", error)
            return
        self._begun = False  # whoever starts them looks at them then
        for engine, operations in wanted.items():
            names = sorted(operation.value for operation in operations)
            if (engine, 0) not in self._services:
                first = self._add(engine, 0, names)
                await self._settle([first], FIRST_SECONDS)
                others = [self._add(engine, device, names) for device in range(1, first.devices)]
                await self._settle(others, FIRST_SECONDS)
        self._begun = True

    async def settle(self) -> None:
        """Wait a moment for services that are on their way back: a data worker that begins now shall find them."""
        away = [each for each in self._services.values() if each.state != "failed"]
        await self._settle(away, AGAIN_SECONDS)

    def offers(self) -> dict[str, tuple[str, ...]]:
        """Return engine -> places of the services that serve."""
        found: dict[str, tuple[str, ...]] = {}
        for service in self._services.values():
            if service.state == "serving":
                found[service.engine] = (*found.get(service.engine, ()), service.place)
        return found

    def report(self) -> list[dict[str, object]]:
        """Return the state of each as JSON."""
        return [service.report() for service in self._services.values()]

    def fallbacks(self) -> list[dict[str, object]]:
        """Return what is done without."""
        away: list[dict[str, object]] = [
            {"what": f"no GPU service of {each.engine}, device {each.device}", "reason": each.reason or each.state}
            for each in self._services.values()
            if each.state != "serving"
        ]
        copies: list[dict[str, object]] = [
            {"what": f"one more copy in the GPU service of {each.engine}, device {each.device}", "reason": reason}
            for each in self._services.values()
            if (reason := each.copied_because)
        ]
        return [*away, *copies]

    async def close(self) -> None:
        """End all of them."""
        services, self._services = self._services, {}
        await asyncio.gather(*(service.close() for service in services.values()))

    def _add(self, engine: str, device: int, operations: Iterable[str]) -> GpuService:
        command = partial(_command, engine, device, ",".join(operations), self._config.gather_us)
        self._services[engine, device] = service = GpuService(engine, device, command, self._on_change)
        return service

    def _on_change(self) -> None:
        if self._begun:
            self._changed()

    async def _settle(self, services: Iterable[GpuService], seconds: float) -> None:
        waiting = [asyncio.ensure_future(service.settled.wait()) for service in services]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=seconds)
            for each in late:
                each.cancel()


def _command(engine: str, device: int, operations: str, gather_us: int, place: str, control: int) -> list[str]:
    from vantun.engine_service import MODULE

    words = ["--engine", engine, "--device", str(device), "--operations", operations, "--gather-us", str(gather_us)]
    words += ["--name", place, "--control", str(control), "--parent", str(os.getpid())]
    return [sys.executable, "-P", "-m", MODULE, *words]
