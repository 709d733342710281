"""The local ports of direct datagrams, by which all workers know what a firewall must not have led back to TPROXY.

A worker alone keeps them to itself. Several share a page: a datagram that one has sent may come back to another.
"""

from __future__ import annotations

import os

import numpy as np

from drivers.errors import DriverError
from drivers.shared import SharedPage
from vantun.errors import ProtocolError
from vantun.udp_messages import PORTS


class OwnPorts:
    """Ports of direct sockets. A port is of one socket, so no two processes ever write the same byte."""

    def __init__(self) -> None:
        self._mark = 1
        self._page: SharedPage | None = None
        self._ports = np.zeros(PORTS, np.uint8)

    def __contains__(self, port: int) -> bool:
        """Tell whether a port is that of a direct socket, of whichever worker."""
        return bool(self._ports[port])

    def note(self, port: int) -> None:
        """Note the port of a socket, before anything is sent by it."""
        self._ports[port] = self._mark

    def forget(self, port: int) -> None:
        """Forget the port of a socket that is about to be closed."""
        self._ports[port] = 0

    def share(self, worker: int, descriptors: list[int]) -> None:
        """Use the page that came with :class:`~vantun.udp_messages.NotePorts` from now on. Raises ProtocolError."""
        try:
            page = SharedPage.attach(os.dup(descriptors[0]), np.uint8, (PORTS,))
        except (IndexError, OSError, DriverError) as error:
            raise ProtocolError(f"the page of local ports was lost on its way: {error}") from None
        before, self._ports = np.flatnonzero(self._ports), page.array
        self._page, self._mark = page, worker + 1
        self._ports[before] = self._mark
