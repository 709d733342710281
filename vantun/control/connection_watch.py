"""Says what the machine is connected to, at the start and whenever it changes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from drivers.errors import DriverError
from drivers.linux.interfaces import Connections, look, open_changes, skip_changes
from drivers.linux.netlink import NetlinkSocket

log = logging.getLogger(__name__)

SETTLE = 0.1
"""Seconds between the first word of a change and the look at it: an interface comes with its addresses and routes."""
_SHARE = 10.0
"""A look that takes long, on a machine with a very large table of routes, is taken accordingly seldom."""


class ConnectionWatch:
    """Calls ``on_change`` with everything there is, from the event loop; made by :meth:`start`."""

    def __init__(
        self, changes: socket.socket, netlink: NetlinkSocket, on_change: Callable[[Connections], None]
    ) -> None:
        self._changes = changes
        self._netlink = netlink
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._took = 0.0
        self._loop.add_reader(changes, self._readable)

    @classmethod
    def start(cls, on_change: Callable[[Connections], None]) -> ConnectionWatch | None:
        """Begin, and call ``on_change`` before it returns; None, with a line in the log, where the kernel refuses."""
        netlink: NetlinkSocket | None = None
        changes: socket.socket | None = None
        try:
            netlink = NetlinkSocket()
            changes = open_changes()  # first: what changes during the look is not missed
            now = look(netlink)
        except DriverError as error:
            for opened in (netlink, changes):
                if opened is not None:
                    opened.close()
            log.warning("paths do not follow the system's interfaces: %s", error)
            return None
        watch = cls(changes, netlink, on_change)
        on_change(now)
        return watch

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._changes)
        self._changes.close()
        self._netlink.close()

    def _readable(self) -> None:
        if skip_changes(self._changes) and self._timer is None:
            self._timer = self._loop.call_later(max(SETTLE, _SHARE * self._took), self._look)

    def _look(self) -> None:
        self._timer = None
        began = self._loop.time()
        try:
            now = look(self._netlink)
        except DriverError as error:
            log.warning("the system's interfaces cannot be read, which is tried again: %s", error)
            self._timer = self._loop.call_later(1.0, self._look)
            return
        self._took = self._loop.time() - began
        self._on_change(now)
