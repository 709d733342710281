"""The sections ``socks5`` and ``http`` of the client's file: where programs connect to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from vantun.config_kinds import BOOLEAN, LISTEN, SECRET, TEXT, Endpoint, Kind
from vantun.config_said import Said, needs
from vantun.config_yaml import Key
from vantun.errors import Problem

DEFAULT_SOCKS5 = Endpoint("127.0.0.1", 1080)
DEFAULT_REALM = "VANTUN"
MODES = ("http", "tcpForwarding", "udpForwarding", "tcpTProxy", "udpTProxy", "tcpRedirect", "reverse", "tun")
"""Sections that give the client something to do; without any of them it is a SOCKS5 proxy."""


def _parse_realm(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError
    return text


PROXY_KEYS = (
    Key(
        "socks5.listen",
        LISTEN,
        "Address of the SOCKS5 proxy. A client without any other mode listens on the default.",
        "127.0.0.1:1080",
        "127.0.0.1:1080",
    ),
    Key("socks5.username", TEXT, "User name that programs must give to the proxy.", "local"),
    Key("socks5.password", SECRET, "Password that programs must give to the proxy.", "s3cret"),
    Key("socks5.disableUDP", BOOLEAN, "Whether UDP ASSOCIATE is refused.", "false", "false"),
    Key(
        "http.listen",
        LISTEN,
        "Address of the HTTP proxy; may be that of `socks5.listen`, then one port speaks both.",
        "127.0.0.1:1080",
    ),
    Key("http.username", TEXT, "User name that programs must give to the HTTP proxy.", "local"),
    Key("http.password", SECRET, "Password that programs must give to the HTTP proxy.", "s3cret"),
    Key(
        "http.realm",
        Kind("a printable ASCII text without '\"' and a backslash", _parse_realm),
        "What the HTTP proxy calls itself when it asks for a password.",
        "VANTUN",
        "VANTUN",
    ),
)


@dataclass(frozen=True)
class Socks5Config:
    """The SOCKS5 proxy; with an empty user name no authentication is asked for."""

    listen: Endpoint = DEFAULT_SOCKS5
    username: str = ""
    password: str = field(default="", repr=False)
    udp: bool = True


@dataclass(frozen=True)
class HttpConfig:
    """The HTTP proxy; with an empty user name no authentication is asked for."""

    listen: Endpoint
    username: str = ""
    password: str = field(default="", repr=False)
    realm: str = DEFAULT_REALM


def read_socks5(said: Said) -> tuple[Socks5Config | None, list[Problem]]:
    """Return the SOCKS5 proxy that a configuration file describes, and what is wrong with it."""
    if not said.has("socks5") and any(said.has(mode) for mode in MODES):
        return None, []
    config = Socks5Config(
        listen=said.get("socks5.listen", DEFAULT_SOCKS5),
        username=said.get("socks5.username", ""),
        password=said.get("socks5.password", ""),
        udp=not said.get("socks5.disableUDP", False),
    )
    return config, _check_open(said, "socks5", config.listen)


def read_http(said: Said) -> tuple[HttpConfig | None, list[Problem]]:
    """Return the HTTP proxy that a configuration file describes, and what is wrong with it."""
    if not said.has("http"):
        return None, []
    if "http.listen" not in said.values.line:
        return None, [needs(said, "http", "http.listen is missing; without it there is no HTTP proxy")]
    config = HttpConfig(
        listen=said.get("http.listen", DEFAULT_SOCKS5),
        username=said.get("http.username", ""),
        password=said.get("http.password", ""),
        realm=said.get("http.realm", DEFAULT_REALM),
    )
    problems = _check_open(said, "http", config.listen)
    if ":" in config.username:
        problems.append(needs(said, "http.username", "a user name of HTTP has no ':' (RFC 7617)"))
    return config, problems


def _check_open(said: Said, section: str, listen: Endpoint) -> list[Problem]:
    """Complain about half a password, and about a proxy that everybody may use."""
    named = [name for name in (f"{section}.username", f"{section}.password") if said.has(name)]
    if len(named) == 1:
        return [needs(said, named[0], f"{section}.username and {section}.password go together; one is missing")]
    if named or is_loopback(listen.host):
        return []
    advice = f"listen on 127.0.0.1, or set {section}.username and {section}.password"
    return [
        needs(said, f"{section}.listen", f"anybody who reaches {listen.host or 'it'} could use the tunnel; {advice}")
    ]


def is_loopback(host: str) -> bool:
    """Tell whether only programs of this machine reach a host to listen on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
