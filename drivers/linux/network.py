"""Interfaces, addresses, routes and policy rules of this machine's kernel (`ip link`, `address`, `route`, `rule`).

Everything set here carries PROTOCOL, so that it can be told from what others have set: ``ip route show proto 86``.
Calls are synchronous and short, see :mod:`drivers.linux.netlink`.

Source: Linux, include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, fib_rules.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network

from drivers.errors import SystemCallError
from drivers.linux.netlink import (
    CREATE,
    DUMP,
    EXCLUSIVE,
    REPLACE,
    Answer,
    NetlinkSocket,
    attribute,
    nested,
    number,
    read_attributes,
)

IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

PROTOCOL = 86
"""Whose routes and rules ours are; 0 to 4 are the kernel's and the administrator's, routing daemons have others."""
MAIN_TABLE = 254

_NEWLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR = 16, 18, 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE, _NEWRULE, _DELRULE, _GETRULE = 24, 25, 26, 32, 33, 34
_LINK, _ADDRESS = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_ROUTE = _RULE = struct.Struct("=8BI")

_IFLA_IFNAME, _IFLA_MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NODAD = 0x02
"""No duplicate address detection: nobody else is on the link, and an address must be usable at once."""
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE, _RTAX_MTU = 1, 4, 6, 7, 8, 15, 2
_UNIVERSE, _LINK_SCOPE, _NOWHERE = 0, 253, 255
_FRA_DST, _FRA_GOTO, _FRA_PRIORITY, _FRA_MARK, _FRA_SUPPRESS, _FRA_TABLE, _FRA_MASK, _FRA_PROTOCOL = (
    *(1, 4, 6, 10, 14, 15, 16, 21),
)
_ANY: dict[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSION = {socket.AF_INET: 4, socket.AF_INET6: 6}
_UP = 1


@dataclass(frozen=True)
class Link:
    """An interface as it is now."""

    index: int
    name: str
    mtu: int
    up: bool


class RouteKind(IntEnum):
    """What happens to packets of a route (``RTN_*``)."""

    UNICAST = 1
    UNREACHABLE = 7
    """The sender is told at once that nothing is there."""
    THROW = 9
    """This table has no answer: the next rule is asked."""


@dataclass(frozen=True)
class Route:
    """Packets to ``network`` leave by interface ``index`` (0 for other kinds).

    ``mtu`` 0 = that of the interface. ``metric`` 0 = the kernel's default. ``source`` = the address that this machine's
    own packets get, None = the kernel's choice.
    """

    network: IPNetwork
    index: int
    table: int = MAIN_TABLE
    metric: int = 0
    mtu: int = 0
    kind: RouteKind = RouteKind.UNICAST
    source: IPInterface | None = None


class RuleAction(IntEnum):
    """What a rule does (``FR_ACT_*``)."""

    LOOKUP = 1
    GOTO = 2
    NOP = 3


@dataclass(frozen=True)
class Rule:
    """A policy rule of IP ``version`` 4 or 6 that is asked at its turn, ``priority``.

    Attributes
    ----------
    target
        The table to look in, or the priority to go on at.
    to
        Packets to this network only; None = all.
    mark
        Packets with this mark only; 0 = all.
    suppress
        Routes with a prefix of this length or shorter do not count; -1 = all count.
    """

    version: int
    priority: int
    action: RuleAction
    target: int = 0
    to: IPNetwork | None = None
    mark: int = 0
    suppress: int = -1


class Network:
    """The kernel's network configuration, in the namespace of the thread that makes it.

    Methods raise SystemCallError when the kernel refuses.
    """

    def __init__(self) -> None:
        self._netlink = NetlinkSocket()

    def close(self) -> None:
        """Close the connection to the kernel; what was set stays."""
        self._netlink.close()

    # --- interfaces

    def link(self, name: str) -> Link | None:
        """Return an interface, None if there is none of this name."""
        body = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        try:
            answers = self._netlink.ask(_GETLINK, 0, body, f"looking for the interface {name}")
        except SystemCallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        _, _, index, flags, _ = _LINK.unpack_from(answers[0].body)
        mtu = struct.unpack("=I", answers[0].attributes(_LINK.size)[_IFLA_MTU])[0]
        return Link(index, name, mtu, bool(flags & _UP))

    def set_link(self, index: int, *, mtu: int = 0, up: bool | None = None) -> None:
        """Set the MTU (0 = leave it) and the state of an interface."""
        flags = _UP if up else 0
        body = _LINK.pack(0, 0, index, flags, 0 if up is None else _UP) + (number(_IFLA_MTU, mtu) if mtu else b"")
        self._netlink.change(_NEWLINK, 0, body, f"setting interface {index} to MTU {mtu or 'as it is'}")

    # --- addresses

    def addresses(self, index: int) -> set[IPInterface]:
        """Return the addresses of an interface, without those that the kernel gives it by itself (fe80::/64)."""
        found = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _ADDRESS.pack(family, 0, 0, 0, index)
            for answer in self._dump(_GETADDR, body, "listing addresses"):
                _, length, _, scope, owner = _ADDRESS.unpack_from(answer.body)
                values = answer.attributes(_ADDRESS.size)
                if owner == index and scope != _LINK_SCOPE:
                    found.add(_interface(values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b"")), length))
        return found

    def add_address(self, index: int, address: IPInterface) -> None:
        """Give an interface an address; nothing happens when it has it."""
        self._address(_NEWADDR, CREATE | REPLACE, index, address)

    def remove_address(self, index: int, address: IPInterface) -> None:
        """Take an address away; nothing happens when it is gone."""
        try:
            self._address(_DELADDR, 0, index, address)
        except SystemCallError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise

    def _address(self, kind: int, flags: int, index: int, address: IPInterface) -> None:
        packed = address.ip.packed
        body = _ADDRESS.pack(_FAMILY[address.version], address.network.prefixlen, 0, _UNIVERSE, index)
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        if address.version == 6:
            body += number(_IFA_FLAGS, _NODAD)
        what = "giving" if kind == _NEWADDR else "taking"
        self._netlink.change(kind, flags, body, f"{what} the address {address} to or from interface {index}")

    # --- routes

    def routes(self, table: int = MAIN_TABLE) -> list[Route]:
        """Return the routes of a table that were set here."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for answer in self._dump(_GETROUTE, body, "listing routes"):
                route = _read_route(answer)
                if route is not None and route.table == table:
                    found.append(route)
        return found

    def set_route(self, route: Route) -> None:
        """Add a route, or change the one with the same network, table and metric."""
        self._netlink.change(_NEWROUTE, CREATE | REPLACE, _route(route), f"setting the route to {route.network}")

    def remove_route(self, route: Route) -> None:
        """Remove a route; nothing happens when it is gone."""
        try:
            self._netlink.change(_DELROUTE, 0, _route(route), f"removing the route to {route.network}")
        except SystemCallError as error:
            if error.errno not in (errno.ESRCH, errno.ENODEV):
                raise

    # --- rules

    def rules(self) -> list[Rule]:
        """Return the rules that were set here."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            found += [_read_rule(answer) for answer in self._dump(_GETRULE, body, "listing rules")]
        return [rule for rule in found if rule is not None]

    def add_rule(self, rule: Rule) -> None:
        """Add a rule; nothing happens when it is there."""
        try:
            self._netlink.change(_NEWRULE, CREATE | EXCLUSIVE, _rule(rule), f"adding the rule {rule.priority}")
        except SystemCallError as error:
            if error.errno != errno.EEXIST:
                raise

    def remove_rule(self, rule: Rule) -> None:
        """Remove a rule; nothing happens when it is gone."""
        try:
            self._netlink.change(_DELRULE, 0, _rule(rule), f"removing the rule {rule.priority}")
        except SystemCallError as error:
            if error.errno != errno.ENOENT:
                raise

    def _dump(self, kind: int, body: bytes, doing: str) -> list[Answer]:
        try:
            return self._netlink.ask(kind, DUMP, body, doing)
        except SystemCallError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):  # a kernel without IPv6
                return []
            raise


def _network(packed: bytes | None, length: int) -> IPNetwork | None:
    return ip_network((packed, length)) if packed else None


def _interface(packed: bytes, length: int) -> IPInterface:
    return ip_interface((packed, length))


def _route(route: Route) -> bytes:
    version = route.network.version
    unicast = route.kind is RouteKind.UNICAST
    # IPv4 wants to know that there is no gateway; IPv6 does not care
    scope = _LINK_SCOPE if unicast and version == 4 else _UNIVERSE
    body = _ROUTE.pack(_FAMILY[version], route.network.prefixlen, 0, 0, 0, PROTOCOL, scope, route.kind, 0)
    body += attribute(_RTA_DST, route.network.network_address.packed) + number(_RTA_TABLE, route.table)
    if unicast:
        body += number(_RTA_OIF, route.index)
    if route.metric:
        body += number(_RTA_PRIORITY, route.metric)
    if route.source is not None:
        body += attribute(_RTA_PREFSRC, route.source.ip.packed)
    if route.mtu:
        body += nested(_RTA_METRICS, number(_RTAX_MTU, route.mtu))
    return body


def _read_route(answer: Answer) -> Route | None:
    family, length, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(answer.body)
    if protocol != PROTOCOL or family not in _VERSION or kind not in set(RouteKind):
        return None
    values = answer.attributes(_ROUTE.size)
    version = _VERSION[family]
    network = _network(values.get(_RTA_DST), length) or _ANY[version]
    metrics = dict(read_attributes(values.get(_RTA_METRICS, b"")))
    metric = _integer(values.get(_RTA_PRIORITY))
    source = values.get(_RTA_PREFSRC)
    return Route(
        network,
        _integer(values.get(_RTA_OIF)) if kind == RouteKind.UNICAST else 0,
        _integer(values.get(_RTA_TABLE)),
        0 if version == 6 and metric == _METRIC6 else metric,
        _integer(metrics.get(_RTAX_MTU)),
        RouteKind(kind),
        _interface(source, len(source) * 8) if source else None,
    )


_METRIC6 = 1024
"""What IPv6 takes for no metric."""


def _rule(rule: Rule) -> bytes:
    length = rule.to.prefixlen if rule.to is not None else 0
    body = _RULE.pack(_FAMILY[rule.version], length, 0, 0, 0, 0, 0, rule.action, 0)
    body += number(_FRA_PRIORITY, rule.priority) + attribute(_FRA_PROTOCOL, bytes([PROTOCOL]))
    if rule.action is RuleAction.LOOKUP:
        body += number(_FRA_TABLE, rule.target)
    elif rule.action is RuleAction.GOTO:
        body += number(_FRA_GOTO, rule.target)
    if rule.to is not None:
        body += attribute(_FRA_DST, rule.to.network_address.packed)
    if rule.mark:
        body += number(_FRA_MARK, rule.mark) + number(_FRA_MASK, 0xFFFFFFFF)
    if rule.suppress >= 0:
        body += number(_FRA_SUPPRESS, rule.suppress)
    return body


def _read_rule(answer: Answer) -> Rule | None:
    family, length, _, _, _, _, _, action, _ = _RULE.unpack_from(answer.body)
    values = answer.attributes(_RULE.size)
    if values.get(_FRA_PROTOCOL) != bytes([PROTOCOL]) or family not in _VERSION or action not in set(RuleAction):
        return None
    suppress = _integer(values.get(_FRA_SUPPRESS, b"\xff" * 4))
    return Rule(
        _VERSION[family],
        _integer(values.get(_FRA_PRIORITY)),
        RuleAction(action),
        _integer(values.get(_FRA_GOTO if action == RuleAction.GOTO else _FRA_TABLE)) if action != RuleAction.NOP else 0,
        _network(values.get(_FRA_DST), length),
        _integer(values.get(_FRA_MARK)),
        -1 if suppress == 0xFFFFFFFF else suppress,
    )


def _integer(value: bytes | None) -> int:
    return struct.unpack("=I", value)[0] if value else 0
