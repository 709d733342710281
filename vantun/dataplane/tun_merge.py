"""Datagrams of one UDP flow that follow each other, written to the TUN device as one superpacket.

Its kernel splits it again, or hands it to a socket that takes it whole.

A write costs the kernel its way from the device through routing and rules to the socket, and most of that once, however
many datagrams there are. They are merged if the superpacket's parts come out as they went in: equal headers, equal
sizes but for a shorter last one, and checksums that the kernel computes anyway.

Source: Linux, Documentation/networking/segmentation-offloads.rst; net/ipv4/udp_offload.c (__udp_gso_segment).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.tun import VNET_HEADER, TunOffload
from vantun.dataplane.tun_parse import UDP
from vantun.dataplane.tun_tables import RUN_BUCKET, RUN_HEAD, RUN_OPEN, RUN_PACKETS, RUN_PIECES, RUN_SEGMENT, RUN_SIZE
from vantun.dataplane.tun_vnet import GSO_NONE, GSO_UDP_L4, NEEDS_CSUM
from vantun.wire.integers import int64

MOST_SEGMENTS = 64
"""UDP_MAX_SEGMENTS of Linux before 6.9."""
_UDP_HEADER = 8
_MOST = 65_535 - 60
"""Bytes of payload of a superpacket: with its headers it is no longer than an IP packet."""
_CSUM, _USO4, _USO6 = int(TunOffload.CSUM), int(TunOffload.USO4), int(TunOffload.USO6)
_DO_NOT_FRAGMENT = 0x40


@kernel
def _get(data: NDArray[np.uint8], at: int) -> int:
    """Return a big-endian 16-bit number."""
    return int64(data[at]) << 8 | int64(data[at + 1])


@kernel
def _set(data: NDArray[np.uint8], at: int, value: int) -> None:
    data[at] = value >> 8 & 0xFF
    data[at + 1] = value & 0xFF


@kernel
def _add(left: int, right: int) -> int:
    """Return the sum in ones' complement of 16 bits."""
    total = left + right
    return (total & 0xFFFF) + (total >> 16)


@kernel
def segment_of(data: NDArray[np.uint8], size: int, offloads: int, p: Any) -> int:
    """Return the payload bytes of a packet that may be part of a superpacket; 0 of one that may not.

    ``data`` begins with its vnet header, as :func:`.tun_vnet.check_vnet` has left it, ``size`` includes that, and ``p``
    describes the packet.
    """
    if p.protocol != UDP or data[0] != NEEDS_CSUM or data[1] != GSO_NONE or p.fragment:
        return 0
    four = p.family == 4
    if p.transport != (20 if four else 40) or not (offloads & _CSUM and offloads & (_USO4 if four else _USO6)):
        return 0
    start = VNET_HEADER + p.transport
    payload = size - start - _UDP_HEADER
    if int64(data[6]) | int64(data[7]) << 8 != p.transport or _get(data, start + 4) != payload + _UDP_HEADER:
        return 0
    return int64(payload)


@kernel
def joins(head: NDArray[np.uint8], run: NDArray[np.int64], data: NDArray[np.uint8], payload: int, p: Any) -> bool:
    """Tell whether a packet of ``payload`` bytes may follow those of the run, whose first headers are in ``head``."""
    packets = run[RUN_PACKETS]
    if not run[RUN_OPEN] or packets >= MOST_SEGMENTS or payload > run[RUN_SEGMENT]:
        return False
    start = VNET_HEADER
    end = start + int64(p.transport) + _UDP_HEADER
    if end != run[RUN_HEAD] or packets * run[RUN_SEGMENT] + payload > _MOST or head[start] != data[start]:
        return False
    four = p.family == 4
    length = start + 2 if four else start + 4  # of the packet; with IPv4 its identification is behind
    checksum = start + 10 if four else end
    for i in range(start, end - 4):
        differs = length <= i < start + 6 or checksum <= i < checksum + 2
        if head[i] != data[i] and not differs:
            return False
    if four and not data[start + 6] & _DO_NOT_FRAGMENT:
        return bool(_get(data, start + 4) == _get(head, start + 4) + packets & 0xFFFF)
    return True


@kernel
def begin_run(
    head: NDArray[np.uint8], run: NDArray[np.int64], data: NDArray[np.uint8], payload: int, bucket: int, p: Any
) -> None:
    """Begin a run with a packet of ``payload`` bytes, of which :func:`segment_of` thinks well."""
    end = VNET_HEADER + int64(p.transport) + _UDP_HEADER
    head[:end] = data[:end]
    run[RUN_HEAD] = end
    run[RUN_SEGMENT] = payload
    run[RUN_BUCKET] = bucket
    run[RUN_PACKETS], run[RUN_PIECES], run[RUN_SIZE] = 0, 0, 0
    run[RUN_OPEN] = 1


@kernel
def extend_run(run: NDArray[np.int64], payload: int, pieces: int) -> None:
    """Count a packet of ``payload`` bytes in ``pieces`` pieces that follows the others."""
    run[RUN_PACKETS] += 1
    run[RUN_SIZE] += payload
    run[RUN_PIECES] += pieces
    if payload < run[RUN_SEGMENT]:
        run[RUN_OPEN] = 0


@kernel
def finish_head(head: NDArray[np.uint8], run: NDArray[np.int64]) -> None:
    """Make the headers of the run's first packet those of all of it."""
    if run[RUN_PACKETS] < 2:
        return
    more = int64(run[RUN_SIZE] - run[RUN_SEGMENT])
    start, end = VNET_HEADER, int64(run[RUN_HEAD])
    head[1] = GSO_UDP_L4
    for at, value in ((2, end - VNET_HEADER), (4, int64(run[RUN_SEGMENT]))):
        head[at] = value & 0xFF
        head[at + 1] = value >> 8
    if head[start] >> 4 == 4:
        length = _get(head, start + 2)
        _set(head, start + 2, length + more)
        _set(head, start + 10, _add(_get(head, start + 10), 0xFFFF - more))
    else:
        _set(head, start + 4, _get(head, start + 4) + more)
    _set(head, end - 4, _get(head, end - 4) + more)
    _set(head, end - 2, _add(_get(head, end - 2), more))  # the sum of the pseudo header, not yet inverted
