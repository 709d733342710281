"""The servers of a client: one, or a list in order of preference with weights, and what each is known by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from vantun.config_kinds import Endpoint, Kind, parse_remote, whole_number
from vantun.config_said import Said, needs
from vantun.config_uri import SCHEME, ServerLink, parse_link
from vantun.config_yaml import Key, Values
from vantun.errors import Problem

MOST_SERVERS = 32


@dataclass(frozen=True)
class ClientTlsConfig:
    """How the server proves itself."""

    sni: str = ""
    """Empty = the host of the path's server."""
    ca: Path | None = None
    pin_sha256: str = ""
    """64 lower-case hex digits, or empty."""
    insecure: bool = False


@dataclass(frozen=True)
class ServerEntry:
    """One of the servers that a client may use."""

    server: Endpoint
    auth: str = field(repr=False)
    tls: ClientTlsConfig = ClientTlsConfig()
    order: int = 1
    """The lowest order of which a server answers is used."""
    weight: int = 1
    """How often it is chosen, against the others of its order."""


def parse_server(text: str) -> ServerLink:
    """Return what `server` says: an address, or a link."""
    return parse_link(text) if text.startswith(SCHEME) else ServerLink(parse_remote(text))


SERVER = Kind("an address like 'example.org:443' or a vantun:// link", parse_server, secret=True)
_LIST = (
    Key(
        "server",
        SERVER,
        "A server, as in `server`; `auth` counts for it unless its link has one.",
        "gw2.example.org:443",
        required=True,
    ),
    Key(
        "order",
        whole_number(1, 100),
        "A server of a higher order is used only while none of a lower one answers.",
        "2",
        "1",
    ),
    Key("weight", whole_number(1, 1000), "Share of clients that choose it, among those of its order.", "3", "1"),
)
SERVERS_KEYS = (
    Key(
        "server",
        SERVER,
        "The server: `host:port`, or a link `vantun://[auth@]host:port/?pinSHA256=..&sni=..&insecure=1`.",
        "example.org:443",
        required=True,
    ),
    Key(
        "servers",
        _LIST,
        "Further servers. Which one is used follows from `order` and `weight` (`server` has 1 and 1); when it does not "
        "answer, another one is. `tls.sni` and `tls.pinSHA256` are of `server` alone, others have theirs in a link.",
        "[{server: 'gw2.example.org:443'}]",
    ),
)


def read_servers(said: Said) -> tuple[tuple[ServerEntry, ...], list[Problem]]:
    """Return all servers of the file, the one called `server` first, and what is wrong with them."""
    empty = ServerLink(Endpoint("", 0))
    link = said.get("server", empty)
    main = ServerEntry(link.server, said.get("auth", link.auth), _tls(said, link))
    items: list[Values] = said.get("servers", [])
    others = []
    for item in items:
        place = Said(item, said.folder)
        other: ServerLink = place.get("server", empty)
        tls = replace(
            main.tls, sni=other.sni, pin_sha256=other.pin_sha256, insecure=main.tls.insecure or other.insecure
        )
        others.append(
            ServerEntry(other.server, other.auth or main.auth, tls, place.get("order", 1), place.get("weight", 1))
        )
    entries = (main, *others)
    return entries, _check_link(said, link) + _check_list(said, entries)


def _tls(said: Said, link: ServerLink) -> ClientTlsConfig:
    return ClientTlsConfig(
        sni=said.get("tls.sni", link.sni),
        ca=said.path("tls.ca") if said.has("tls.ca") else None,
        pin_sha256=said.get("tls.pinSHA256", link.pin_sha256),
        insecure=said.get("tls.insecure", link.insecure),
    )


def _check_link(said: Said, link: ServerLink) -> list[Problem]:
    """Check that nothing stands both in the link and in the file."""
    in_link = {
        "auth": link.auth,
        "tls.sni": link.sni,
        "tls.pinSHA256": link.pin_sha256,
        "tls.insecure": link.insecure,
    }
    problems = [
        needs(said, name, "stands in the link of `server` too; keep one of the two")
        for name, value in in_link.items()
        if value and said.has(name)
    ]
    if link.server.host and not link.auth and not said.has("auth"):
        problems.append(Problem("auth is missing: the server lets nobody in without it. Example: auth: alice:s3cret"))
    insecure = said.get("tls.insecure", link.insecure)
    if insecure and (said.has("tls.ca") or said.has("tls.pinSHA256") or link.pin_sha256):
        line = said.values.under("tls.insecure") or said.values.under("server")
        problems.append(Problem("tls.insecure: true makes tls.ca and tls.pinSHA256 useless; keep one", line))
    return problems


def _check_list(said: Said, entries: tuple[ServerEntry, ...]) -> list[Problem]:
    problems = []
    if len(entries) > MOST_SERVERS:
        problems.append(needs(said, "servers", f"names {len(entries) - 1} servers; {MOST_SERVERS - 1} are possible"))
    known: set[Endpoint] = set()
    for entry in entries:
        if entry.server.host and entry.server in known:
            problems.append(needs(said, "servers", f"{entry.server} stands there twice; give it one weight"))
        known.add(entry.server)
    return problems
