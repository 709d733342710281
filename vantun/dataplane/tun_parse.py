"""IP packets as they come off a TUN device or out of the tunnel: addresses, transport and ports, bounds first.

Everything here is about bytes that a stranger may have chosen. Nothing is read outside of ``data[at : at + have]``, and
a packet whose headers do not end in there is malformed.

Sources: RFC 791, RFC 8200, RFC 1858 and RFC 3128 (fragments), RFC 5095 (routing headers).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.tun import BUCKET_FACTOR
from vantun.dataplane.tun_tables import MALFORMED, OK, SOURCE_ROUTE, TINY_FRAGMENT
from vantun.wire.integers import int64, uint64

TCP, UDP = 6, 17
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION = 0, 43, 44, 51, 60
_MAX_EXTENSIONS = 8
_TCP_HEADER, _UDP_HEADER = 20, 8
_LOOSE_ROUTE, _STRICT_ROUTE = 131, 137


@kernel
def _word(data: NDArray[np.uint8], at: int) -> int:
    """Return a big-endian 16-bit number."""
    return int64(data[at]) << 8 | int64(data[at + 1])


@kernel
def _half(data: NDArray[np.uint8], at: int, size: int) -> int:
    """Return a big-endian number of up to 8 bytes as uint64."""
    value = uint64(0)
    for i in range(size):
        value = value << uint64(8) | uint64(data[at + i])
    return value


@kernel
def _source_routed(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Tell whether IPv4 options route the packet elsewhere, or cannot be read."""
    while at < end:
        kind = data[at]
        if kind == 0:
            return False
        if kind == 1:
            at += 1
            continue
        if kind in (_LOOSE_ROUTE, _STRICT_ROUTE) or at + 1 >= end or data[at + 1] < 2:
            return True
        at += int64(data[at + 1])
    return False


@kernel
def _parse4(data: NDArray[np.uint8], at: int, have: int, size: int, p: Any) -> int:
    header = int64(data[at] & 15) * 4
    if header < 20 or header > have or _word(data, at + 2) != size:
        return MALFORMED
    if _source_routed(data, at + 20, at + header):
        return SOURCE_ROUTE
    place = _word(data, at + 6)
    offset = (place & 0x1FFF) * 8
    p.fragment = 2 if offset else (1 if place & 0x2000 else 0)
    p.protocol = data[at + 9]
    p.source[0] = uint64(0)
    p.source[1] = _half(data, at + 12, 4)
    p.target[0] = uint64(0)
    p.target[1] = _half(data, at + 16, 4)
    p.transport = header
    if p.protocol == TCP and offset == 8:
        return TINY_FRAGMENT
    return OK


@kernel
def _parse6(data: NDArray[np.uint8], at: int, have: int, size: int, p: Any) -> int:
    if have < 40 or _word(data, at + 4) + 40 != size:
        return MALFORMED
    p.source[0] = _half(data, at + 8, 8)
    p.source[1] = _half(data, at + 16, 8)
    p.target[0] = _half(data, at + 24, 8)
    p.target[1] = _half(data, at + 32, 8)
    kind = int64(data[at + 6])
    place = 40
    p.fragment = 0
    for _ in range(_MAX_EXTENSIONS):
        if kind not in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION) or p.fragment == 2:
            p.protocol = kind
            p.transport = place
            return OK
        if place + 8 > have:
            return MALFORMED
        if kind == _ROUTING and data[at + place + 3] != 0:
            return SOURCE_ROUTE
        length = int64(data[at + place + 1]) * 8 + 8
        if kind == _AUTHENTICATION:
            length = int64(data[at + place + 1]) * 4 + 8
        if kind == _FRAGMENT:
            length = 8
            where = _word(data, at + place + 2)
            if p.fragment:
                return MALFORMED
            p.fragment = 2 if where & 0xFFF8 else (1 if where & 1 else 0)
            if where & 0xFFF8 == 8 and data[at + place] == TCP:
                return TINY_FRAGMENT
        kind = int64(data[at + place])
        place += length
        if place > have:
            return MALFORMED
    return MALFORMED


@kernel
def bucket_of(p: Any) -> int:
    """Return the bucket of the packet that ``p`` describes: one for both directions of a flow.

    As the program of :mod:`drivers.linux.tun_steering` computes it: fragments, and IPv6 with extension headers, are
    told apart by their addresses alone.
    """
    folded = p.source[0] ^ p.source[1] ^ p.target[0] ^ p.target[1]
    mixed = (folded ^ folded >> uint64(32)) & uint64(0xFFFFFFFF)
    if p.fragment == 0 and p.source_port >= 0 and (p.family == 4 or p.transport == 40):
        mixed ^= uint64((int64(p.source_port) ^ int64(p.target_port)) * 0x10001)
    return int64((mixed * uint64(BUCKET_FACTOR) & uint64(0xFFFFFFFF)) >> uint64(24))


@kernel
def parse(data: NDArray[np.uint8], at: int, have: int, size: int, p: Any) -> int:
    """Describe an IP packet of ``size`` bytes, of which ``data[at : at + have]`` are there, in ``p`` (packet_dtype).

    Returns OK, or why it is to be dropped. ``p`` is complete only with OK.
    """
    have = min(have, size)
    if have < 20:
        return MALFORMED
    version = int64(data[at] >> 4)
    p.family = version
    p.source_port = -1
    p.target_port = -1
    p.ends = 0
    if version == 4:
        reason = _parse4(data, at, have, size, p)
    elif version == 6:
        reason = _parse6(data, at, have, size, p)
    else:
        return MALFORMED
    if reason != OK:
        return reason
    if p.fragment == 2 or p.protocol not in (TCP, UDP):
        return OK
    least = _TCP_HEADER if p.protocol == TCP else _UDP_HEADER
    if p.transport + least > have:
        return TINY_FRAGMENT if p.fragment else MALFORMED
    p.source_port = _word(data, at + p.transport)
    p.target_port = _word(data, at + p.transport + 2)
    if p.protocol == TCP:
        least = int64(data[at + p.transport + 12] >> 4) * 4
        if least < _TCP_HEADER or p.transport + least > have:
            return MALFORMED
    p.ends = p.transport + least
    return OK
