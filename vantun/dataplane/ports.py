"""Where a flow's bytes enter and leave: the seam between the pipeline and whatever carries the stream outside."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WOULD_BLOCK = -1
"""Returned by :meth:`StreamPort.readv` and :meth:`StreamPort.writev` when the port has to be waited for."""


class RefusalCode(IntEnum):
    """Why the far end did not open a flow; the numbers are SOCKS5 reply codes (RFC 1928, section 6)."""

    GENERAL = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6


class StreamPort(Protocol):
    """One end of a byte stream outside the tunnel.

    ``iov`` is [shape=(n, 2), dtype=uint64] rows of (address, length), laid out as ``struct iovec``. No method blocks.
    """

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """Fill the first ``count`` rows; return bytes read, 0 at end of stream, or WOULD_BLOCK.

        Raises ConnectionError when the stream was reset.
        """

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """Take bytes from the first ``count`` rows; return how many, or WOULD_BLOCK. Raises ConnectionError."""

    def accepted(self) -> None:
        """Learn that the far end is connected to the target."""

    def refused(self, code: int) -> None:
        """Learn that the far end could not connect (a :class:`RefusalCode`); the port closes itself."""

    def shutdown_write(self) -> None:
        """Half-close: the peer has sent FIN and every byte before it was written."""

    def reset(self) -> None:
        """Close abortively (TCP RST)."""

    def close(self) -> None:
        """Close; both directions have ended."""
