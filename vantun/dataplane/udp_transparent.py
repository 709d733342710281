"""Sockets that answer programs behind TPROXY in the name of whom they have spoken to."""

from __future__ import annotations

import socket
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DriverError, SystemCallError
from drivers.linux.address import unpack
from drivers.linux.transparent import transparent_socket
from drivers.linux.udp_counters import UdpCounters
from drivers.linux.udp_errno import name_of

ANSWERING = 256
"""Addresses whose sockets are kept; the one that was not used for the longest time goes first."""


class AnsweringSockets:
    """A bounded cache of transparent sockets by the address they answer from. Raises nothing: failures are counted."""

    def __init__(self, counters: UdpCounters, most: int = ANSWERING) -> None:
        self._counters = counters
        self._most = most
        self._sockets: OrderedDict[bytes, socket.socket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sockets)

    def descriptor(self, address: NDArray[np.uint8]) -> int:
        """Return the descriptor of a socket bound to ``address`` [shape=(28,), dtype=uint8], or -1."""
        key = address.tobytes()
        sock = self._sockets.get(key)
        if sock is None:
            try:
                sock = transparent_socket(*unpack(address), listening=False)
            except (DriverError, OSError) as error:
                reason = name_of(error.errno) if isinstance(error, SystemCallError) else type(error).__name__
                self._counters.drop(f"answering: {reason}", 1)
                return -1
            if len(self._sockets) >= self._most:
                self._sockets.popitem(last=False)[1].close()
            self._sockets[key] = sock
        self._sockets.move_to_end(key)
        return sock.fileno()

    def close(self) -> None:
        """Close every socket."""
        while self._sockets:
            self._sockets.popitem()[1].close()
