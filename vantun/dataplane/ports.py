"""Where a flow's bytes enter and leave: the seam between the pipeline and whatever carries the stream outside."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WOULD_BLOCK = -1
"""Returned by :meth:`StreamPort.readv` and :meth:`StreamPort.writev` when the port has to be waited for."""


GENERATION_SHIFT = 24
"""A handle is the flow's row, and from this bit on how often the row was used."""


class RefusalCode(IntEnum):
    """Why the far end did not open a flow; the numbers are SOCKS5 reply codes (RFC 1928, section 6)."""

    GENERAL = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6


def flow_index(handle: int) -> int:
    """Return the row of a flow in the tables, which the kernels of packet flows take, from its handle."""
    return handle & ((1 << GENERATION_SHIFT) - 1)


class Port(Protocol):
    """What every port does, whatever it carries. No method blocks."""

    def accepted(self) -> None:
        """Learn that the far end is connected to the target."""

    def refused(self, code: int) -> None:
        """Learn that the far end could not connect (a :class:`RefusalCode`); the port closes itself."""

    def reset(self) -> None:
        """Close abortively (a stream: TCP RST): the flow was reset, by the peer or by the end of its session."""

    def close(self) -> None:
        """Close; both directions have ended."""


class StreamPort(Port, Protocol):
    """One end of a byte stream outside the tunnel.

    ``iov`` is [shape=(n, 2), dtype=uint64] rows of (address, length), laid out as ``struct iovec``. No method blocks.
    """

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """Fill the first ``count`` rows; return bytes read, 0 at end of stream, or WOULD_BLOCK.

        Raises ConnectionError when the stream was reset.
        """

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """Take bytes from the first ``count`` rows; return how many, or WOULD_BLOCK. Raises ConnectionError."""

    def shutdown_write(self) -> None:
        """Half-close: the peer has sent FIN and every byte before it was written."""


class PacketPort(Port, Protocol):
    """Where the packets of a packet flow enter and leave: a TUN device, the sockets of a UDP association.

    The port moves packets itself, in batches, by the kernels of ``vantun.session.packets``, which it is given the
    tables for; Python runs per batch. No method blocks. ``readable`` and ``writable`` of the data plane are
    edge-triggered: the port remembers that there was more, and says so again.

    Attributes
    ----------
    handle
        The flow's handle, set by the data plane before it calls anything. After ``reset`` or ``close`` the row that
        it names is another flow's: the port stops.
    """

    handle: int

    def fill(self, now: float) -> None:
        """Read from outside and ``put_packet``, while ``packet_room`` has room for one more of the largest packets.

        Called by the refill stage once per ``Dataplane.readable(handle)``. A port that stopped for lack of room, or
        after its share of the turn, calls ``Dataplane.readable(handle)`` again; one that found nothing more does not.
        Raises ConnectionError when the flow is to be reset at both ends.
        """

    def drain(self, flow_index: int, now: float) -> int:
        """Write out what ``next_packet`` gives, ``packet_done`` behind each, until it gives nothing; return bytes.

        Called by the deliver stage when packets may have come, or a deadline is over. A port that is full just stops,
        and calls ``Dataplane.writable(handle)`` when it may go on. Raises ConnectionError as above.
        """
