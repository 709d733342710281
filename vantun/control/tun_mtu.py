"""The MTU inside the tunnel: the largest IP packet that fits one data packet of every path, but 1280 at least.

A packet of the tunnel is one UDP datagram of at most ``lane MTU`` bytes (what DPLPMTUD has confirmed for the path, 1200
before). In it stand (docs/protocol.md)::

    lane MTU - 13 header - 16 tag - 8 shard header - 2 length - 4 CRC = record area
    record area - 13 record head - 4 packet length - 10 virtio-net header = inner MTU

The record head is a PACKETS record's: type 1, flow 2, offset 8, first 2. IPv6 needs links of 1280 bytes (RFC 8200,
section 5), and a packet may continue in the next shard, so below that an inner packet takes two shards instead of the
tunnel having no IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable

LEAST = 1280
"""The smallest MTU of a link that carries IPv6."""
MOST = 9000
DEFAULT_LANE = 1200
"""What every path carries (RFC 9000, section 14)."""
_DATA_PACKET = 13 + 16
_SHARD = 8 + 2 + 4
_RECORD = 1 + 2 + 8 + 2
_PACKET = 4 + 10
OVERHEAD = _DATA_PACKET + _SHARD + _RECORD + _PACKET
"""Bytes of a UDP payload that are not inner packet."""


def inner_mtu(lanes: Iterable[int], configured: int = 0) -> int:
    """Return the MTU of the tunnel.

    Parameters
    ----------
    lanes
        Largest UDP payload of each path that is in use, bytes; none = that of any path.
    configured
        What the configuration says, 0 = automatic; it is taken as it is, because packets may span shards.
    """
    if configured:
        return configured
    smallest = min((lane for lane in lanes if lane), default=DEFAULT_LANE)
    return max(LEAST, min(MOST, smallest - OVERHEAD))
