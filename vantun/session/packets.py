"""Packet flows: what their ports call. Every function takes ``t`` as a kernel has it, or ``t.root`` from Python.

A packet flow's stream is ``length (4 B, big-endian) | body`` again and again, cut into PACKETS records of the packets
channel (docs/protocol.md, "Packet flows"). There is no credit: what finds no room is dropped whole and counted.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from vantun.session.tables import Tables

ORDERED, NOW = 1, 2
"""Modes of a packet flow: in order until the deadline (``tun:``), or each packet as soon as it is whole (``udp:``)."""
MAX_PACKET = 65_600
"""Bytes of the largest body: an IP packet of 65,535 with its vnet header, or a UDP payload with its address."""
PACKET_PIECES = 256
"""Rows of ``iov`` that next_packet() wants: a packet in more pieces than that is dropped and counted."""


@njit(cache=True)
def packet_room(t: Tables, flow_index: int) -> int:
    """Return the bytes of packets (4 more than the body each) that may be put now without exceeding the queue.

    Stop reading from outside while it is below ``MAX_PACKET + 4``, unless the packets are known to be smaller.
    """
    return 0


@njit(cache=True)
def put_packet(t: Tables, flow_index: int, memory: NDArray[np.uint8], start: int, length: int, now: float) -> int:
    """Copy one body, ``memory[start : start + length]``, into shards of the flow; 1 = accepted, 0 = no room.

    Small packets are packed behind each other until the next plan. A packet that is not accepted, because there is no
    room, the flow has ended or it has more than MAX_PACKET bytes, is counted as dropped: nothing of it was sent.
    """
    return 0


@njit(cache=True)
def next_packet(t: Tables, flow_index: int, base: int, iov: NDArray[np.uint64], now: float) -> tuple[int, int]:
    """Find the next deliverable packet; return (rows of ``iov`` that describe its body, bytes of the body).

    ``iov`` [shape=(PACKET_PIECES, 2), dtype=uint64] receives (address, length) with addresses from ``base``, that of
    ``t.memory``. (0, 0) = nothing now. An empty packet has one row of length 0. What the rows point at stays until
    :func:`packet_done`; without it, the same packet comes again.
    """
    return 0, 0


@njit(cache=True)
def packet_done(t: Tables, flow_index: int) -> None:
    """Free the packet that next_packet() gave last; nothing happens if there was none."""
