"""The section ``masquerade`` of a server: the web site that everybody sees who is no client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from vantun.config_kinds import BOOLEAN, FILE, LISTEN, STATUS_CODE, TEXT, Endpoint, Kind, TextMap, choice, parse_host
from vantun.config_said import Said, needs
from vantun.config_yaml import Key
from vantun.errors import Problem

SiteType = Literal["", "string", "file", "proxy"]


@dataclass(frozen=True)
class MasqueradeConfig:
    """What visitors see."""

    content: str = ""
    """Body of the one answer of ``string``."""
    headers: dict[str, str] = field(default_factory=dict)
    status_code: int = 200
    type: SiteType = ""
    """Empty = the built-in page."""
    folder: Path = Path()
    """Of ``file``."""
    url: str = ""
    """Of ``proxy``: ``http[s]://host[:port][/path]``."""
    rewrite_host: bool = False
    """Whether the site behind gets its own name as Host instead of the visitor's."""
    insecure: bool = False
    """Whether the certificate of the site behind is not checked."""
    listen_https: Endpoint | None = None
    """TCP, HTTPS with the server's certificate."""
    listen_http: Endpoint | None = None
    force_https: bool = False
    """Whether plain HTTP is answered with a redirection to HTTPS."""


def _check_header(name: str, value: str) -> None:
    if not name or any(sign not in "abcdefghijklmnopqrstuvwxyz0123456789-_" for sign in name.lower()):
        raise ValueError("an HTTP field name has only letters, digits, '-' and '_'")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise ValueError("an HTTP field value has no control characters")


def _parse_url(text: str) -> str:
    allowed = "the address of a web site, like 'https://www.example.org' or 'http://127.0.0.1:8080/app'"
    try:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
        parse_host(parts.hostname)
        text.encode("ascii")
    except ValueError:
        raise ValueError(allowed) from None
    if parts.username is not None or parts.query or parts.fragment or any(sign <= " " for sign in text):
        raise ValueError(f"{allowed}, without user, query and fragment")
    return text.rstrip("/")


MASQUERADE_KEYS = (
    Key(
        "masquerade.type",
        choice("string", "file", "proxy"),
        "What a visitor who is no client sees: `string` is one fixed answer, `file` a folder of pages, `proxy` another "
        "web site. Without it a plain built-in page.",
        "string",
    ),
    Key("masquerade.string.content", TEXT, "Body of the answer.", "Hello."),
    Key(
        "masquerade.string.headers",
        TextMap("a mapping from HTTP field names to values", _check_header),
        "Header fields of the answer.",
        "{content-type: text/plain}",
    ),
    Key("masquerade.string.statusCode", STATUS_CODE, "HTTP status of the answer.", "200", "200"),
    Key(
        "masquerade.file.dir",
        FILE,
        "Folder of the pages; index.html stands for a folder. No symbolic links, no names that begin with '.'.",
        "/var/www/html",
    ),
    Key(
        "masquerade.proxy.url", Kind("a URL", _parse_url), "The web site whose pages are shown.", "https://example.org"
    ),
    Key(
        "masquerade.proxy.rewriteHost",
        BOOLEAN,
        "Ask that site by its own name instead of the name that the visitor used.",
        "false",
        "false",
    ),
    Key("masquerade.proxy.insecure", BOOLEAN, "Accept any certificate of that site.", "false", "false"),
    Key("masquerade.listenHTTPS", LISTEN, "TCP address where the site is served by HTTPS, too.", ":443"),
    Key("masquerade.listenHTTP", LISTEN, "TCP address where the site is served by plain HTTP, too.", ":80"),
    Key(
        "masquerade.forceHTTPS",
        BOOLEAN,
        "Answer plain HTTP with a redirection to HTTPS.",
        "false",
        "false",
    ),
)

_NEEDED = {"string": "masquerade.string.content", "file": "masquerade.file.dir", "proxy": "masquerade.proxy.url"}


def check_masquerade(said: Said) -> list[Problem]:
    """Return what the keys say that does not fit together."""
    kind = said.get("masquerade.type", "")
    problems: list[Problem] = []
    if kind and not said.has(_NEEDED[kind]):
        problems.append(needs(said, "masquerade", f"{_NEEDED[kind]} is missing, which type: {kind} needs"))
    for other in _NEEDED:
        section = f"masquerade.{other}"
        if other != kind and said.has(section):
            advice = f"has no effect with masquerade.type: {kind}" if kind else "needs masquerade.type"
            problems.append(needs(said, section, f"{advice}; remove it, or set type: {other}"))
    if said.has("masquerade.forceHTTPS") and not said.has("masquerade.listenHTTP"):
        problems.append(needs(said, "masquerade.forceHTTPS", "has no effect without masquerade.listenHTTP"))
    elif said.get("masquerade.forceHTTPS", False) and not said.has("masquerade.listenHTTPS"):
        problems.append(needs(said, "masquerade.forceHTTPS", "needs masquerade.listenHTTPS to send visitors to"))
    if said.has("masquerade") and not kind and not problems and not said.has("masquerade.listenHTTPS"):
        advice = "masquerade.type is missing; without masquerade there is a built-in page"
        if not said.has("masquerade.listenHTTP"):
            problems.append(needs(said, "masquerade", advice))
    return problems


def masquerade_of(said: Said) -> MasqueradeConfig:
    """Return the section."""
    return MasqueradeConfig(
        content=said.get("masquerade.string.content", ""),
        headers=said.get("masquerade.string.headers", {}),
        status_code=said.get("masquerade.string.statusCode", 200),
        type=cast("SiteType", said.get("masquerade.type", "")),
        folder=said.path("masquerade.file.dir") if said.has("masquerade.file.dir") else Path(),
        url=said.get("masquerade.proxy.url", ""),
        rewrite_host=said.get("masquerade.proxy.rewriteHost", False),
        insecure=said.get("masquerade.proxy.insecure", False),
        listen_https=said.get("masquerade.listenHTTPS", None),
        listen_http=said.get("masquerade.listenHTTP", None),
        force_https=said.get("masquerade.forceHTTPS", False),
    )
