"""The vnet header that a peer sent before a packet: checked against the packet, and written anew.

The kernel finishes checksums and splits superpackets by this header. One that does not fit its packet could make it
write a checksum over the ports that were judged, or cut a packet into tens of thousands; so every field is compared
with what the packet says, and what is not needed is not passed on.

Source: virtio 1.2, section 5.1.6; Linux, include/linux/virtio_net.h (virtio_net_hdr_to_skb).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.tun import VNET_HEADER, TunOffload
from vantun.dataplane.tun_parse import TCP, UDP
from vantun.dataplane.tun_tables import BAD_VNET, OFFLOAD, OK
from vantun.wire.integers import int64

NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5
GSO_ECN = 0x80
MAX_TCP_SEGMENTS = 2048
"""Packets of a TCP superpacket: 64 KB with segments of 32 bytes."""
MAX_UDP_SEGMENTS = 128
"""UDP_MAX_SEGMENTS of Linux 6.9; it was 64."""

_CSUM, _ECN = int(TunOffload.CSUM), int(TunOffload.TSO_ECN)
_TSO4, _TSO6 = int(TunOffload.TSO4), int(TunOffload.TSO6)
_USO4, _USO6 = int(TunOffload.USO4), int(TunOffload.USO6)
_TCP_CSUM, _UDP_CSUM = 16, 6


@kernel
def _short(data: NDArray[np.uint8], at: int) -> int:
    """Return a little-endian 16-bit number."""
    return int64(data[at]) | int64(data[at + 1]) << 8


@kernel
def _put(data: NDArray[np.uint8], at: int, value: int) -> None:
    data[at] = value & 0xFF
    data[at + 1] = value >> 8 & 0xFF


@kernel
def _checksum_fits(start: int, offset: int, size: int, p: Any) -> bool:
    """Tell whether a checksum may be written at ``start + offset``: in the transport header's field, or behind it."""
    if p.fragment or start + offset + 2 > size:
        return False
    if p.protocol == TCP and start == p.transport:
        return bool(offset == _TCP_CSUM)
    if p.protocol == UDP and start == p.transport:
        return bool(offset == _UDP_CSUM)
    if p.ends:  # of a packet inside of this one
        return bool(start >= p.ends)
    return bool(start >= p.transport)


@kernel
def _segmentation_fits(kind: int, size: int, segment: int, offloads: int, p: Any) -> int:
    """Return OK if a superpacket of this kind may be passed on, or why not."""
    four = p.family == 4
    if kind in (GSO_TCPV4, GSO_TCPV6):
        if p.protocol != TCP or four != (kind == GSO_TCPV4):
            return BAD_VNET
        needed, most = (_TSO4 if four else _TSO6), MAX_TCP_SEGMENTS
    elif kind == GSO_UDP_L4:
        if p.protocol != UDP:
            return BAD_VNET
        needed, most = (_USO4 if four else _USO6), MAX_UDP_SEGMENTS
    else:
        return BAD_VNET
    payload = size - p.ends
    if p.fragment or p.ends == 0 or segment < 1 or payload < 1 or (payload + segment - 1) // segment > most:
        return BAD_VNET
    return OK if offloads & needed else OFFLOAD


@kernel
def check_vnet(data: NDArray[np.uint8], size: int, offloads: int, p: Any) -> int:
    """Judge the vnet header in ``data[:VNET_HEADER]`` of the packet of ``size`` bytes that ``p`` describes.

    Returns OK, with the header written anew, or why the packet is to be dropped.
    """
    flags, kind = int64(data[0]), int64(data[1])
    segment, start, offset = _short(data, 4), _short(data, 6), _short(data, 8)
    data[:VNET_HEADER] = 0
    if not flags & NEEDS_CSUM:
        return OK if kind == GSO_NONE else BAD_VNET
    if not _checksum_fits(start, offset, size, p):
        return BAD_VNET
    if not offloads & _CSUM:
        return OFFLOAD
    data[0] = NEEDS_CSUM
    _put(data, 6, start)
    _put(data, 8, offset)
    if kind == GSO_NONE:
        return OK
    marked = kind & GSO_ECN
    kind &= ~GSO_ECN
    reason = _segmentation_fits(kind, size, segment, offloads, p)
    if reason != OK:
        return reason
    if start != p.transport or (marked and kind == GSO_UDP_L4):
        return BAD_VNET
    data[1] = kind | (marked if offloads & _ECN else 0)
    _put(data, 2, p.ends)
    _put(data, 4, segment)
    return OK
