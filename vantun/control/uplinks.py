"""All paths of a client while it runs: those of its configuration, and those that come and go with interfaces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from drivers.linux.interfaces import Connections
from vantun.config_paths import PathConfig
from vantun.control.system_paths import Wanted, missing, select
from vantun.control.uplink import Tunnel, Uplink
from vantun.errors import VantunError

log = logging.getLogger(__name__)


class Uplinks:
    """Runs an uplink for each path, and gives it up when its path goes.

    Parameters
    ----------
    tunnel
        What they share.
    own
        Interfaces that are the tunnel's own.
    """

    def __init__(self, tunnel: Tunnel, own: Collection[str] = ()) -> None:
        config = tunnel.config
        base = PathConfig("default", config.server, up=config.bandwidth.up, down=config.bandwidth.down)
        self._wanted = Wanted(config.multipath, replace(base, mtu=config.multipath.mtu), config.paths, own)
        self._tunnel = tunnel
        self._uplinks: dict[str, Uplink] = {}
        self._tasks: dict[str, asyncio.Task[VantunError]] = {}
        self._leaving: set[asyncio.Task[VantunError]] = set()
        self._seen = Connections()
        self._hopeless: asyncio.Future[VantunError] = asyncio.get_running_loop().create_future()
        for path in config.paths:
            self._add(path)

    async def run(self) -> VantunError:
        """Return why the first one cannot work as soon as none can; one that comes later has its chance until then."""
        return await self._hopeless

    async def close(self) -> None:
        """End all of them."""
        tasks, self._tasks = [*self._tasks.values(), *self._leaving], {}
        self._uplinks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def report(self) -> list[dict[str, object]]:
        """Return the paths' part of the status."""
        return [uplink.report() for uplink in self._uplinks.values()]

    def names(self) -> dict[tuple[str, int], str]:
        """Return (session in hex, path id) -> name of the path, for those that are up."""
        return {
            (f"{lane.session:x}", lane.path): name
            for name, uplink in self._uplinks.items()
            if uplink.attempt is not None and (lane := uplink.attempt.lane) is not None
        }

    def close_full(self, names: Collection[str]) -> None:
        """Close the paths that have used up their volume."""
        for name in names:
            if (uplink := self._uplinks.get(name)) is not None:
                uplink.lose("its volume is used up")

    def use_default(self) -> None:
        """Use one path as routes have it: the system does not say what it is connected to."""
        if not self._uplinks:
            self._add(self._wanted.base)

    def settle(self, now: Connections) -> None:
        """Follow the system: begin paths that it offers, end those whose interface or address is gone."""
        grown = set(now.routes) - set(self._seen.routes) or set(now.addresses) - set(self._seen.addresses)
        self._end_replaced(now)
        self._seen = now
        for path in self._wanted.configured:
            self._settle_configured(path, missing(now, path), grown=bool(grown))
        if not self._wanted.rules.auto:
            return
        system = {each.config.interface: each for each in self._uplinks.values() if each.config.origin == "system"}
        present = {name: uplink.config for name, uplink in system.items() if uplink.state != "failed"}
        offered = select(now, self._wanted, present)
        for gone in system.keys() - {path.interface for path in offered}:
            name = system[gone].config.name
            self._remove(name, "its interface has gone, or has no address or default route any more")
        for path in offered:
            self._offer(path)

    def _end_replaced(self, now: Connections) -> None:
        """End the paths whose interface has gone, and come back under its name: their sockets belong to the old one."""
        before = {each.name: each.index for each in self._seen.interfaces}
        again = {each.name for each in now.interfaces if before.get(each.name, each.index) != each.index}
        for uplink in self._uplinks.values():
            if uplink.config.interface in again:
                uplink.lose("its interface was made anew")
                uplink.wake()

    def _offer(self, path: PathConfig) -> None:
        uplink = self._uplinks.get(path.name)
        if uplink is None or uplink.state == "failed":
            if uplink is not None:
                self._remove(path.name, "it is tried again")
            log.info("path %s: the system offers %s by %s", path.name, " and ".join(path.sources), path.interface)
            self._add(path)
        elif uplink.config != path:
            uplink.config = path
            if uplink.source not in path.sources:
                uplink.lose("its address has changed")
            uplink.wake()

    def _settle_configured(self, path: PathConfig, lacks: str, *, grown: bool) -> None:
        uplink = self._uplinks.get(path.name)
        if uplink is None:
            return
        before, uplink.lacks = uplink.lacks, lacks
        if lacks:
            uplink.lose(lacks)
        elif before or grown:
            uplink.wake()

    def _add(self, path: PathConfig) -> None:
        uplink = self._uplinks[path.name] = Uplink(self._tunnel, path)
        task = self._tasks[path.name] = asyncio.create_task(uplink.run())
        task.add_done_callback(lambda done: self._on_done(path.name, done))

    def _remove(self, name: str, reason: str) -> None:
        log.info("path %s: ended: %s", name, reason)
        del self._uplinks[name]
        task = self._tasks.pop(name)
        task.cancel()  # what it holds is given back on the way out
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        self._tunnel.trying.discard(name)

    def _on_done(self, name: str, task: asyncio.Task[VantunError]) -> None:
        if task.cancelled() or self._tasks.get(name) is not task or self._hopeless.done():
            return
        error = task.exception()
        if error is not None:
            self._hopeless.set_exception(error)
        elif all(other.done() for other in self._tasks.values()):
            self._hopeless.set_result(next(iter(self._tasks.values())).result())
