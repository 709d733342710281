"""What the masquerade's parts have in common: a request, an answer, and pages for errors as nginx writes them.

The site names itself nginx on UDP and TCP alike: it is the most usual server that speaks HTTP/3, and its error pages
are short and the same everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

Headers = list[tuple[bytes, bytes]]

SERVER = b"nginx"
_PHRASES = {302: "302 Found", 413: "413 Request Entity Too Large", 416: "416 Requested Range Not Satisfiable"}
_PHRASES[503] = "503 Service Temporarily Unavailable"
_PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True)
class Request:
    """A visitor's request, the same for every version of HTTP.

    Attributes
    ----------
    method, authority, path
        As sent; ``path`` is the request target in origin form, with its query.
    headers
        Lower-case names, no pseudo-fields and no ``host``.
    scheme
        ``https``, or ``http`` on the plain port.
    has_body
        Whether a body may follow.
    """

    method: bytes
    authority: bytes
    path: bytes
    headers: Headers = field(default_factory=list)
    scheme: bytes = b"https"
    has_body: bool = False

    def header(self, name: bytes) -> bytes:
        """Return a field's value, several joined by commas (RFC 9110, section 5.3); empty if there is none."""
        return b", ".join(value for key, value in self.headers if key == name)


@dataclass
class Answer:
    """An answer.

    Attributes
    ----------
    status
        HTTP status.
    headers
        Lower-case names; nothing that only one version of HTTP has.
    body
        All of it, or its pieces; whoever takes the pieces closes the iterator.
    """

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""


class Origin(Protocol):
    """Where answers come from."""

    def answer_now(self, request: Request) -> Answer | None:
        """Return the answer if it takes no I/O; the same for every request that differs in its credentials only."""

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        """Return the answer to a request that :meth:`answer_now` has left over."""

    async def close(self) -> None:
        """Give back what it holds."""


def usual(kind: bytes, length: int) -> Headers:
    """Return the fields that every answer begins with."""
    return [
        (b"server", SERVER),
        (b"date", formatdate(usegmt=True).encode()),
        (b"content-type", kind),
        (b"content-length", str(length).encode()),
    ]


def error(status: int, request: Request, more: Headers | None = None) -> Answer:
    """Return nginx's answer for a status."""
    title = _PHRASES.get(status) or f"{status} {HTTPStatus(status).phrase}"
    page = _PAGE.format(title=title).encode()
    body = b"" if request.method == b"HEAD" else page
    return Answer(status, [*usual(b"text/html", len(page)), *(more or [])], body)
