"""The kinds of value a configuration key can have: each turns text into a value or says what is allowed.

Kinds work on the text of a YAML scalar, not on YAML's guess of its type, so ``mode: on`` is a word, ``password: 007``
keeps its zeros, and ``listen: 1:20`` is no base-60 number.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from vantun.config_units import parse_rate, parse_size

DEFAULT_PORT = 443


@dataclass(frozen=True)
class Endpoint:
    """A host (name, IPv4 or IPv6 address without brackets; empty = every local address) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes
    ----------
    allowed
        Completes the sentence "expected ...".
    parse
        Text to value; ValueError when the text is not allowed. Its message, if any, replaces ``allowed``.
    secret
        Whether the text must not be repeated in a message.
    """

    allowed: str
    parse: Callable[[str], object]
    secret: bool = False


@dataclass(frozen=True)
class TextMap:
    """A mapping whose keys the user chooses, from text to text."""

    allowed: str
    check: Callable[[str, str], None] = lambda _key, _value: None
    """Raises ValueError for an entry that is not allowed."""


@dataclass(frozen=True)
class TextList:
    """A list of texts."""

    allowed: str
    check: Callable[[str], object] = lambda _text: None
    """Raises ValueError for an entry that is not allowed."""
    alone: str = ""
    """A word that may stand in place of a list, and means an empty one."""


_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # A name that ends in a number is an IPv4 address with a mistake in it (as in the URL standard).
        return len(text) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return True


def parse_host(text: str) -> str:
    """Return a host name or address; ValueError if it is neither."""
    if not _is_host(text):
        raise ValueError("a host name or an IP address")
    return text


def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """Return the endpoint ``host:port``, ``[IPv6]:port`` or ``:port``; the port may be left out if it has a default."""
    allowed = "an address like 'example.org:443', '192.0.2.1:443' or '[2001:db8::1]:443'"
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", text.strip())
    if match is None:
        raise ValueError(allowed)
    host = match[1] or match[2] or ""
    port = default_port if match[3] is None else int(match[3])
    if port is None or (match[1] and ":" not in match[1]) or (host and not _is_host(host)):
        raise ValueError(allowed)
    if not 1 <= port <= 65535:
        raise ValueError("a port from 1 to 65535")
    return Endpoint(host, port)


def parse_remote(text: str) -> Endpoint:
    """Return the endpoint of a peer: the host is needed, the port is 443 if left out."""
    endpoint = parse_endpoint(text, DEFAULT_PORT)
    if not endpoint.host:
        raise ValueError("an address with a host, like 'example.org:443'")
    return endpoint


def parse_address(text: str) -> str:
    """Return an IP address in its usual spelling."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError("an IP address of this machine, like '192.0.2.10'") from None


def parse_fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as 64 lower-case hex digits; colons between bytes are accepted."""
    plain = text.strip().replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("a SHA-256 fingerprint: 64 hex digits (`vantun cert fingerprint FILE` prints it)")
    return plain


def parse_boolean(text: str) -> bool:
    """Return True for ``true`` and False for ``false``."""
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _parse_text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _parse_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError("a name of 1 to 32 letters, digits, '-', '_' and '.', starting with a letter or digit")
    return text


_ENGINE = re.compile(r"[?!]?[a-z0-9][a-z0-9_-]*(@[0-9]+)?:?")


def _parse_engines(text: str) -> str:
    words = [word.strip() for word in text.removeprefix("only:").split(",")]
    if not all(map(_ENGINE.fullmatch, words)):
        raise ValueError("engine names separated by commas, like 'openssl, ?cuda, !qat' or 'only: cryptography'")
    return text.strip()


def _parse_memory(text: str) -> int:
    size = parse_size(text)
    if not 16 * 10**6 <= size <= 2**40:
        raise ValueError("a size from '16 MB' to '1 TiB'")
    return size


def _parse_residual(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-9 <= value <= 0.5:
        raise ValueError("a fraction from 1e-9 to 0.5, like 1e-3")
    return value


def _parse_overhead(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%", text.strip())
    if not found or float(found[1]) > 100.0:
        raise ValueError("a percentage from '0 %' to '100 %', like '20 %'")
    return float(found[1]) / 100.0


def _parse_status_code(text: str) -> int:
    if not re.fullmatch(r"[2-5][0-9]{2}", text):
        raise ValueError("an HTTP status code from 200 to 599")
    return int(text)


def whole_number(low: int, high: int) -> Kind:
    """Return a kind that is a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return Kind(f"a whole number from {low} to {high}", parse)


def choice(*words: str) -> Kind:
    """Return the kind of a key that is one of ``words``."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Kind(" or ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " or " + words[-1], parse)


TEXT = Kind("a text", _parse_text)
SECRET = Kind("a text", _parse_text, secret=True)
FILE = Kind("the path of a file", _parse_text)
NAME = Kind("a name", _parse_name)
HOST = Kind("a host name", parse_host)
LISTEN = Kind("an address to listen on, like ':443' or '127.0.0.1:1080'", parse_endpoint)
REMOTE = Kind("an address like 'example.org:443'", parse_remote)
ADDRESS = Kind("an IP address", parse_address)
FINGERPRINT = Kind("a SHA-256 fingerprint", parse_fingerprint)
BOOLEAN = Kind("true or false", parse_boolean)
RATE = Kind("a rate like '100 mbps'", parse_rate)
SIZE = Kind("a size like '128 MB'", _parse_memory)
RESIDUAL = Kind("a fraction from 1e-9 to 0.5", _parse_residual)
OVERHEAD = Kind("a percentage from 0 % to 100 %", _parse_overhead)
STATUS_CODE = Kind("an HTTP status code", _parse_status_code)
ENGINES = Kind("engine names separated by commas", _parse_engines)
