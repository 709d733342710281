"""rtnetlink: requests to the kernel about interfaces, addresses, routes and rules, and its answers.

A request is answered within microseconds by the process's own thread, so calls are synchronous and may be made from an
event loop. (pyroute2 can do far more; it costs 1.6 s of start-up and runs event loops of its own.) What the requests
mean is in :mod:`drivers.linux.network`.

Source: Linux, include/uapi/linux/netlink.h and rtnetlink.h; RFC 3549.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.errors import SystemCallError, Unavailable

REQUEST, ACK, REPLACE, EXCLUSIVE, CREATE, DUMP = 0x001, 0x004, 0x100, 0x200, 0x400, 0x300
"""Flags of a request."""

_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_BUFFER = 1 << 18
_SOL_NETLINK, _CAP_ACK, _STRICT_CHECK = 270, 10, 12

Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Answer:
    """One message of the kernel."""

    kind: int
    body: bytes

    def attributes(self, head: int) -> Attributes:
        """Return what stands behind the ``head`` bytes of its fixed part, by type."""
        return dict(read_attributes(self.body[head:]))


class NetlinkSocket:
    """A connection to rtnetlink in the network namespace of the calling thread; a context manager.

    Raises
    ------
    UnavailableError
        When the kernel has no rtnetlink for this process.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._socket.bind((0, 0))
        except OSError as error:
            reason = f"there is no routing socket (AF_NETLINK) for this process: {error.strerror}"
            raise Unavailable(
                reason, "allow AF_NETLINK in RestrictAddressFamilies of the systemd unit"
            ).error() from None
        for option in (_CAP_ACK, _STRICT_CHECK):  # smaller answers; an old kernel gives the larger ones
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
        self._sequence = 0

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def change(self, kind: int, flags: int, body: bytes, doing: str, next_step: str = "") -> None:
        """Have the kernel change something.

        Parameters
        ----------
        kind
            ``RTM_NEW...``, ``RTM_DEL...`` or ``RTM_SET...``.
        flags
            Besides REQUEST and ACK.
        body
            Fixed part and attributes.
        doing, next_step
            For the message when the kernel refuses; without a step there is one for the usual reasons.

        Raises
        ------
        SystemCallError
            When the kernel refuses.
        """
        number = self._exchange(kind, flags | ACK, body)[1]
        if number:
            raise SystemCallError(doing, number, next_step or _next_step(number))

    def ask(self, kind: int, flags: int, body: bytes, doing: str) -> list[Answer]:
        """Return what the kernel tells; with flag DUMP everything of a kind. Raises SystemCallError."""
        answers, number = self._exchange(kind, flags if flags & DUMP else flags | ACK, body)
        if number:
            raise SystemCallError(doing, number, _next_step(number))
        return answers

    def _exchange(self, kind: int, flags: int, body: bytes) -> tuple[list[Answer], int]:
        """Send a request; return all answers, and the errno with which it ended."""
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        head = _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        answers: list[Answer] = []
        while True:
            data = self._socket.recv(_BUFFER)
            for kind_found, sequence, part in _messages(data):
                if sequence != self._sequence:
                    continue
                if kind_found in (_ERROR, _DONE):
                    number = struct.unpack_from("=i", part)[0] if len(part) >= 4 else 0
                    return answers, -min(number, 0)
                answers.append(Answer(kind_found, part))


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """Return an attribute that is a 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, attributes: bytes) -> bytes:
    """Return an attribute that is made of attributes."""
    return attribute(kind | _NESTED, attributes)


def read_attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of every attribute in ``data``."""
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, place)
        if size < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[place + _ATTRIBUTE.size : place + size]
        place += size + 3 & ~3


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, sequence, body) of every message in a datagram."""
    place = 0
    while place + _HEADER.size <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, place)
        if size < _HEADER.size:
            return
        yield kind, sequence, data[place + _HEADER.size : place + size]
        place += size + 3 & ~3


def _next_step(number: int) -> str:
    steps = {
        errno.EPERM: "run as root or give CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN)",
        errno.EACCES: "is IPv6 switched off (`sysctl net.ipv6.conf.all.disable_ipv6`)? switch it on, or use IPv4 only",
        errno.EOPNOTSUPP: "this kernel lacks it; is IPv6 switched off, or policy routing left out?",
        errno.EAFNOSUPPORT: "this kernel has no IPv6; use IPv4 addresses only",
        errno.EEXIST: "somebody else has it already: see `ip address`, `ip route show table all` and `ip rule`",
        errno.ENODEV: "the interface has gone; start again",
    }
    return steps.get(number, f"see `ip address`, `ip route show table all` and `ip rule` ({os.strerror(number)})")
