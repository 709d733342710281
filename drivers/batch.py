"""The one type that moves packets: a set of spans of one flat memory.

I/O fills it, engines transform it, policy moves it; so it lives at the bottom of the house.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SOCKADDR_SIZE = 28
"""Bytes kept of a socket address: ``sizeof(struct sockaddr_in6)``; a ``sockaddr_in`` fills the first 16."""

NOT_ECT, ECT1, ECT0, CE = range(4)
"""What the ECN bits of an IP header say (RFC 3168, section 5): not able, able (two ways), congestion experienced."""


class PacketBatch(NamedTuple):
    """Packets in ``memory``; a NamedTuple of arrays, so it enters nopython kernels unchanged.

    The number of valid packets travels beside the batch (``count``), never inside it.

    Attributes
    ----------
    memory
        [shape=(bytes,), dtype=uint8] the flat memory that holds every packet.
    offset
        [shape=(capacity,), dtype=int64] first byte of packet ``i`` in ``memory``.
    length
        [shape=(capacity,), dtype=int32] bytes of packet ``i``.
    peer
        [shape=(capacity,), dtype=int32] row of ``address``: source (received) or destination (to be sent).
    address
        [shape=(peers, SOCKADDR_SIZE), dtype=uint8] kernel socket addresses (``sockaddr_in`` or ``sockaddr_in6``).
    ecn
        [shape=(capacity,), dtype=uint8] the ECN bits of the IP header of packet ``i`` (RFC 3168): NOT_ECT, ECT1, ECT0
        or CE. NOT_ECT also where the kernel does not tell.
    """

    memory: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    peer: NDArray[np.int32]
    address: NDArray[np.uint8]
    ecn: NDArray[np.uint8]


def packet_batch(memory: NDArray[np.uint8], capacity: int, address: NDArray[np.uint8]) -> PacketBatch:
    """Return an empty batch of ``capacity`` packets over ``memory``."""
    return PacketBatch(
        memory=memory,
        offset=np.zeros(capacity, np.int64),
        length=np.zeros(capacity, np.int32),
        peer=np.zeros(capacity, np.int32),
        address=address,
        ecn=np.zeros(capacity, np.uint8),
    )
