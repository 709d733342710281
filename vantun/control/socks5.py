"""SOCKS5, the server's side of the handshake (RFC 1928, RFC 1929), sans-IO: bytes in, actions out.

The parser says in ``wanted`` how many bytes it needs for its next decision. Whoever reads exactly so many leaves what
the program has sent behind its request in the kernel, where the worker finds it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from vantun.config_kinds import Endpoint, parse_host

VERSION = 5
AUTH_VERSION = 1
"""Of the user/password sub-negotiation (RFC 1929)."""
NO_AUTH, USER_PASSWORD, NO_METHOD = 0x00, 0x02, 0xFF
CONNECT = 1
UDP_ASSOCIATE = 3
LARGEST_STEP = 257
"""Bytes; the longest thing that is ever asked for at once: a domain name of 255 bytes and a port."""


class Address(IntEnum):
    """Address types (RFC 1928, section 5)."""

    IPV4 = 1
    DOMAIN = 3
    IPV6 = 4


class ReplyCode(IntEnum):
    """Reply codes (RFC 1928, section 6); 1 to 6 are the values of RefusalCode, too."""

    SUCCEEDED = 0
    GENERAL = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


@dataclass(frozen=True)
class Send:
    """Write these bytes to the program."""

    data: bytes


@dataclass(frozen=True)
class Connect:
    """The handshake is over: connect to ``target`` and send the reply."""

    target: Endpoint


@dataclass(frozen=True)
class Associate:
    """The handshake is over: relay datagrams of the program, and send the reply with the relay's address.

    Attributes
    ----------
    port
        The UDP port that the program says it sends from; 0 = it does not know.
    """

    port: int


@dataclass(frozen=True)
class Hangup:
    """The handshake has failed: close behind what was sent."""

    reason: str


Action = Send | Connect | Associate | Hangup


def reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """Return a reply with the bound address, which programs do not need for CONNECT."""
    address = ipaddress.ip_address(host)
    kind = Address.IPV4 if address.version == 4 else Address.IPV6
    return bytes((VERSION, code, 0, kind)) + address.packed + port.to_bytes(2, "big")


class _State(Enum):
    GREETING = auto()
    METHODS = auto()
    AUTH_USER_LENGTH = auto()
    AUTH_USER = auto()
    AUTH_PASSWORD = auto()
    REQUEST = auto()
    DOMAIN_LENGTH = auto()
    ADDRESS = auto()
    DONE = auto()


class Handshake:
    """One handshake. With an empty user name no authentication is asked for.

    Attributes
    ----------
    wanted
        Bytes, at most LARGEST_STEP, that :meth:`receive` needs for the next decision; 0 when the handshake is over.
    """

    def __init__(self, username: str = "", password: str = "") -> None:
        self.wanted = 2
        self._method = USER_PASSWORD if username else NO_AUTH
        self._expected = _credentials(username.encode(), password.encode())
        self._state = _State.GREETING
        self._pending = b""
        self._user = b""
        self._command = 0
        self._kind = 0
        self._steps: dict[_State, Callable[[bytes], list[Action]]] = {
            _State.GREETING: self._on_greeting,
            _State.METHODS: self._on_methods,
            _State.AUTH_USER_LENGTH: self._on_auth_user_length,
            _State.AUTH_USER: self._on_auth_user,
            _State.AUTH_PASSWORD: self._on_auth_password,
            _State.REQUEST: self._on_request,
            _State.DOMAIN_LENGTH: self._on_domain_length,
            _State.ADDRESS: self._on_address,
        }

    def receive(self, data: bytes) -> list[Action]:
        """Take at most ``wanted`` bytes and return what is to be done. Raises ValueError for more."""
        if len(data) > self.wanted:
            raise ValueError(f"{len(data)} bytes given, {self.wanted} are wanted: the rest belongs to the stream")
        self._pending += data
        self.wanted -= len(data)
        if self.wanted or self._state is _State.DONE:
            return []
        step, self._pending = self._pending, b""
        return self._steps[self._state](step)

    def _expect(self, state: _State, size: int) -> None:
        self._state = state
        self.wanted = size

    def _hangup(self, reason: str, *last: bytes) -> list[Action]:
        self._expect(_State.DONE, 0)
        return [*map(Send, last), Hangup(reason)]

    def _refuse(self, code: ReplyCode, reason: str) -> list[Action]:
        return self._hangup(reason, reply(code))

    def _on_greeting(self, data: bytes) -> list[Action]:
        version, methods = data
        if version != VERSION:
            return self._hangup(
                f"it speaks no SOCKS5 (first byte {version:#04x}); set the program's proxy type to SOCKS5"
            )
        if not methods:
            return self._hangup("it offers no authentication method", bytes((VERSION, NO_METHOD)))
        self._expect(_State.METHODS, methods)
        return []

    def _on_methods(self, data: bytes) -> list[Action]:
        if self._method not in data:
            need = "a user name and a password" if self._method == USER_PASSWORD else "no authentication"
            return self._hangup(f"it does not offer what is configured: {need}", bytes((VERSION, NO_METHOD)))
        if self._method == USER_PASSWORD:
            self._expect(_State.AUTH_USER_LENGTH, 2)
        else:
            self._expect(_State.REQUEST, 4)
        return [Send(bytes((VERSION, self._method)))]

    def _on_auth_user_length(self, data: bytes) -> list[Action]:
        version, length = data
        if version != AUTH_VERSION:
            return self._hangup("its user/password message is of an unknown version", bytes((AUTH_VERSION, 1)))
        self._expect(_State.AUTH_USER, length + 1)
        return []

    def _on_auth_user(self, data: bytes) -> list[Action]:
        self._user = data[:-1]
        length = data[-1]
        if not length:
            return self._on_auth_password(b"")
        self._expect(_State.AUTH_PASSWORD, length)
        return []

    def _on_auth_password(self, data: bytes) -> list[Action]:
        # Both together and in constant time: the answer must not tell which of the two was wrong.
        if not hmac.compare_digest(_credentials(self._user, data), self._expected):
            return self._hangup("wrong user name or password", bytes((AUTH_VERSION, 1)))
        self._expect(_State.REQUEST, 4)
        return [Send(bytes((AUTH_VERSION, 0)))]

    def _on_request(self, data: bytes) -> list[Action]:
        version, self._command, _reserved, self._kind = data
        if version != VERSION:
            return self._refuse(ReplyCode.GENERAL, "its request is not of SOCKS version 5")
        match self._kind:
            case Address.IPV4:
                self._expect(_State.ADDRESS, 4 + 2)
            case Address.IPV6:
                self._expect(_State.ADDRESS, 16 + 2)
            case Address.DOMAIN:
                self._expect(_State.DOMAIN_LENGTH, 1)
            case _:
                return self._refuse(ReplyCode.ADDRESS_NOT_SUPPORTED, f"unknown address type {self._kind}")
        return []

    def _on_domain_length(self, data: bytes) -> list[Action]:
        self._expect(_State.ADDRESS, data[0] + 2)
        return []

    def _on_address(self, data: bytes) -> list[Action]:
        # The address is read before the command is judged, so that nothing is left unread when we close: the kernel
        # would answer that with a RST, which can overtake the reply.
        port = int.from_bytes(data[-2:], "big")
        if self._command == UDP_ASSOCIATE:
            # The address is of no use: programs behind a NAT cannot know theirs, and others are held to the one they
            # connect from.
            self._expect(_State.DONE, 0)
            return [Associate(port)]
        if self._command != CONNECT:
            return self._refuse(ReplyCode.COMMAND_NOT_SUPPORTED, f"command {self._command} is not supported")
        try:
            host = _host(self._kind, data[:-2])
        except ValueError:
            return self._refuse(ReplyCode.GENERAL, "the name it asks for is no host name")
        if not port:
            return self._refuse(ReplyCode.GENERAL, "it asks for port 0")
        self._expect(_State.DONE, 0)
        return [Connect(Endpoint(host, port))]


def _credentials(username: bytes, password: bytes) -> bytes:
    return b"%d:%b:%b" % (len(username), username, password)


def _host(kind: int, raw: bytes) -> str:
    if kind != Address.DOMAIN:
        return str(ipaddress.ip_address(raw))
    name = raw.decode("ascii").removeprefix("[").removesuffix("]")
    if "%" in name:  # an IPv6 zone means an interface of this machine, and nothing at the far end
        raise ValueError
    return parse_host(name)
