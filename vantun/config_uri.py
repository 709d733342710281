"""The share link ``vantun://[auth@]host[:port]/?insecure=1&pinSHA256=..&sni=..``: what a client must know of a server.

Bandwidth and modes are never in it, because they belong to the client's line, not to the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlencode

from vantun.config_kinds import Endpoint, parse_fingerprint, parse_host, parse_remote

SCHEME = "vantun://"


@dataclass(frozen=True)
class ServerLink:
    """What a ``vantun://`` link says; empty or None = not said."""

    server: Endpoint
    auth: str = field(default="", repr=False)
    sni: str = ""
    pin_sha256: str = ""
    insecure: bool = False


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("a '%' in a link must be followed by two hex digits")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("the percent-encoded bytes of a link must be UTF-8") from None


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in ("insecure", "pinSHA256", "sni"):
            raise ValueError(f"the link parameter {name!r} is unknown; a link may have insecure, pinSHA256 and sni")
        if name in found:
            raise ValueError(f"the link parameter {name!r} is given twice")
        found[name] = _decode(value)
    return found


def parse_link(text: str) -> ServerLink:
    """Return what a link says.

    Raises
    ------
    ValueError
        With a sentence that says what is wrong.
    """
    if not text.startswith(SCHEME):
        raise ValueError("a link like 'vantun://user:password@example.org:443/?pinSHA256=...'")
    rest = text.removeprefix(SCHEME).partition("#")[0]
    authority, _, query = rest.partition("?")
    authority = authority.removesuffix("/")
    auth, _, place = authority.rpartition("@")
    if "/" in place:
        raise ValueError("a link has no path: after the address come '/?' and the parameters")
    found = _parameters(query)
    if found.get("insecure", "0") not in ("0", "1"):
        raise ValueError("the link parameter 'insecure' is 1 or 0")
    return ServerLink(
        server=parse_remote(place),
        auth=_decode(auth),
        sni=parse_host(found["sni"]) if found.get("sni") else "",
        pin_sha256=parse_fingerprint(found["pinSHA256"]) if found.get("pinSHA256") else "",
        insecure=found.get("insecure") == "1",
    )


def format_link(link: ServerLink) -> str:
    """Write a link that :func:`parse_link` reads back as the same."""
    auth = quote(link.auth, safe=":") + "@" if link.auth else ""
    said = {"insecure": "1" if link.insecure else "", "pinSHA256": link.pin_sha256, "sni": link.sni}
    query = urlencode({name: value for name, value in said.items() if value})
    return f"{SCHEME}{auth}{link.server}/" + (f"?{query}" if query else "")
