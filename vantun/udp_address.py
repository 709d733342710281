"""Addresses of UDP packets as bytes, in plain Python: the definition that vantun.wire.addresses is tested against.

Used where a destination is new; the kernels do the rest.
"""

from __future__ import annotations

import ipaddress

IPV4, NAME, IPV6 = 1, 3, 4
MAX_NAME = 255


def encode_address(host: str, port: int) -> bytes:
    """Return ``type | address | port`` of an IP address or a name. Raises ValueError."""
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port} of {host!r} is out of range; give 0 to 65535")
    tail = port.to_bytes(2, "big")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if not 1 <= len(name) <= MAX_NAME:
            raise ValueError(f"a name has 1 to {MAX_NAME} bytes, {host!r} has {len(name)}") from None
        return bytes([NAME, len(name)]) + name + tail
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return bytes([IPV4 if address.version == 4 else IPV6]) + address.packed + tail


def decode_address(data: bytes) -> tuple[str, int, int]:
    """Return host, port and size of the address that ``data`` begins with.

    Raises
    ------
    ValueError
        When there is none: cut short, an unknown type, an empty name.
    """
    sizes = {IPV4: 7, IPV6: 19, NAME: 4 + data[1] if len(data) > 1 and data[1] else 0}
    size = sizes.get(data[0], 0) if data else 0
    if not 0 < size <= len(data):
        raise ValueError("no address of type 1, 3 or 4, or one that is cut short")
    port = int.from_bytes(data[size - 2 : size], "big")
    if data[0] == NAME:
        return data[2 : size - 2].decode("latin-1"), port, size
    return str(ipaddress.ip_address(data[1 : size - 2])), port, size
