"""``(host, port)`` to and from the socket addresses that stand in a packet batch.

A row is what the kernel reads and writes: a ``sockaddr_in`` (16 bytes, then zeros) or a ``sockaddr_in6``. A row of
zeros is "no address": the peer of a connected socket. IPv6 sockets receive IPv4 peers as v4-mapped addresses;
:func:`unpack` gives them back as IPv4, so a peer has one name whichever socket it came through.
"""

from __future__ import annotations

import ipaddress
import socket

import numpy as np
from numpy.typing import NDArray

from drivers.batch import SOCKADDR_SIZE
from drivers.errors import DriverError

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
    if family != socket.AF_INET6 or len(data) < SOCKADDR_SIZE:
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


class AddressTable:
    """At most ``capacity`` addresses, each in a row of its own until it is released.

    Attributes
    ----------
    rows
        [shape=(capacity, SOCKADDR_SIZE), dtype=uint8] for ``PacketBatch.address``; allocated once, so its address may
        stand in message headers.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.rows: NDArray[np.uint8] = np.zeros((capacity, SOCKADDR_SIZE), np.uint8)
        self._row_of: dict[tuple[str, int], int] = {}
        self._address_of: dict[int, tuple[str, int]] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._row_of)

    def row(self, host: str, port: int) -> int:
        """Return the row of an address, adding it if it is new.

        Raises
        ------
        DriverError
            When the address is no IP literal, or the table is full.
        """
        row = self._row_of.get((host, port))
        if row is not None:
            return row
        packed = pack(host, port)
        canonical = unpack(packed)  # "::1" and "0:0:0:0:0:0:0:1" are one peer
        row = self._row_of.get(canonical)
        if row is not None:
            return row
        if not self._free:
            raise DriverError(f"no room for {host}:{port} among {len(self.rows)} peers; release one first")
        row = self._free.pop()
        self.rows[row] = np.frombuffer(packed, np.uint8)
        self._row_of[canonical] = row
        self._address_of[row] = canonical
        return row

    def find(self, host: str, port: int) -> int | None:
        """Return the row of an address (in the form :func:`unpack` gives), or None."""
        return self._row_of.get((host, port))

    def address(self, row: int) -> tuple[str, int]:
        """Return ``(host, port)`` of a row; raises KeyError for a free one."""
        return self._address_of[row]

    def release(self, row: int) -> None:
        """Free a row: no packet that is still to be sent may point to it. Raises KeyError for a free one."""
        del self._row_of[self._address_of.pop(row)]
        self.rows[row] = 0
        self._free.append(row)
