"""The client's sections for programs that know nothing of a proxy: forwards both ways, TPROXY and REDIRECT.

And the server's ``reverse``, which says who may have it listen.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, cast

from vantun.config_kinds import LISTEN, Endpoint, Kind, TextMap, choice, parse_endpoint
from vantun.config_said import Said, needs
from vantun.config_units import parse_duration
from vantun.config_yaml import Key
from vantun.errors import Problem

DEFAULT_UDP_TIMEOUT = 60.0
MOST_FORWARDS = 256
MOST_REVERSE = 64
"""Listeners of one user at the server."""


def _parse_target(text: str) -> Endpoint:
    target = parse_endpoint(text)
    if not target.host:
        raise ValueError("an address with a host and a port, like '192.0.2.1:22'")
    return target


def _parse_timeout(text: str) -> float:
    seconds = parse_duration(text)
    if not 1 <= seconds <= 86_400:
        raise ValueError("a duration from '1s' to '24h'")
    return float(seconds)


def _parse_listen_any_port(text: str) -> Endpoint:
    if text.strip().endswith(":0"):
        return Endpoint(parse_endpoint(text.strip()[:-1] + "1").host, 0)
    return parse_endpoint(text)


TARGET = Kind("an address like '192.0.2.1:22' or 'example.org:53'", _parse_target)
TIMEOUT = Kind("a duration like '60s'", _parse_timeout)
ANY_PORT = Kind("an address to listen on, like ':8022' or '127.0.0.1:0'", _parse_listen_any_port)

FORWARD_KEYS = (
    Key("listen", LISTEN, "Address at the client that programs connect to.", "127.0.0.1:2222", required=True),
    Key("remote", TARGET, "Where the server connects to for them.", "192.0.2.1:22", required=True),
)
UDP_FORWARD_KEYS = (
    Key("listen", LISTEN, "Address at the client that programs send to.", "127.0.0.1:5353", required=True),
    Key("remote", TARGET, "Where the server sends it.", "192.0.2.53:53", required=True),
    Key("timeout", TIMEOUT, "Silence after which a program is forgotten.", "60s", "60s"),
)
REVERSE_KEYS = (
    Key(
        "listen",
        ANY_PORT,
        "Address at the server that it listens on; the server's `reverse.allow` has to permit it. Port 0: any.",
        "0.0.0.0:8022",
        required=True,
    ),
    Key("protocol", choice("tcp", "udp"), "What is forwarded.", "tcp", "tcp"),
    Key("target", TARGET, "Where the client connects to for it.", "127.0.0.1:22", required=True),
)

FORWARDS_KEYS = (
    Key("tcpForwarding", FORWARD_KEYS, "TCP ports of the client that lead to one target each.", "[]"),
    Key("udpForwarding", UDP_FORWARD_KEYS, "UDP ports of the client that lead to one target each.", "[]"),
    Key("reverse", REVERSE_KEYS, "Ports of the server that lead to targets of the client.", "[]"),
    Key(
        "tcpTProxy.listen",
        LISTEN,
        "TCP port for connections that a TPROXY rule of the firewall diverts (CAP_NET_ADMIN).",
        ":2500",
    ),
    Key(
        "udpTProxy.listen",
        LISTEN,
        "UDP port for datagrams that a TPROXY rule of the firewall diverts (CAP_NET_ADMIN).",
        ":2500",
    ),
    Key("udpTProxy.timeout", TIMEOUT, "Silence after which a program is forgotten.", "60s", "60s"),
    Key("tcpRedirect.listen", LISTEN, "TCP port for connections that a REDIRECT rule diverts.", ":3500"),
)


@dataclass(frozen=True)
class ForwardConfig:
    """A port of the client that leads to one target; ``timeout`` in seconds is for UDP."""

    listen: Endpoint
    remote: Endpoint
    timeout: float = DEFAULT_UDP_TIMEOUT


@dataclass(frozen=True)
class ReverseConfig:
    """A port of the server that leads to one target of the client."""

    listen: Endpoint
    protocol: Literal["tcp", "udp"]
    target: Endpoint


@dataclass(frozen=True)
class ForwardsConfig:
    """Every mode for programs that know nothing of a proxy; None = off."""

    tcp: tuple[ForwardConfig, ...] = ()
    udp: tuple[ForwardConfig, ...] = ()
    reverse: tuple[ReverseConfig, ...] = ()
    tcp_tproxy: Endpoint | None = None
    udp_tproxy: Endpoint | None = None
    udp_tproxy_timeout: float = DEFAULT_UDP_TIMEOUT
    tcp_redirect: Endpoint | None = None


def read_forwards(said: Said) -> tuple[ForwardsConfig, list[Problem]]:
    """Return the forwards that a configuration file describes, and what is wrong with them."""
    nowhere = Endpoint("", 0)

    def forwards(name: str) -> tuple[ForwardConfig, ...]:
        return tuple(
            ForwardConfig(
                item.get("listen", nowhere), item.get("remote", nowhere), item.get("timeout", DEFAULT_UDP_TIMEOUT)
            )
            for item in said.items(name)
        )

    reverse = tuple(
        ReverseConfig(
            item.get("listen", nowhere),
            cast("Literal['tcp', 'udp']", item.get("protocol", "tcp")),
            item.get("target", nowhere),
        )
        for item in said.items("reverse")
    )
    none: Endpoint | None = None
    config = ForwardsConfig(
        tcp=forwards("tcpForwarding"),
        udp=forwards("udpForwarding"),
        reverse=reverse,
        tcp_tproxy=said.get("tcpTProxy.listen", none),
        udp_tproxy=said.get("udpTProxy.listen", none),
        udp_tproxy_timeout=said.get("udpTProxy.timeout", DEFAULT_UDP_TIMEOUT),
        tcp_redirect=said.get("tcpRedirect.listen", none),
    )
    return config, _check_forwards(said, config)


def _check_forwards(said: Said, config: ForwardsConfig) -> list[Problem]:
    problems = [
        needs(said, name, f"{count} entries; there is room for {most}")
        for name, count, most in (
            ("tcpForwarding", len(config.tcp), MOST_FORWARDS),
            ("udpForwarding", len(config.udp), MOST_FORWARDS),
            ("reverse", len(config.reverse), MOST_REVERSE),
        )
        if count > most
    ]
    for name, items in (("tcpForwarding", config.tcp), ("udpForwarding", config.udp)):
        listens = [item.listen for item in items]
        for number, listen in enumerate(listens):
            if listen.port and listen in listens[:number]:
                problems.append(needs(said, name, f"two entries listen on {listen}; choose another port for one"))
    if said.has("udpTProxy") and config.udp_tproxy is None:
        problems.append(needs(said, "udpTProxy", "udpTProxy.listen is missing"))
    return problems


@dataclass(frozen=True)
class ListenRule:
    """What one user may have the server listen on: ``host:ports`` with ``tcp``, ``udp`` or both.

    Attributes
    ----------
    host
        An address, or ``*`` for every one.
    """

    host: str
    low: int
    high: int
    protocols: tuple[str, ...] = ("tcp", "udp")

    def permits(self, host: str, port: int, protocol: str) -> bool:
        """Tell whether a listener is allowed; port 0 (any) is, where every port is."""
        same = self.host == "*" or _plain_host(host) == _plain_host(self.host)
        wide = port == 0 and (self.low, self.high) == (1, 65535)
        return same and protocol in self.protocols and (wide or self.low <= port <= self.high)


def _plain_host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


_LISTEN_RULE = re.compile(r"(?:(tcp|udp)/)?(\*|\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):(\*|[0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_listen_rules(text: str) -> tuple[ListenRule, ...]:
    """Return the rules in a text like ``127.0.0.1:8000-8999, tcp/*:22``. Raises ValueError."""
    rules = []
    for word in text.split(","):
        match = _LISTEN_RULE.fullmatch(word.strip())
        if match is None:
            raise ValueError(f"{word.strip()!r} is no address and ports; write like 127.0.0.1:8000-8999 or tcp/*:8022")
        low = 1 if match[3] == "*" else int(match[3])
        high = 65535 if match[3] == "*" else int(match[4] or match[3])
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{word.strip()!r}: ports lie between 1 and 65535, the lower one first")
        host = match[2].strip("[]")
        rules.append(ListenRule(host, low, high, (match[1],) if match[1] else ("tcp", "udp")))
    return tuple(rules)


def _check_allow(_user: str, text: str) -> None:
    parse_listen_rules(text)


REVERSE_ALLOW_KEYS = (
    Key(
        "reverse.allow",
        TextMap("a mapping from user names to addresses with ports", _check_allow),
        "Who may have the server listen for reverse forwards, and where: `127.0.0.1:8000-8999`, `tcp/*:8022`, "
        "separated by commas; the user `*` is everybody. Without it nobody may.",
        "{alice: '127.0.0.1:8000-8999'}",
    ),
)


def read_reverse_allow(said: Said) -> dict[str, tuple[ListenRule, ...]]:
    """Return what each user may have the server listen on."""
    allow: dict[str, str] = said.get("reverse.allow", {})
    rules: dict[str, tuple[ListenRule, ...]] = {}
    for user, text in allow.items():
        try:
            rules[user] = parse_listen_rules(text)
        except ValueError:  # was complained about with its line
            continue
    return rules
