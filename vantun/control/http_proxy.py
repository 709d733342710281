"""An HTTP proxy's side of one request (RFC 9110, 7.6; RFC 9112, 3.2), sans-IO: bytes in, one decision out.

Only the head is parsed (by h11). What stands behind it, and everything after it, is the worker's: a plain request is
sent on with ``Connection: close``, so a connection carries one request, and nobody has to see where a body ends.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass

import h11

from vantun.config_kinds import Endpoint, parse_endpoint
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

LARGEST_HEAD = 32_768
"""Bytes of a request line and its fields."""
PIECE = 8_192
"""Bytes that are read at once, so that head and what is behind it fit into one message to the worker."""
DEFAULT_REALM = "VANTUN"

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te upgrade host".split()
)
"""Fields that end here (RFC 9110, 7.6.1); Host is written anew, Transfer-Encoding describes the body and stays."""

_REASONS = {400: "Bad Request", 403: "Forbidden", 407: "Proxy Authentication Required", 431: "Head Too Large"} | {
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?")


@dataclass(frozen=True)
class Forward:
    """Connect to ``target``, answer by ``reply``, and send ``first`` before what follows in the connection."""

    target: Endpoint
    reply: StreamReply
    first: bytes


@dataclass(frozen=True)
class Refuse:
    """Send ``answer`` and end the connection."""

    answer: bytes
    reason: str


def response(code: int, text: str, extra: tuple[str, ...] = (), *, body: bool = True) -> bytes:
    """Return a whole answer whose body says in one line what is wrong and what to do."""
    content = f"VANTUN: {text}\n".encode()
    lines = (
        f"HTTP/1.1 {code} {_REASONS[code]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "Connection: close",
        *extra,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (content if body else b"")


_FAILURES = {
    RefusalCode.GENERAL: (502, "{} cannot be opened: the server has no room, or the session has ended; try again"),
    RefusalCode.NOT_ALLOWED: (403, "{} is not allowed by the access list (`acl`) of the client or the server"),
    RefusalCode.NETWORK_UNREACHABLE: (503, "no way to {}: no path to the server is up, or it has no such network"),
    RefusalCode.HOST_UNREACHABLE: (502, "{} cannot be found or reached from the server; check the name"),
    RefusalCode.REFUSED: (502, "{} refuses the connection; is something listening on this port?"),
    RefusalCode.TIMED_OUT: (504, "{} does not answer"),
}


def failure(code: int, target: Endpoint, *, body: bool = True) -> bytes:
    """Return the answer for a target that was not reached."""
    known = RefusalCode(code) if code in tuple(RefusalCode) else RefusalCode.GENERAL
    status, text = _FAILURES[known]
    return response(status, text.format(target), body=body)


def _reply(target: Endpoint, accepted: bytes, *, body: bool = True) -> StreamReply:
    by_code = {str(int(code)): failure(code, target, body=body) for code in RefusalCode}
    return StreamReply(accepted, by_code["1"], -1, int(RefusalCode.GENERAL), by_code)


class HttpRequest:
    """One request. With an empty user name no authentication is asked for."""

    def __init__(self, username: str = "", password: str = "", realm: str = DEFAULT_REALM) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        self._expected = f"{username}:{password}".encode() if username else None
        self._realm = realm.replace("\\", "").replace('"', "")
        self._done = False

    def receive(self, data: bytes) -> Forward | Refuse | None:
        """Take bytes; return what is to be done, or None as long as the head is not complete.

        ``data`` is empty at the end of the stream. Raises ValueError when the decision was given already.
        """
        if self._done:
            raise ValueError("the request is decided; what follows belongs to the stream")
        decision = self._decide(data)
        self._done = decision is not None
        return decision

    def _decide(self, data: bytes) -> Forward | Refuse | None:
        try:
            self._parser.receive_data(data)
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            code = error.error_status_hint if error.error_status_hint in _REASONS else 400
            return Refuse(response(code, f"this is no HTTP request that a proxy understands: {error}"), str(error))
        if event is h11.NEED_DATA:
            return None
        if not isinstance(event, h11.Request):  # the program has ended the stream before it began
            return Refuse(b"", "it closed the connection before its request was complete")
        if not self._permits(event):
            challenge = f'Proxy-Authenticate: Basic realm="{self._realm}", charset="UTF-8"'
            text = "this proxy asks for a user name and a password (http.username, http.password)"
            body = event.method != b"HEAD"
            return Refuse(response(407, text, (challenge,), body=body), "no or wrong user name or password")
        rest = self._parser.trailing_data[0]
        return self._connect(event, rest) if event.method == b"CONNECT" else self._plain(event, rest)

    def _permits(self, request: h11.Request) -> bool:
        if self._expected is None:
            return True
        given = [value for name, value in request.headers if name == b"proxy-authorization"]
        kind, _, credentials = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        try:
            told = base64.b64decode(credentials.strip(), validate=True)
        except ValueError:
            told = b""
        return hmac.compare_digest(told, self._expected) and kind.lower() == b"basic"

    def _connect(self, request: h11.Request, rest: bytes) -> Forward | Refuse:
        try:
            target = _endpoint(request.target, None)
        except ValueError as error:
            return _bad(f"CONNECT needs a target like example.org:443: {error}", request)
        return Forward(target, _reply(target, b"HTTP/1.1 200 Connection established\r\n\r\n"), rest)

    def _plain(self, request: h11.Request, rest: bytes) -> Forward | Refuse:
        match = _ABSOLUTE.fullmatch(request.target)
        if match is None:
            return _bad("this is a proxy, not a web site: set it as the proxy of a program", request)
        scheme, authority, path = match.groups()
        if scheme.lower() != b"http":
            return _bad(f"{scheme.decode().lower()} goes through a proxy by CONNECT", request, 501)
        try:
            target = _endpoint(authority, 80)
        except ValueError as error:
            return _bad(f"the address in the request cannot be used: {error}", request)
        names = [name for name, _ in request.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            return _bad("Content-Length and Transfer-Encoding contradict each other", request)
        head = _rewritten(request, authority, path)
        return Forward(target, _reply(target, b"", body=request.method != b"HEAD"), head + rest)


def _bad(text: str, request: h11.Request, code: int = 400) -> Refuse:
    return Refuse(response(code, text, body=request.method != b"HEAD"), text)


def _endpoint(authority: bytes, default_port: int | None) -> Endpoint:
    text = authority.decode("ascii")
    if "@" in text:
        raise ValueError("it contains a user name")
    if "%" in text:
        raise ValueError("a zone means nothing at the far end")
    target = parse_endpoint(text.removesuffix(":") if default_port else text, default_port)
    if not target.host:
        raise ValueError("it has no host")
    return target


def _rewritten(request: h11.Request, authority: bytes, path: bytes) -> bytes:
    """Return the head as the origin shall see it: origin form, without the fields that end here."""
    if not path.startswith(b"/"):
        path = b"*" if request.method == b"OPTIONS" and not path else b"/" + path
    named = {
        token.strip().lower()
        for name, value in request.headers
        if name in (b"connection", b"proxy-connection")
        for token in value.split(b",")
    } - {b"content-length", b"transfer-encoding"}
    lines = [b"%b %b HTTP/%b" % (request.method, path, request.http_version), b"Host: " + authority]
    lines += [
        b"%b: %b" % (raw, value)
        for raw, value in request.headers.raw_items()
        if raw.lower() not in _HOP_BY_HOP and raw.lower() not in named
    ]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])
