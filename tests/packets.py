"""IP packets made by hand, and how an address and a packet look to a slow, obvious reader."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

TCP, UDP, ICMP = 6, 17, 1
PLAIN = bytes(10)
"""A vnet header that asks for nothing."""


def transport(protocol: int, source: int = 1000, target: int = 2000, payload: bytes = b"hello") -> bytes:
    """Return a TCP or UDP header without a checksum, and its payload; other protocols have none."""
    if protocol == TCP:
        return struct.pack(">HHIIBBHHH", source, target, 0, 0, 5 << 4, 16, 1000, 0, 0) + payload
    if protocol == UDP:
        return struct.pack(">HHHH", source, target, 8 + len(payload) & 0xFFFF, 0) + payload
    return payload


def packet(
    source: str,
    target: str,
    protocol: int = UDP,
    body: bytes | None = None,
    *,
    ports: tuple[int, int] = (1000, 2000),
    options: bytes = b"",
    place: int = 0,
) -> bytes:
    """Return an IP packet.

    ``options`` are IPv4's, or IPv6 extension headers (then ``protocol`` must be the first of them); ``place`` is the
    flags and fragment offset of IPv4.
    """
    body = transport(protocol, *ports) if body is None else body
    a, b = ip_address(source), ip_address(target)
    if isinstance(a, IPv4Address):
        words = 5 + len(options) // 4
        size = words * 4 + len(body)
        head = struct.pack(">BBHHHBBH", 0x40 | words, 0, size & 0xFFFF, 7, place, 64, protocol, 0)
        return head + a.packed + b.packed + options + body
    body = options + body
    return struct.pack(">IHBB", 6 << 28, len(body) & 0xFFFF, protocol, 64) + a.packed + b.packed + body


def halves(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    """Return the upper and lower 64 bits."""
    return int(address) >> 64, int(address) & (1 << 64) - 1


def vnet(flags: int = 0, kind: int = 0, segment: int = 0, start: int = 0, offset: int = 0, head: int = 0) -> bytes:
    """Return a vnet header."""
    return struct.pack("<BBHHHH", flags, kind, head, segment, start, offset)
