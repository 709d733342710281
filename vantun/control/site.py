"""What a visitor who is no client sees when no other site is configured: a page, or one fixed answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from vantun.config import MasqueradeConfig
from vantun.control.web import Answer, Headers, Origin, Request, error, usual

_OURS = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""Fields that a configured answer cannot set: HTTP/3 forbids them, or they must be true (RFC 9114, section 4.2)."""

_FOUND = (
    b'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>It works</title></head>\n'
    b"<body><h1>It works</h1><p>This server is up and running.</p></body>\n</html>\n"
)


def make_origin(config: MasqueradeConfig) -> Origin:
    """Return the site of a configuration."""
    if config.type == "file":
        from vantun.control.site_files import FileSite

        return FileSite(config.folder)
    if config.type == "proxy":
        from vantun.control.site_proxy import ProxySite

        return ProxySite(config)
    return Site(config)


class Site:
    """Answers requests; the answer depends on method and path only, never on credentials."""

    def __init__(self, config: MasqueradeConfig) -> None:
        self._config = config

    def answer_now(self, request: Request) -> Answer:
        """Return the answer."""
        if self._config.type == "string":
            return self._fixed(request)
        if request.method not in (b"GET", b"HEAD"):
            return error(405, request)
        if request.path.split(b"?")[0] not in (b"/", b"/index.html"):
            return error(404, request)
        body = b"" if request.method == b"HEAD" else _FOUND
        return Answer(200, usual(b"text/html; charset=utf-8", len(_FOUND)), body)

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        """Return the answer."""
        del body
        return self.answer_now(request)

    async def close(self) -> None:
        """Nothing is held."""

    def _fixed(self, request: Request) -> Answer:
        body = self._config.content.encode()
        fields = ((name.lower().encode(), value.encode()) for name, value in self._config.headers.items())
        extra: Headers = [(name, value) for name, value in fields if name not in _OURS]
        said = {name for name, _ in extra}
        headers = [entry for entry in usual(b"text/html; charset=utf-8", len(body)) if entry[0] not in said]
        return Answer(self._config.status_code, [*headers, *extra], b"" if request.method == b"HEAD" else body)
