"""``(host, port)`` to and from the socket addresses that stand in a packet batch.

A row is what the kernel reads and writes: a ``sockaddr_in`` (16 bytes, then zeros) or a ``sockaddr_in6``. A row of
zeros is "no address": the peer of a connected socket. IPv6 sockets receive IPv4 peers as v4-mapped addresses;
:func:`unpack` gives them back as IPv4, so a peer has one name whichever socket it came through.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from drivers.errors import DriverError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SIZE = 28
"""``drivers.batch.SOCKADDR_SIZE``, without numpy."""
_MAPPED = bytes(10) + b"\xff\xff"


def pack(host: str, port: int, *, mapped: bool = False) -> bytes:
    """Return the 28-byte row of an IP literal and a port.

    Parameters
    ----------
    host
        An IPv4 or IPv6 literal; a link-local one may carry its interface (``fe80::1%eth0``).
    port
        0..65535.
    mapped
        Write an IPv4 address as v4-mapped IPv6. Linux takes either form on an IPv6 socket.

    Raises
    ------
    DriverError
        When the host is a name, or the port out of range.
    """
    if not 0 <= port <= 0xFFFF:
        raise DriverError(f"port {port} of {host!r} is out of range; give 0 to 65535")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise DriverError(f"{host!r} is not an IP address; resolve names before they come here") from None
    head = port.to_bytes(2, "big")
    if isinstance(address, ipaddress.IPv4Address):
        if not mapped:
            return socket.AF_INET.to_bytes(2, "little") + head + address.packed + bytes(20)
        return socket.AF_INET6.to_bytes(2, "little") + head + bytes(4) + _MAPPED + address.packed + bytes(4)
    scope = _scope(address.scope_id) if address.scope_id else 0
    return socket.AF_INET6.to_bytes(2, "little") + head + bytes(4) + address.packed + scope.to_bytes(4, "little")


def _scope(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise DriverError(f"no interface is called {name!r}; see `ip link`") from None


def unpack(row: NDArray[np.uint8] | bytes) -> tuple[str, int]:
    """Return ``(host, port)`` of a row; v4-mapped addresses come back as IPv4.

    Raises
    ------
    DriverError
        When the row holds neither an IPv4 nor an IPv6 address.
    """
    data = bytes(row)
    family, port = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, data[4:8]), port
    if family != socket.AF_INET6 or len(data) < _SIZE:
        raise DriverError(f"a socket address of family {family} is neither IPv4 nor IPv6; the row was never filled")
    if data[8:20] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, data[20:24]), port
    host = socket.inet_ntop(socket.AF_INET6, data[8:24])
    scope = int.from_bytes(data[24:28], "little")
    return (f"{host}%{scope}" if scope else host), port


def for_socket(family: int, host: str, port: int) -> tuple[str, int]:
    """Return what ``socket.sendto`` of a socket of ``family`` takes for a peer that :func:`unpack` named.

    Python resolves the host in the socket's family, and so refuses ``127.0.0.1`` on an IPv6 socket.
    """
    return (f"::ffff:{host}" if family == socket.AF_INET6 and ":" not in host else host), port
