"""What a visitor who is no client sees: a small web site, whatever he asks for."""

from __future__ import annotations

from email.utils import formatdate

from vantun.config import MasqueradeConfig

Headers = list[tuple[bytes, bytes]]

_OURS = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that a configured answer cannot set: HTTP/3 forbids them, or they must be true (RFC 9114, section 4.2)."""

_PAGE = (
    '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
    "<body><h1>{title}</h1><p>{text}</p></body>\n</html>\n"
)
_FOUND = _PAGE.format(title="It works", text="This server is up and running.").encode()
_MISSING = _PAGE.format(title="404 Not Found", text="There is nothing here.").encode()
_REFUSED = _PAGE.format(title="405 Method Not Allowed", text="This server does not allow that.").encode()


class Site:
    """Answers requests; the answer depends on method and path only, never on credentials."""

    def __init__(self, config: MasqueradeConfig | None) -> None:
        self._config = config

    def answer(self, method: bytes, path: bytes) -> tuple[Headers, bytes]:
        """Return header fields and body for a request."""
        extra: Headers = []
        if self._config is not None:
            status, body = self._config.status_code, self._config.content.encode()
            fields = ((name.lower().encode(), value.encode()) for name, value in self._config.headers.items())
            extra = [(name, value) for name, value in fields if name not in _OURS]
        elif method not in (b"GET", b"HEAD"):
            status, body, extra = 405, _REFUSED, [(b"allow", b"GET, HEAD")]
        elif path.split(b"?")[0] in (b"/", b"/index.html"):
            status, body = 200, _FOUND
        else:
            status, body = 404, _MISSING
        usual = [(b"date", formatdate(usegmt=True).encode()), (b"content-type", b"text/html; charset=utf-8")]
        said = {name for name, _ in extra}
        headers = [
            (b":status", str(status).encode()),
            *(entry for entry in usual if entry[0] not in said),
            (b"content-length", str(len(body)).encode()),
            *extra,
        ]
        return headers, b"" if method == b"HEAD" else body
