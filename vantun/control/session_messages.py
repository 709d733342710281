"""Requests of a client's session and the server's answers to them (docs/protocol.md, "Session messages").

They begin after the Welcome and belong to the session, not to the path that carries them: the client may repeat a
request on any path of the session, under the same number, and gets the same answer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from vantun.control.message_fields import between, printable

MAX_ADDRESSES = 8
"""Addresses in a TunRequest or TunAnswer."""
MAX_PREFIXES = 64
"""Prefixes that one session announces."""
MAX_MTU = 65_535
MAX_HOST = 255
MAX_EXPLANATION = 400
_MAX_LISTENER = (1 << 31) - 1

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class Prefix:
    """An address (4 or 16 bytes) and the number of leading bits that name its network."""

    address: bytes
    length: int

    def check(self, *, network: bool) -> None:
        """Raise ValueError when it is none; with ``network`` its other bits have to be zero."""
        if len(self.address) not in (4, 16):
            raise ValueError(f"an address has {len(self.address)} bytes, expected 4 or 16")
        between("length of a prefix", self.length, 0, 8 * len(self.address))
        if network:
            self.network()

    def network(self) -> IPNetwork:
        """Return it as a network; raises ValueError when bits behind the prefix are set."""
        return ipaddress.ip_network((self.address, self.length))

    def interface(self) -> IPInterface:
        """Return it as an address with its network."""
        return ipaddress.ip_interface((self.address, self.length))

    @classmethod
    def of(cls, value: IPNetwork | IPInterface) -> Prefix:
        """Return ``value`` as a field of a message."""
        if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
            return cls(value.ip.packed, value.network.prefixlen)
        return cls(value.network_address.packed, value.prefixlen)


class TunCode(IntEnum):
    """The answer to a TunRequest."""

    GRANTED = 0
    NOT_OFFERED = 1
    """The server has no `tun`, or not for this user."""
    NO_ADDRESS = 2
    """Every address is taken, or the ones that were asked for are not to be had."""
    FAILED = 3
    """The server's machine refused it."""


@dataclass(frozen=True)
class TunRequest:
    """Asks for the session's TUN: addresses, and the routing of the prefixes that lie behind the client.

    Attributes
    ----------
    addresses
        The addresses wanted; empty = the server chooses one of each of its families.
    prefixes
        Networks behind the client.
    mtu
        The largest IP packet that the client takes, 0 = any.
    offloads
        Packets that the client takes unfinished: the TUN_F_* bits of Linux (1 checksum, 2 TSO4, 4 TSO6, 8 TSO_ECN,
        32 USO4, 64 USO6).
    """

    addresses: tuple[bytes, ...]
    prefixes: tuple[Prefix, ...]
    mtu: int
    offloads: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("number of addresses", len(self.addresses), 0, MAX_ADDRESSES)
        for address in self.addresses:
            Prefix(address, 0).check(network=False)
        _check_prefixes(self.prefixes)
        _check_packets(self.mtu, self.offloads)


@dataclass(frozen=True)
class TunAnswer:
    """Grants or refuses the session's TUN.

    Attributes
    ----------
    code, reason
        0 = granted; why not, or why not all of it.
    addresses
        The client's addresses, each with the length of the network that it shares with the server.
    gateways
        The server's own addresses in these networks.
    prefixes
        The announced networks that the server routes to this session.
    mtu, offloads
        As in TunRequest, of the server.
    """

    code: TunCode
    reason: str
    addresses: tuple[Prefix, ...]
    gateways: tuple[bytes, ...]
    prefixes: tuple[Prefix, ...]
    mtu: int
    offloads: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        printable("reason", self.reason, MAX_EXPLANATION)
        between("number of addresses", len(self.addresses), 0, MAX_ADDRESSES)
        between("number of gateways", len(self.gateways), 0, MAX_ADDRESSES)
        for address in self.addresses:
            address.check(network=False)
        for gateway in self.gateways:
            Prefix(gateway, 0).check(network=False)
        _check_prefixes(self.prefixes)
        _check_packets(self.mtu, self.offloads)


class Transport(StrEnum):
    """What a listener takes."""

    TCP = "tcp"
    UDP = "udp"


class ListenCode(IntEnum):
    """The answer to a ListenRequest."""

    LISTENING = 0
    NOT_ALLOWED = 1
    IN_USE = 2
    NO_ROOM = 3
    FAILED = 4


@dataclass(frozen=True)
class ListenRequest:
    """Asks the server to listen: what arrives there is opened towards the client as `reverse:<listener>`.

    Attributes
    ----------
    listener
        The client's own number of it, below 2^31.
    host
        Address to listen on, at most 255 printable characters; empty = the server chooses.
    port
        0 = the server chooses.
    """

    listener: int
    transport: Transport
    host: str
    port: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("listener", self.listener, 0, _MAX_LISTENER)
        printable("host", self.host, MAX_HOST)
        between("port", self.port, 0, 65_535)


@dataclass(frozen=True)
class ListenAnswer:
    """Says whether the server listens, and on which port."""

    listener: int
    code: ListenCode
    reason: str
    port: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("listener", self.listener, 0, _MAX_LISTENER)
        printable("reason", self.reason, MAX_EXPLANATION)
        between("port", self.port, 0, 65_535)


SessionRequest = TunRequest | ListenRequest
SessionAnswer = TunAnswer | ListenAnswer


def _check_prefixes(prefixes: tuple[Prefix, ...]) -> None:
    between("number of prefixes", len(prefixes), 0, MAX_PREFIXES)
    for prefix in prefixes:
        prefix.check(network=True)


def _check_packets(mtu: int, offloads: int) -> None:
    between("mtu", mtu, 0, MAX_MTU)
    between("offloads", offloads, 0, 0xFFFF)
