"""One request on an HTTP/1.1 connection, with h11: head, body and answer, each bounded in size and time."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

import h11

from vantun.control.visits import STALL_TIME
from vantun.control.web import Answer, Headers, Request

_NO_BODY = frozenset((204, 304))
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)


async def read_head(http: h11.Connection, reader: asyncio.StreamReader, scheme: bytes) -> Request | None:
    """Return the next request, None when the visitor has gone. Raises h11.RemoteProtocolError."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(HttpExchange.PIECE))
    if not isinstance(event, h11.Request):
        return None
    fields: Headers = [(bytes(name).lower(), bytes(value)) for name, value in event.headers]
    hosts = [value for name, value in fields if name == b"host"]
    target = bytes(event.target)
    authority = hosts[0] if hosts else b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:  # it names the host itself (RFC 9112, section 3.2.2)
        authority, target = absolute[1], absolute[2] or b"/"
        target = target if target.startswith(b"/") else b"/" + target
    framing = {name for name, _ in fields} & {b"content-length", b"transfer-encoding"}
    has_body = bool(framing) and (b"content-length", b"0") not in fields
    if not has_body:
        http.next_event()  # the end of the request, without which the next one does not begin
    return Request(
        method=bytes(event.method),
        authority=authority,
        path=target,
        headers=[entry for entry in fields if entry[0] != b"host"],
        scheme=scheme,
        has_body=has_body,
    )


class HttpExchange:
    """See :class:`vantun.control.visits.Exchange`.

    Parameters
    ----------
    extra
        Fields that every answer gets.
    last
        Whether the connection ends with this answer.
    """

    PIECE = 64 << 10
    MAX_HEAD = 32 << 10
    """Bytes of a request's head, as nginx has it."""

    def __init__(
        self,
        http: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        extra: Headers,
        *,
        last: bool = False,
    ) -> None:
        self.request = request
        self._http = http
        self._reader = reader
        self._writer = writer
        self._extra = extra
        self._last = last
        self._broken = False

    async def read(self) -> bytes:
        """Return some of the request's body, empty at its end."""
        while True:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as wrong:
                raise ConnectionResetError(f"the visitor's request is none: {wrong}") from None
            if event is h11.NEED_DATA:
                async with asyncio.timeout(STALL_TIME):
                    self._http.receive_data(await self._reader.read(self.PIECE))
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            else:
                return b""

    async def begin(self, answer: Answer, *, end: bool) -> None:
        """Send status and fields."""
        headers = [*answer.headers, *self._extra]
        names = {name for name, _ in headers}
        has_body = self.request.method != b"HEAD" and answer.status not in _NO_BODY
        if end and has_body and b"content-length" not in names:
            headers.append((b"content-length", b"0"))
        # a body that nobody has read would be taken for the next request
        if self._last or self._http.their_state in (h11.SEND_BODY, h11.ERROR):
            headers.append((b"connection", b"close"))
        elif self._http.their_http_version == b"1.1":
            headers.append((b"connection", b"keep-alive"))
        named = [(_spelled(name), value) for name, value in headers]
        await self._send(h11.Response(status_code=answer.status, headers=named, reason=reason(answer.status)))
        if end:
            await self.end()

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """Say that the body is complete."""
        await self._send(h11.EndOfMessage())

    def abort(self) -> None:
        """Break off: the connection ends without the rest."""
        self._broken = True
        self._writer.transport.abort()

    async def say(self, answer: Answer) -> None:
        """Send a whole answer."""
        assert isinstance(answer.body, bytes)
        await self.begin(answer, end=not answer.body)
        if answer.body:
            await self.write(answer.body)
            await self.end()

    async def refuse(self, answer: Answer) -> None:
        """Answer what is no request; the connection ends with it."""
        assert isinstance(answer.body, bytes)
        self._last = True
        await self.say(answer)

    async def finish(self) -> bool:
        """Return whether another request may follow."""
        if self._broken or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _send(self, event: h11.Event) -> None:
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as wrong:  # the answer is not as long as it says
            raise ConnectionResetError(str(wrong)) from None
        if data:
            self._writer.write(data)
            async with asyncio.timeout(STALL_TIME):
                await self._writer.drain()


def _spelled(name: bytes) -> bytes:
    """Return a field name as servers of HTTP/1.1 write it."""
    return b"ETag" if name == b"etag" else b"-".join(word.capitalize() for word in name.split(b"-"))


def reason(status: int) -> bytes:
    """Return the reason phrase as nginx writes it."""
    phrases = {302: b"Moved Temporarily", 413: b"Request Entity Too Large", 416: b"Requested Range Not Satisfiable"}
    phrases[503] = b"Service Temporarily Unavailable"
    if status in phrases:
        return phrases[status]
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
