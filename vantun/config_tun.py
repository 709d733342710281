"""The section ``tun`` of a server and of a client: addresses, routes, and which client may announce what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TypeVar

from vantun.config_kinds import BOOLEAN, NAME, Kind, TextList
from vantun.config_said import Said, needs
from vantun.config_yaml import Key, Values
from vantun.errors import Problem

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
T = TypeVar("T")

AUTO = "auto"
DEFAULT_NAME = "vantun0"
LEAST_MTU, MOST_MTU = 1280, 9000
MOST_ADDRESSES = 8
MOST_ROUTES = 128
"""Two policy rules each are asked for every packet that leaves this machine."""
MOST_ANNOUNCED = 64


@dataclass(frozen=True)
class TunUser:
    """What one user of a server has for himself."""

    name: str
    addresses: tuple[IPAddress, ...] = ()
    """His clients' addresses, one at most of each network; the newest session has them."""
    prefixes: tuple[IPNetwork, ...] = ()
    """Networks that he may announce, or parts of them."""


@dataclass(frozen=True)
class ServerTunConfig:
    """The TUN device of a server."""

    addresses: tuple[IPInterface, ...]
    """The server's addresses, at least one; clients get theirs from these networks."""
    name: str = DEFAULT_NAME
    clients: tuple[IPNetwork, ...] = ()
    """Parts of the networks that clients' addresses are taken from; empty = all."""
    mtu: int = 0
    """0 = automatic."""
    nat: bool = True
    client_to_client: bool = False
    offload: bool = True
    users: tuple[TunUser, ...] = ()


@dataclass(frozen=True)
class ClientTunConfig:
    """The TUN device of a client."""

    name: str = DEFAULT_NAME
    addresses: tuple[IPAddress, ...] = ()
    """Wanted addresses; empty = the server chooses."""
    mtu: int = 0
    """0 = automatic."""
    routes: tuple[IPNetwork, ...] = ()
    """What goes into the tunnel, besides its own networks."""
    excluded: tuple[IPNetwork, ...] = ()
    """Parts of ``routes`` that do not."""
    announced: tuple[IPNetwork, ...] = ()
    """Networks behind this client that the server shall route to it."""
    offload: bool = True


def _parse_interface(text: str) -> IPInterface:
    try:
        interface = ip_interface(text.strip())
    except ValueError:
        raise ValueError("an address with its network, like '10.9.0.1/24' or 'fd00:9::1/64'") from None
    edge = interface.network.max_prefixlen - interface.network.prefixlen
    if edge < 2:
        raise ValueError("a network with room for clients: /30 or larger (IPv6: /126)")
    if interface.ip == interface.network.network_address or (
        interface.version == 4 and interface.ip == interface.network.broadcast_address
    ):
        raise ValueError("an address of a host in the network, not its first one (nor, with IPv4, its last one)")
    return interface


def _parse_address(text: str) -> IPAddress:
    try:
        return ip_address(text.strip())
    except ValueError:
        raise ValueError("an IP address, like '10.9.0.7' or 'fd00:9::7'") from None


def _parse_network(text: str, version: int = 0) -> IPNetwork:
    example = {0: "'192.168.7.0/24' or 'fd00:7::/64'", 4: "'0.0.0.0/0' or '10.0.0.0/8'", 6: "'::/0' or 'fd00:7::/64'"}
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        step = "; clear the bits behind the prefix" if "host bits" in str(error) else ""
        raise ValueError(f"a network like {example[version]}{step}") from None
    if version and network.version != version:
        raise ValueError(f"an IPv{version} network like {example[version]}")
    return network


def _parse_network4(text: str) -> IPNetwork:
    return _parse_network(text, 4)


def _parse_network6(text: str) -> IPNetwork:
    return _parse_network(text, 6)


def _parse_mtu(text: str) -> int:
    if text == AUTO:
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", text) or not LEAST_MTU <= int(text) <= MOST_MTU:
        raise ValueError(f"auto, or bytes from {LEAST_MTU} to {MOST_MTU}")
    return int(text)


def _parse_device(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", text):
        raise ValueError("the name of an interface: 1 to 15 letters, digits, '-', '_' and '.', not a sign first")
    return text


def _list(what: str, parse: Callable[[str], object], alone: str = "") -> TextList:
    def check(text: str) -> None:
        try:
            parse(text)
        except ValueError as error:
            raise ValueError(f"expected {error}, found {text[:60]!r}") from None

    return TextList(f"{alone or 'a list of'} {'or a list of ' if alone else ''}{what}", check, alone)


_MTU = Kind("auto or a number of bytes", _parse_mtu)
_DEVICE = Kind("the name of an interface", _parse_device)
_NETWORKS = _list("networks", _parse_network)
_ADDRESSES = _list("addresses", _parse_address)

_NAME_KEY = Key("tun.name", _DEVICE, "Name of the interface.", DEFAULT_NAME, DEFAULT_NAME)
_MTU_KEY = Key(
    "tun.mtu",
    _MTU,
    "Largest packet of the interface, bytes; `auto` follows the paths (at least 1280).",
    AUTO,
    AUTO,
)
_OFFLOAD_KEY = Key(
    "tun.offload",
    BOOLEAN,
    "Whether the kernel hands over superpackets of TCP and UDP and unfinished checksums, which is much faster.",
    "true",
    "true",
)

TUN_USER_KEYS = (
    Key("name", NAME, "The user, as in `auth.userpass`.", "alice", required=True),
    Key("address", _ADDRESSES, "Addresses that only this user gets.", "[10.9.0.7]"),
    Key(
        "prefixes",
        _NETWORKS,
        "Networks that the user's clients may announce, whole or in part; nothing else is routed to them.",
        "[192.168.7.0/24]",
    ),
)

SERVER_TUN_KEYS = (
    _NAME_KEY,
    Key(
        "tun.address",
        _list("addresses with their networks", _parse_interface),
        "Addresses of the server in the tunnel; clients get theirs from the same networks. With `tun` it is needed.",
        "[10.9.0.1/24, 'fd00:9::1/64']",
    ),
    Key(
        "tun.clients",
        _NETWORKS,
        "Parts of these networks that addresses of clients are taken from. Without it the whole networks.",
        "[10.9.0.128/25]",
    ),
    _MTU_KEY,
    Key(
        "tun.nat",
        BOOLEAN,
        "Whether what leaves the tunnel for elsewhere gets this machine's address (masquerading).",
        "true",
        "true",
    ),
    Key("tun.clientToClient", BOOLEAN, "Whether clients reach each other through the server.", "false", "false"),
    _OFFLOAD_KEY,
    Key("tun.users", TUN_USER_KEYS, "What single users have for themselves.", "[{name: alice}]"),
)

CLIENT_TUN_KEYS = (
    _NAME_KEY,
    Key(
        "tun.address",
        _list("addresses", _parse_address, AUTO),
        "Addresses to ask the server for; `auto` takes what the server gives.",
        AUTO,
        AUTO,
    ),
    _MTU_KEY,
    Key("tun.route.ipv4", _list("IPv4 networks", _parse_network4), "What goes into the tunnel.", "[0.0.0.0/0]"),
    Key("tun.route.ipv6", _list("IPv6 networks", _parse_network6), "What goes into the tunnel.", "['::/0']"),
    Key(
        "tun.route.ipv4Exclude",
        _list("IPv4 networks", _parse_network4),
        "What does not. The server's own address needs not stand here: it never goes into the tunnel.",
        "[203.0.113.0/24]",
    ),
    Key("tun.route.ipv6Exclude", _list("IPv6 networks", _parse_network6), "What does not.", "['2001:db8::/32']"),
    Key("tun.route.exclude", _NETWORKS, "What does not, both families in one list.", "[203.0.113.0/24]"),
    Key(
        "tun.announce",
        _NETWORKS,
        "Networks behind this client that the server routes to it, as far as its own file allows them to the user.",
        "[192.168.7.0/24]",
    ),
    _OFFLOAD_KEY,
)


def read_server_tun(said: Said) -> tuple[ServerTunConfig | None, list[Problem]]:
    """Return the server's section, None if there is none, and what is wrong with it."""
    if not said.has("tun"):
        return None, []
    problems: list[Problem] = []
    if not said.has("tun.address"):
        problems.append(needs(said, "tun", "tun.address is missing. Example: address: [10.9.0.1/24, 'fd00:9::1/64']"))
    config = ServerTunConfig(
        addresses=_read(said, "tun.address", _parse_interface),
        name=said.get("tun.name", DEFAULT_NAME),
        clients=_read(said, "tun.clients", _parse_network),
        mtu=said.get("tun.mtu", 0),
        nat=said.get("tun.nat", True),
        client_to_client=said.get("tun.clientToClient", False),
        offload=said.get("tun.offload", True),
        users=tuple(_read_user(item) for item in said.items("tun.users")),
    )
    problems += _most(said, "tun.address", config.addresses, MOST_ADDRESSES)
    networks = [interface.network for interface in config.addresses]
    for place, network in enumerate(networks):
        if any(network.overlaps(other) for other in networks[:place]):
            problems.append(needs(said, "tun.address", f"{network} overlaps another network of the list"))
    for part in config.clients:
        if not _inside(part, networks):
            problems.append(needs(said, "tun.clients", f"{part} is not within a network of tun.address"))
    return config, problems + _check_users(said, config, networks)


def read_client_tun(said: Said) -> tuple[ClientTunConfig | None, list[Problem]]:
    """Return the client's section, None if there is none, and what is wrong with it."""
    if not said.has("tun"):
        return None, []
    excluded = ("tun.route.ipv4Exclude", "tun.route.ipv6Exclude", "tun.route.exclude")
    config = ClientTunConfig(
        name=said.get("tun.name", DEFAULT_NAME),
        addresses=_read(said, "tun.address", _parse_address),
        mtu=said.get("tun.mtu", 0),
        routes=_read(said, "tun.route.ipv4", _parse_network) + _read(said, "tun.route.ipv6", _parse_network),
        excluded=tuple(dict.fromkeys(it for name in excluded for it in _read(said, name, _parse_network))),
        announced=_read(said, "tun.announce", _parse_network),
        offload=said.get("tun.offload", True),
    )
    problems = _most(said, "tun.address", config.addresses, MOST_ADDRESSES)
    problems += _most(said, "tun.announce", config.announced, MOST_ANNOUNCED)
    if len(config.routes) + len(config.excluded) > MOST_ROUTES:
        problems.append(needs(said, "tun.route", f"at most {MOST_ROUTES} networks; take larger ones"))
    if any(not network.prefixlen for network in config.announced):
        problems.append(
            needs(said, "tun.announce", "the whole internet cannot be behind one client; name its networks")
        )
    return config, problems


def _read(said: Said, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Return the values of a list, each once; what is wrong was complained about when the file was read."""
    found: dict[T, None] = {}
    texts: tuple[str, ...] = said.get(name, ())
    for text in texts:
        with suppress(ValueError):
            found[parse(text)] = None
    return tuple(found)


def _read_user(said: Said) -> TunUser:
    addresses = _read(said, "address", _parse_address)
    return TunUser(said.get("name", ""), addresses, _read(said, "prefixes", _parse_network))


def _most(said: Said, name: str, values: tuple[object, ...], most: int) -> list[Problem]:
    return [needs(said, name, f"at most {most} entries, found {len(values)}")] if len(values) > most else []


def _inside(network: IPNetwork, networks: Iterable[IPNetwork]) -> bool:
    return any(network.version == it.version and network.subnet_of(it) for it in networks)  # type: ignore[arg-type]


def _check_users(said: Said, config: ServerTunConfig, networks: list[IPNetwork]) -> list[Problem]:
    problems: list[Problem] = []
    known: dict[str, str] = said.get("auth.userpass", {})
    owners: dict[IPAddress, str] = {interface.ip: "the server" for interface in config.addresses}
    names: set[str] = set()
    for number, (user, item) in enumerate(zip(config.users, said.items("tun.users"), strict=True)):

        def complain(key: str, text: str, number: int = number, item: Values = item.values) -> None:
            problems.append(Problem(f"tun.users[{number}].{key}: {text}", item.line.get(key, item.line.get(""))))

        if user.name and known and user.name not in known:
            complain("name", f"{user.name!r} is not in auth.userpass")
        if user.name in names:
            complain("name", f"{user.name!r} stands in the list twice")
        names.add(user.name)
        for address in user.addresses:
            if not any(address in network for network in networks if network.version == address.version):
                complain("address", f"{address} is not in a network of tun.address")
            if address in owners:
                complain("address", f"{address} belongs to {owners[address]}")
            owners[address] = user.name
        for prefix in user.prefixes:
            if not prefix.prefixlen:
                complain("prefixes", "the whole internet is not behind one client; name its networks")
            elif any(prefix.overlaps(network) for network in networks):
                complain("prefixes", f"{prefix} overlaps a network of tun.address")
    return problems
