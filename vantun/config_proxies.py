"""The section ``socks5`` of the client's file: where programs connect to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from vantun.config_kinds import LISTEN, SECRET, TEXT, Endpoint
from vantun.config_said import Said, needs
from vantun.config_yaml import Key
from vantun.errors import Problem

DEFAULT_SOCKS5 = Endpoint("127.0.0.1", 1080)

PROXY_KEYS = (
    Key("socks5.listen", LISTEN, "Address of the SOCKS5 proxy.", "127.0.0.1:1080", "127.0.0.1:1080"),
    Key("socks5.username", TEXT, "User name that programs must give to the proxy.", "local"),
    Key("socks5.password", SECRET, "Password that programs must give to the proxy.", "s3cret"),
)


@dataclass(frozen=True)
class Socks5Config:
    """The SOCKS5 proxy; with an empty user name no authentication is asked for."""

    listen: Endpoint = DEFAULT_SOCKS5
    username: str = ""
    password: str = field(default="", repr=False)


def read_socks5(said: Said) -> tuple[Socks5Config, list[Problem]]:
    """Return the SOCKS5 proxy that a configuration file describes, and what is wrong with it."""
    config = Socks5Config(
        listen=said.get("socks5.listen", DEFAULT_SOCKS5),
        username=said.get("socks5.username", ""),
        password=said.get("socks5.password", ""),
    )
    return config, _check_open(said, "socks5", config.listen)


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
