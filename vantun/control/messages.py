"""Control messages: CBOR maps behind a length, on the HTTP/3 stream (docs/protocol.md, "Control messages").

A message is never longer than MAX_MESSAGE, so a reader never keeps more than that and one read. Fields are checked
against their types and sizes before anything uses them. Unknown fields are ignored, unknown messages are an error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import IntEnum

import cbor2

from accel.engine import Suite
from vantun.control import strict_cbor
from vantun.errors import ProtocolError
from vantun.lanes import CID_LENGTH
from vantun.plain_values import from_plain, to_plain

LENGTH_SIZE = 4
MAX_MESSAGE = 16_384
"""Bytes of a message, without its length field."""
TOKEN_LENGTH = 16
X25519_LENGTH = 32
ML_KEM_KEY_LENGTH = 1184
ML_KEM_CIPHERTEXT_LENGTH = 1088
MAX_NAME = 64
MAX_TOKENS = 16
MAX_REASON = 400
_MAX_NUMBER = (1 << 62) - 1


class RefuseCode(IntEnum):
    """Why a path is refused."""

    UNKNOWN_SESSION = 1
    """No such session, or the token was used, has expired, or is another user's."""
    NO_ROOM = 2
    PATH_USED = 3
    """Path ids are never reused in a session."""
    NO_SUITE = 4
    MALFORMED = 5


@dataclass(frozen=True)
class Hello:
    """Asks for a lane; sizes as in :meth:`check`. ``session`` 0 = a new one. Rates in bit/s, 0 = no wish."""

    session: int
    token: bytes = field(repr=False)
    path: int
    x25519: bytes
    ml_kem: bytes
    suites: tuple[Suite, ...]
    cid: bytes
    name: str
    down: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        _between("session", self.session, 0, _MAX_NUMBER)
        _between("path", self.path, 0, _MAX_NUMBER)
        _between("down", self.down, 0, _MAX_NUMBER)
        _long("token", self.token, TOKEN_LENGTH if self.session else 0)
        _long("x25519", self.x25519, X25519_LENGTH)
        _long("ml_kem", self.ml_kem, ML_KEM_KEY_LENGTH)
        _long("cid", self.cid, CID_LENGTH)
        _between("suites", len(self.suites), 1, len(Suite))
        _readable("name", self.name, MAX_NAME)


@dataclass(frozen=True)
class Welcome:
    """Grants a lane. ``up`` = the most that the client may send, bit/s, 0 = no limit."""

    session: int
    path: int
    x25519: bytes
    ml_kem: bytes
    suite: Suite
    cid: bytes
    tokens: tuple[bytes, ...] = field(repr=False)
    up: int

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        _between("session", self.session, 1, _MAX_NUMBER)
        _between("path", self.path, 0, _MAX_NUMBER)
        _between("up", self.up, 0, _MAX_NUMBER)
        _long("x25519", self.x25519, X25519_LENGTH)
        _long("ml_kem", self.ml_kem, ML_KEM_CIPHERTEXT_LENGTH)
        _long("cid", self.cid, CID_LENGTH)
        _between("tokens", len(self.tokens), 0, MAX_TOKENS)
        for token in self.tokens:
            _long("token", token, TOKEN_LENGTH)


@dataclass(frozen=True)
class Refuse:
    """Refuses a lane."""

    code: RefuseCode
    reason: str

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        _readable("reason", self.reason, MAX_REASON)


@dataclass(frozen=True)
class Goodbye:
    """The sender ends the path."""

    code: int
    reason: str

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        _between("code", self.code, 0, _MAX_NUMBER)
        _readable("reason", self.reason, MAX_REASON)


ControlMessage = Hello | Welcome | Refuse | Goodbye
_KINDS: dict[str, type[ControlMessage]] = {"hello": Hello, "welcome": Welcome, "refuse": Refuse, "goodbye": Goodbye}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, allowed are {low} to {high}")


def _long(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueError(f"{name} has {len(value)} bytes, expected {length}")


def _readable(name: str, value: str, most: int) -> None:
    """Check text that is shown to people: what a peer sends must not move a terminal's cursor."""
    _between(f"length of {name}", len(value), 0, most)
    if not value.isprintable():
        raise ValueError(f"{name} has characters that cannot be printed")


def readable(text: str, most: int) -> str:
    """Return ``text`` as a field may carry it: what cannot be printed is written as an escape."""
    return (text if text.isprintable() else repr(text))[:most]


def encode(number: int, message: ControlMessage) -> bytes:
    """Return message ``number`` with its length field; raises ValueError when a field is out of its bounds."""
    message.check()
    fields = to_plain(message)
    assert isinstance(fields, dict)
    body = cbor2.dumps({"is": _NAMES[type(message)], "number": number, **fields})
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def decode(body: bytes) -> tuple[int, ControlMessage]:
    """Return (number, message) of a message without its length field; raises ProtocolError."""
    try:
        plain = strict_cbor.read(body)
        if not isinstance(plain, dict):
            raise ValueError("it is no map")
        name = plain.get("is")
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError("its kind is unknown")
        number = plain.get("number")
        if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
            raise ValueError("it has no number")
        known = {entry.name for entry in dataclasses.fields(kind)}
        message = from_plain(kind, {key: value for key, value in plain.items() if key in known})
        message.check()
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"a control message of {len(body)} B cannot be read: {error}") from None
    return number, message


class MessageReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, ControlMessage]]:
        """Return the messages that ``data`` completes; raises ProtocolError, after which the stream is useless."""
        self._kept += data
        found: list[tuple[int, ControlMessage]] = []
        while len(self._kept) >= LENGTH_SIZE:
            size = int.from_bytes(self._kept[:LENGTH_SIZE], "big")
            if size > MAX_MESSAGE:
                raise ProtocolError(f"a control message of {size} B is announced, {MAX_MESSAGE} B are allowed")
            if len(self._kept) < LENGTH_SIZE + size:
                break
            found.append(decode(bytes(self._kept[LENGTH_SIZE : LENGTH_SIZE + size])))
            del self._kept[: LENGTH_SIZE + size]
        return found
