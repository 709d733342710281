"""What this machine is connected to: its interfaces, their addresses, default routes, and when any of it changes.

Unlike :mod:`drivers.linux.network`, which sets things and reads back what it has set, this reads what others have set.

Source: Linux, include/uapi/linux/rtnetlink.h, if.h, if_addr.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from drivers.errors import SystemCallError, Unavailable
from drivers.linux.netlink import DUMP, Answer, NetlinkSocket

_GETLINK, _GETADDR, _GETROUTE = 18, 22, 26
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=8BI")
_HOP = struct.Struct("=HBBi")
_IFLA_IFNAME, _IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 3, 1, 2, 8
_RTA_OIF, _RTA_PRIORITY, _RTA_MULTIPATH, _UNICAST = 4, 6, 9, 1
_UP, _LOOPBACK, _RUNNING = 0x01, 0x08, 0x40
_UNUSABLE = 0x08 | 0x20 | 0x40
"""Of an address: somebody else has it, deprecated, not yet checked."""
_SECOND = 0x01
"""Of an address: an IPv4 one beside another of its network, or a temporary IPv6 one."""
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP: links; addresses and routes of IPv4 and IPv6."""
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}


@dataclass(frozen=True)
class InterfaceState:
    """An interface; ``up`` = switched on, and connected."""

    index: int
    name: str
    up: bool
    loopback: bool = False


@dataclass(frozen=True)
class LocalAddress:
    """A usable address of an interface; ``lasting`` = neither temporary nor a second one of its network."""

    index: int
    address: IPv4Address | IPv6Address
    everywhere: bool = True
    """Whether it is of global scope."""
    lasting: bool = True


@dataclass(frozen=True)
class DefaultRoute:
    """A route to everywhere by an interface."""

    index: int
    version: int
    metric: int = 0


@dataclass(frozen=True)
class Connections:
    """Everything at one time, in the kernel's order."""

    interfaces: tuple[InterfaceState, ...] = ()
    addresses: tuple[LocalAddress, ...] = ()
    routes: tuple[DefaultRoute, ...] = ()


def look(netlink: NetlinkSocket) -> Connections:
    """Return what the machine is connected to now. Raises SystemCallError."""
    links = netlink.ask(_GETLINK, DUMP, _LINK.pack(0, 0, 0, 0, 0), "listing interfaces")
    addresses: list[LocalAddress] = []
    routes: list[DefaultRoute] = []
    for family in _FAMILIES:
        for answer in _dump(netlink, _GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0), "listing addresses"):
            addresses += _read_address(answer)
        for answer in _dump(netlink, _GETROUTE, _ROUTE.pack(family, *bytes(7), 0), "listing routes"):
            routes += _read_route(answer)
    return Connections(tuple(map(_read_link, links)), tuple(addresses), tuple(routes))


def open_changes() -> socket.socket:
    """Return a non-blocking socket that becomes readable when something of this changes; see :func:`skip_changes`.

    Raises UnavailableError.
    """
    sock: socket.socket | None = None
    try:
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        sock.bind((0, _GROUPS))
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = f"the kernel does not tell this process about its interfaces (AF_NETLINK): {error.strerror}"
        raise Unavailable(reason, "allow AF_NETLINK in RestrictAddressFamilies of the systemd unit").error() from None
    return sock


def skip_changes(sock: socket.socket) -> bool:
    """Read away what is waiting; return whether there was anything. What it says is found by :func:`look`."""
    found = False
    for _ in range(1024):
        try:
            sock.recv(1 << 16)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more than the kernel kept for us: a change all the same
                raise
        found = True
    return found


def _dump(netlink: NetlinkSocket, kind: int, body: bytes, doing: str) -> list[Answer]:
    try:
        return netlink.ask(kind, DUMP, body, doing)
    except SystemCallError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):  # a kernel without IPv6
            return []
        raise


def _read_link(answer: Answer) -> InterfaceState:
    _, _, index, flags, _ = _LINK.unpack_from(answer.body)
    name = answer.attributes(_LINK.size).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    return InterfaceState(index, name, flags & (_UP | _RUNNING) == _UP | _RUNNING, bool(flags & _LOOPBACK))


def _read_address(answer: Answer) -> Iterator[LocalAddress]:
    _, _, flags, scope, index = _ADDRESS.unpack_from(answer.body)
    values = answer.attributes(_ADDRESS.size)
    if _IFA_FLAGS in values:
        flags = struct.unpack("=I", values[_IFA_FLAGS])[0]
    packed = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    if packed and not flags & _UNUSABLE:
        address = ip_address(packed)
        yield LocalAddress(index, address, scope == 0 and not address.is_link_local, not flags & _SECOND)


def _read_route(answer: Answer) -> Iterator[DefaultRoute]:
    family, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(answer.body)
    if length or kind != _UNICAST or family not in _FAMILIES:
        return
    values = answer.attributes(_ROUTE.size)
    metric = struct.unpack("=I", values.get(_RTA_PRIORITY, bytes(4)))[0]
    if _RTA_OIF in values:
        yield DefaultRoute(struct.unpack("=I", values[_RTA_OIF])[0], _FAMILIES[family], metric)
    hops, place = values.get(_RTA_MULTIPATH, b""), 0
    while place + _HOP.size <= len(hops):
        size, _, _, index = _HOP.unpack_from(hops, place)
        if size < _HOP.size:
            return
        yield DefaultRoute(index, _FAMILIES[family], metric)
        place += size + 3 & ~3
