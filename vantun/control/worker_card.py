"""The network card that the paths of an appliance leave by, if it is one: its workers run near it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from drivers.linux.ethtool import device_of, device_towards
from vantun.config import ClientConfig, ServerConfig

_AFAR = ("192.0.2.1", "2001:db8::1")
"""Addresses that nobody has (RFC 5737, RFC 3849): what leaves to them leaves by the default route."""
Look = Callable[[str], str | None]
"""From an IP address to an interface, None where that cannot be told."""


def card_of(config: ServerConfig | ClientConfig, towards: Look = device_towards, owner: Look = device_of) -> str:
    """Return the interface that all paths of a configuration use; empty if there are several, or it cannot be told.

    Parameters
    ----------
    towards, owner
        The interface by which packets leave to an address, and the one that has an address.

    Names are not resolved: what is known by one counts as reached by the default route.
    """
    if isinstance(config, ServerConfig):
        host = config.listen.host
        found = {owner(host) if _is_address(host) else _default(towards)}
    elif config.multipath.auto:
        return ""  # whichever there are
    else:
        found = set()
        for path in config.paths:
            host = path.server.host
            away = owner(path.source) if path.source else towards(host) if _is_address(host) else _default(towards)
            found.add(path.interface or away)
    return (found.pop() or "") if len(found) == 1 else ""


def _is_address(host: str) -> bool:
    """Tell whether this is one address, not a name and not all addresses."""
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_unspecified
    except ValueError:
        return False


def _default(towards: Look) -> str | None:
    return next(filter(None, map(towards, _AFAR)), None)
