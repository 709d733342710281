"""What two lossy paths can carry at best, so that a goodput can be read as a share of the possible.

The ceiling of a path is ``rate x (1 - loss) x payload share``. The share is that of the payload in a full Ethernet
frame without its checksum, 1514 bytes: 14 of Ethernet, 65 of outer headers (20 IPv4, 8 UDP, 13 short header, 16
authentication tag, 8 for the shard), 1435 of payload. It is the ceiling of any stream proxy over an encrypted UDP
tunnel at MTU 1500: a repair that is perfect, nothing wasted, no acknowledgements. A tunnel that sends smaller packets
(VANTUN starts at 1200 bytes of UDP) stays below it by that much, and is not excused for it.
"""

from __future__ import annotations

from collections.abc import Iterable

FRAME = 1514
"""Bytes of a full Ethernet frame without preamble and checksum."""
ETHERNET = 14
OUTER_HEADERS = 65
"""IPv4 20, UDP 8, short header 13, tag 16, shard 8."""
PAYLOAD_SHARE = (FRAME - ETHERNET - OUTER_HEADERS) / FRAME


def path_ceiling(rate: float, loss: float) -> float:
    """Return the most payload in bit/s that a path of ``rate`` bit/s and this fraction of loss can deliver."""
    return rate * (1.0 - loss) * PAYLOAD_SHARE


def ceiling(usable: Iterable[tuple[float, float, float]]) -> float:
    """Return the ceiling in bit/s of paths given as (rate in bit/s, loss, share of the time that it was usable)."""
    return sum(path_ceiling(rate, loss) * share for rate, loss, share in usable)
