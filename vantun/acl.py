"""Which targets may be reached: ``allow``, ``reject`` and ``direct`` by address, name, port and protocol. Pure.

The first rule that matches decides. Names are judged together with the very address that is connected to, so an answer
of a name server cannot lead where a rule forbids it. Where no rule decides, a built-in list refuses addresses that
belong to the machine and its private neighbourhood (see :data:`GUARDED`).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    import numpy as np

Action = Literal["allow", "reject", "direct"]
Protocol = Literal["tcp", "udp", "*"]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_RULES = 10_000
ALL_PORTS = (0, 65535)

_ACTIONS = ("allow", "reject", "direct")
_RULE = re.compile(r"\s*([A-Za-z]+)\s*\(([^()]*)\)\s*")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_EXAMPLE = "write it like reject(10.0.0.0/8, tcp/22), direct(suffix:example.org) or allow(all)"


class Guard(Enum):
    """Which part of the built-in list holds."""

    ALL = "all"
    """At a server: everything in it."""
    OWN = "own"
    """At a client, for what it connects to itself: what leads back into this machine, or to its cloud's metadata."""
    NONE = "none"


@dataclass(frozen=True)
class _Guarded:
    network: IPNetwork
    what: str
    own: bool = False


def _guarded(text: str, what: str, *, own: bool = False) -> _Guarded:
    return _Guarded(ipaddress.ip_network(text), what, own)


GUARDED = (
    _guarded("169.254.169.254/32", "the cloud's metadata service", own=True),
    _guarded("fd00:ec2::254/128", "the cloud's metadata service", own=True),
    _guarded("0.0.0.0/8", "unspecified", own=True),
    _guarded("::/128", "unspecified", own=True),
    _guarded("127.0.0.0/8", "loopback", own=True),
    _guarded("::1/128", "loopback", own=True),
    _guarded("169.254.0.0/16", "link-local", own=True),
    _guarded("fe80::/10", "link-local", own=True),
    _guarded("224.0.0.0/4", "multicast", own=True),
    _guarded("ff00::/8", "multicast", own=True),
    _guarded("240.0.0.0/4", "reserved, or broadcast", own=True),
    _guarded("10.0.0.0/8", "private"),
    _guarded("172.16.0.0/12", "private"),
    _guarded("192.168.0.0/16", "private"),
    _guarded("100.64.0.0/10", "a carrier's private network"),
    _guarded("192.0.0.0/24", "reserved for protocols"),
    _guarded("198.18.0.0/15", "for benchmarks in private networks"),
    _guarded("fc00::/7", "private"),
    _guarded("fec0::/10", "private"),
    _guarded("64:ff9b:1::/48", "a private translation prefix"),
    _guarded("2001::/32", "Teredo"),
)
"""Sources: RFC 6890, RFC 1918, RFC 4193, RFC 6598, RFC 8215; the clouds' manuals for the metadata services."""

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_EMBEDDING = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64, RFC 6052
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4, RFC 3056
    (
        ipaddress.IPv6Network("::/96"),
        0,
    ),  # IPv4-compatible, RFC 4291; :: and ::1 are in GUARDED themselves
)
"""IPv6 prefixes that lead to an IPv4 address, and how far right of the end that stands, in bits."""


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a target, and which rule says so."""

    action: Action
    reason: str


@dataclass(frozen=True)
class Rule:
    """One line of an access list: a network, or a name, or neither (= every target).

    Attributes
    ----------
    name, below
        A normalised name; ``below`` says what it stands for: "exact" the name, "suffix" it and every name below it,
        "below" every name below it.
    ports
        Lowest and highest.
    text
        As it was written.
    """

    action: Action
    network: IPNetwork | None = None
    name: str = ""
    below: Literal["exact", "suffix", "below"] = "exact"
    protocol: Protocol = "*"
    ports: tuple[int, int] = ALL_PORTS
    text: str = ""

    def takes(self, port: int, protocol: str) -> bool:
        """Tell whether port and protocol are the rule's."""
        return self.protocol in ("*", protocol) and self.ports[0] <= port <= self.ports[1]

    def names(self, host: str | None) -> bool:
        """Tell whether the rule is for a (normalised) name."""
        if not host:
            return False
        return (self.below != "below" and host == self.name) or (
            self.below != "exact" and host.endswith("." + self.name)
        )


def normalise_name(text: str) -> str:
    """Return a name in lower case, without its last dot, in the ASCII form of IDNA.

    Raises
    ------
    ValueError
        When it is no host name.
    """
    name = text.strip().lower().removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii").lower().removesuffix(".")
        except UnicodeError:
            raise ValueError("no host name: IDNA does not allow it") from None
    if len(name) > 253 or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("neither an address, nor a network, nor a host name")
    return name


def unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv4-mapped IPv6 address stands for; others, without a zone, as they are."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))


def embedded(address: IPAddress) -> IPAddress | None:
    """Return the IPv4 address that an IPv6 address leads to by a translator or a relay, if there is one."""
    if isinstance(address, ipaddress.IPv6Address):
        for network, shift in _EMBEDDING:
            if address in network:
                return ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


def literal_address(host: str) -> IPAddress | None:
    """Return the address that ``host`` writes out, or None if it is a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


@lru_cache(4096)
def guarded(address: IPAddress, guard: Guard) -> str | None:
    """Return what an unmapped address is, if the built-in list has it, else None."""
    if guard is Guard.NONE:
        return None
    for candidate in filter(None, (address, embedded(address))):
        for entry in GUARDED:
            if (entry.own or guard is Guard.ALL) and candidate in entry.network:
                return entry.what
    return None


def parse_rule(text: str) -> Rule:
    """Return the rule that ``text`` writes, in the form of Hysteria 2: ``action(target[, protocol/ports])``.

    Raises
    ------
    ValueError
        Says what is wrong, and names the rule.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ValueError(f"the rule {text.strip()[:100]!r}: {error}") from None


def _parse(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ValueError(_EXAMPLE)
    action = match[1].lower()
    if action not in _ACTIONS:
        raise ValueError(f"{match[1]!r} is no action; use allow, reject or direct")
    parts = [part.strip() for part in match[2].split(",")]
    if len(parts) > 2:
        raise ValueError("it has a target, and protocol/ports at most; targets are not replaced here")
    protocol, ports = _parse_ports(parts[1]) if len(parts) == 2 else ("*", ALL_PORTS)
    rule = Rule(cast("Action", action), None, "", "exact", cast("Protocol", protocol), ports, text.strip())
    return _with_target(rule, parts[0])


def _with_target(rule: Rule, target: str) -> Rule:
    values = dict(vars(rule))
    if target.lower() in ("all", "*"):
        return rule
    if not target:
        raise ValueError(f"it has no target; {_EXAMPLE}")
    kind, _, rest = target.partition(":")
    if kind.lower() in ("geoip", "geosite"):
        raise ValueError(f"{kind.lower()} lists are not known here; write networks or suffix:NAME")
    if kind.lower() == "suffix":
        return Rule(**{**values, "name": normalise_name(rest.removeprefix(".")), "below": "suffix"})
    if target.startswith("*."):
        return Rule(**{**values, "name": normalise_name(target[2:]), "below": "below"})
    try:
        return Rule(**{**values, "network": _network(target)})
    except ValueError:
        if "/" in target or ":" in target or "*" in target:
            raise
    name = normalise_name(target)
    if name.split(".")[-1].isdigit():  # as in the URL standard: an IPv4 address with a mistake in it
        raise ValueError(f"{target!r} is no address; IPv4 is written as four numbers, like 192.0.2.1")
    return Rule(**{**values, "name": name})


def _network(text: str) -> IPNetwork:
    plain = text.replace("[", "").replace("]", "")
    try:
        network = ipaddress.ip_network(plain)
    except ValueError as error:
        if "host bits" in str(error):
            wider = ipaddress.ip_network(plain, strict=False)
            raise ValueError(f"{text} has bits behind its prefix; write {wider}") from None
        raise ValueError(f"{text!r} is no network and no name; {_EXAMPLE}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return ipaddress.IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _parse_ports(text: str) -> tuple[str, tuple[int, int]]:
    protocol, slash, range_ = text.lower().partition("/")
    match = re.fullmatch(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?", range_.strip())
    if protocol.strip() not in ("tcp", "udp", "*") or (slash and range_.strip() != "*" and match is None):
        raise ValueError(f"{text!r} is no protocol/ports; write tcp, udp/53, tcp/8000-8999 or */443")
    if match is None:
        return protocol.strip(), ALL_PORTS
    low, high = int(match[1]), int(match[2] or match[1])
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"{range_} are no ports; they lie between 0 and 65535, the lower one first")
    return protocol.strip(), (low, high)


@dataclass(frozen=True)
class AccessList:
    """Rules in order, and the built-in list behind them."""

    rules: tuple[Rule, ...] = ()
    guard: Guard = Guard.ALL

    @classmethod
    def parse(cls, lines: Iterable[str], guard: Guard = Guard.ALL) -> AccessList:
        """Read one rule per line; empty lines and what stands behind ``#`` are skipped.

        Raises
        ------
        ValueError
            Says what is wrong, and names the rule.
        """
        rules = [parse_rule(line) for line in (line.partition("#")[0].strip() for line in lines) if line]
        if len(rules) > MAX_RULES:
            raise ValueError(f"{len(rules)} rules; there is room for {MAX_RULES}, join networks and suffixes")
        return cls(tuple(rules), guard)

    def judge(self, host: str | None, address: IPAddress | None, port: int, protocol: str) -> Verdict:
        """Return what to do with a target.

        Parameters
        ----------
        host
            What was asked for: a name, an address written out, or None.
        address
            What would be connected to; None = not known (yet). Then rules for networks do not match, so a target that
            is named must be judged again when its address is known.
        protocol
            ``tcp`` or ``udp``.

        Notes
        -----
        A guarded address is reached only by a rule that names its network: ``allow(all)`` and rules for names do not
        match it, else whoever runs a name server could choose a host in the private network. An IPv6 address that
        leads to an IPv4 address (NAT64, 6to4) is refused by the rules that refuse that, but not allowed by those that
        allow it.
        """
        name: str | None = None
        if host:
            written = literal_address(host)
            address = written if address is None else address
            name = None if written is not None else _or_as_it_is(host)
        where = None if address is None else unmapped(address)
        behind = None if where is None else embedded(where)
        what = None if where is None else guarded(where, self.guard)
        for rule in self.rules:
            if not rule.takes(port, protocol):
                continue
            if rule.network is not None:
                hit = where is not None and where in rule.network
                hit = hit or (rule.action == "reject" and behind is not None and behind in rule.network)
            else:
                hit = (not rule.name or rule.names(name)) and (rule.action == "reject" or what is None)
            if hit:
                return Verdict(rule.action, f"the rule {rule.text or rule.action!r} says so")
        if what is not None:
            verb = "direct" if self.guard is Guard.OWN else "allow"
            advice = f"a rule like {verb}({where}, {protocol}/{port}) permits it"
            return Verdict("reject", f"{where} is {what}, which is refused by default; {advice}")
        return Verdict("allow", "no rule forbids it")

    def decides(self, protocol: str) -> bool:
        """Tell whether anything but ``allow`` can come of :meth:`judge` for a protocol."""
        rules = (rule for rule in self.rules if rule.protocol in ("*", protocol))
        return self.guard is not Guard.NONE or any(rule.action != "allow" for rule in rules)

    def packet_rules(self) -> bytes:
        """Return the rules that can be applied to packets, in order, as rows of :func:`packet_rule_type`.

        Rules for names are left out, and so is the built-in list: it is for proxied targets, while sites that are
        joined by the TUN have private addresses.
        """
        return b"".join(_packet_row(rule) for rule in self.rules if not rule.name)


ACTION_NUMBERS: dict[Action, int] = {"allow": 0, "reject": 1, "direct": 2}
PROTOCOL_NUMBERS: dict[Protocol, int] = {"*": 0, "tcp": 6, "udp": 17}


def packet_rule_type() -> np.dtype[np.void]:
    """Return the dtype of a packet rule.

    ``family`` 4, 6 or 0 (every packet); ``protocol`` 6, 17 or 0 (every one, those without ports included, if ``low``
    and ``high`` are 0 and 65535); ``action`` as in ACTION_NUMBERS; ``network`` and ``mask`` [shape=2, dtype=uint64,
    host order]: the upper and the lower half of 128 bits, an IPv4 address stands in the lowest 32. A packet matches if
    its address masked is the network, its port lies in ``low``..``high`` (both included), and family and protocol are
    the rule's or 0.
    """
    import numpy as np

    fields = [("family", "u1"), ("protocol", "u1"), ("action", "u1"), ("low", "u2"), ("high", "u2")]
    return np.dtype([*fields, ("network", "u8", 2), ("mask", "u8", 2)], align=True)


_PACKET_RULE = struct.Struct("=3Bx2H4Q")
"""The same without numpy, which a control process has no other use for."""


def _packet_row(rule: Rule) -> bytes:
    network, mask, family = 0, 0, 0
    if rule.network is not None:
        network, mask = int(rule.network.network_address), int(rule.network.netmask)
        family = rule.network.version
    halves = [half for number in (network, mask) for half in (number >> 64, number & (1 << 64) - 1)]
    numbers = family, PROTOCOL_NUMBERS[rule.protocol], ACTION_NUMBERS[rule.action], *rule.ports
    return _PACKET_RULE.pack(*numbers, *halves)


@lru_cache(4096)
def _or_as_it_is(host: str) -> str:
    """Return a name normalised; what is no name is compared as it is, and matches no rule for names."""
    try:
        return normalise_name(host)
    except ValueError:
        return host
