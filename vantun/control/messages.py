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
from vantun.control.message_fields import MAX_NUMBER, between, long, printable
from vantun.control.places import MAX_SLICES
from vantun.control.session_messages import ListenAnswer, ListenRequest, TunAnswer, TunRequest
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
    backup: int = 0
    """1 = the path carries data, both ways, only while no other one does."""
    slices: tuple[bytes, ...] = ()
    """Connection ids for further slices of the session, slice 1 first; ``cid`` is that of slice 0."""

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("session", self.session, 0, MAX_NUMBER)
        between("path", self.path, 0, MAX_NUMBER)
        between("down", self.down, 0, MAX_NUMBER)
        between("backup", self.backup, 0, 1)
        long("token", self.token, TOKEN_LENGTH if self.session else 0)
        long("x25519", self.x25519, X25519_LENGTH)
        long("ml_kem", self.ml_kem, ML_KEM_KEY_LENGTH)
        long("cid", self.cid, CID_LENGTH)
        between("suites", len(self.suites), 1, len(Suite))
        _check_slices(self.cid, self.slices)
        printable("name", self.name, MAX_NAME)


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
    reset: bytes = field(default=b"", repr=False)
    """Empty = the server sends no resets."""
    slices: tuple[bytes, ...] = ()
    """Connection ids for the further slices that are granted; no more than were offered."""
    resets: tuple[bytes, ...] = field(default=(), repr=False)
    """As ``reset``, of the further slices; empty = none of them."""

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("session", self.session, 1, MAX_NUMBER)
        between("path", self.path, 0, MAX_NUMBER)
        between("up", self.up, 0, MAX_NUMBER)
        long("x25519", self.x25519, X25519_LENGTH)
        long("ml_kem", self.ml_kem, ML_KEM_CIPHERTEXT_LENGTH)
        long("cid", self.cid, CID_LENGTH)
        between("tokens", len(self.tokens), 0, MAX_TOKENS)
        for token in self.tokens:
            long("token", token, TOKEN_LENGTH)
        long("reset", self.reset, TOKEN_LENGTH if self.reset else 0)
        _check_slices(self.cid, self.slices)
        if self.resets and len(self.resets) != len(self.slices):
            raise ValueError(f"number of resets is {len(self.resets)}, allowed are 0 or {len(self.slices)}")
        for reset in self.resets:
            long("reset of a slice", reset, TOKEN_LENGTH)


@dataclass(frozen=True)
class Refuse:
    """Refuses a lane."""

    code: RefuseCode
    reason: str

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        printable("reason", self.reason, MAX_REASON)


@dataclass(frozen=True)
class Goodbye:
    """The sender ends the path."""

    code: int
    reason: str

    def check(self) -> None:
        """Raise ValueError when a field is out of its bounds."""
        between("code", self.code, 0, MAX_NUMBER)
        printable("reason", self.reason, MAX_REASON)


def _check_slices(first: bytes, more: tuple[bytes, ...]) -> None:
    between("number of further slices", len(more), 0, MAX_SLICES - 1)
    for cid in more:
        long("cid of a slice", cid, CID_LENGTH)
    if len({first, *more}) <= len(more):
        raise ValueError("two slices have one cid")


ControlMessage = Hello | Welcome | Refuse | Goodbye | TunRequest | TunAnswer | ListenRequest | ListenAnswer
_KINDS: dict[str, type[ControlMessage]] = {
    "hello": Hello,
    "welcome": Welcome,
    "refuse": Refuse,
    "goodbye": Goodbye,
    "tun": TunRequest,
    "tun answer": TunAnswer,
    "listen": ListenRequest,
    "listen answer": ListenAnswer,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


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
        if type(number) is not int or not 0 <= number <= MAX_NUMBER:
            raise ValueError("it has no number")
        known = {entry.name: entry.default for entry in dataclasses.fields(kind)}
        later = {name: value for name, value in known.items() if value is not dataclasses.MISSING}
        message = from_plain(kind, {**later, **{key: value for key, value in plain.items() if key in known}})
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
