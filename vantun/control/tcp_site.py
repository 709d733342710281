"""The masquerade on TCP: the same site by HTTP/1.1, in TLS with the server's certificate, and plain.

An HTTPS answer says that HTTP/3 is served, too (Alt-Svc, RFC 7838). There is no tunnel on TCP: a request with
credentials is a visitor's request as any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import h11

from vantun.config import ServerConfig, ServerTlsConfig
from vantun.config_kinds import Endpoint
from vantun.control.admission import source_of
from vantun.control.http_exchange import HttpExchange, read_head
from vantun.control.resolver import Resolver
from vantun.control.visits import Visitors
from vantun.control.web import Answer, Request, error
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
MAX_PER_SOURCE = 64
"""TCP connections of one IPv4 address, or of one IPv6 network of 64 bits."""
MAX_REQUESTS = 1000
"""Requests on one connection, as nginx has it."""
HANDSHAKE_TIME = 10.0
"""Seconds for a TLS handshake."""
HEAD_TIME, IDLE_TIME = 30.0, 60.0
"""Seconds for the head of a request, once it has begun; between two requests."""
BACKLOG = 512
PAUSE = 0.5
"""Seconds without accepting after the kernel had no descriptor or memory for a connection."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def tls_context(tls: ServerTlsConfig) -> ssl.SSLContext:
    """Return what new TLS connections are made with. Raises ResourceError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # a password would be asked for on the terminal; a key that needs one is refused
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError) as failure:
        raise ResourceError(
            f"{tls.cert} and {tls.key} are no certificate and key for HTTPS ({failure}); put a pair in PEM without a "
            "password"
        ) from None
    return context


@dataclass(frozen=True)
class _Port:
    """A kind of listener."""

    key: str
    listen: Endpoint
    secure: bool


class TcpSite:
    """Listens where ``masquerade.listenHTTPS`` and ``listenHTTP`` say. Made by :meth:`start`."""

    def __init__(self, config: ServerConfig, visitors: Visitors) -> None:
        self.refused = 0
        """Connections beyond the limits."""
        self._https = config.masquerade.listen_https
        self._force_https = config.masquerade.force_https
        self._visitors = visitors
        self._alt_svc = b'h3=":%d"; ma=86400' % config.listen.port
        self._context = tls_context(config.tls)
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sources: Counter[str] = Counter()

    @classmethod
    async def start(cls, config: ServerConfig, visitors: Visitors, resolver: Resolver) -> TcpSite:
        """Listen. Raises ResourceError."""
        self = cls(config, visitors)
        ports = []
        if config.masquerade.listen_https is not None:
            ports.append(_Port("masquerade.listenHTTPS", config.masquerade.listen_https, secure=True))
        if config.masquerade.listen_http is not None:
            ports.append(_Port("masquerade.listenHTTP", config.masquerade.listen_http, secure=False))
        try:
            for port in ports:
                for listener in await _listen(port, resolver):
                    self._listeners.append(listener)
                    self._start(self._accept(listener, port))
                log.info("masquerade: %s://%s (tcp)", "https" if port.secure else "http", port.listen)
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def ports(self) -> list[int]:
        """The TCP ports, in the order https, http."""
        return [int(listener.getsockname()[1]) for listener in self._listeners]

    def report(self) -> dict[str, object]:
        """Return the section ``web`` of the status."""
        return {"connections": self._sources.total(), "refused": self.refused, "ports": self.ports}

    def prepare(self, config: ServerConfig) -> Callable[[], None]:
        """Return what makes new connections with the certificate of ``config``, and redirects plain HTTP as it says.

        Raises
        ------
        ResourceError
            When the certificate cannot be used; nothing has changed before the call of what is returned.
        """
        context = tls_context(config.tls)

        def change() -> None:
            self._context = context
            self._force_https = config.masquerade.force_https

        return change

    async def close(self) -> None:
        """Stop listening, and break off what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("masquerade: a mistake in VANTUN, please report it", exc_info=task.exception())

    async def _accept(self, listener: socket.socket, port: _Port) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as failure:
                if failure.errno in _NO_ROOM:
                    log.warning("masquerade: accepting waits: %s; raise `ulimit -n`", failure)
                    await asyncio.sleep(PAUSE)
                continue
            source = source_of(peer[0])
            if self._sources.total() >= MAX_CONNECTIONS or self._sources[source] >= MAX_PER_SOURCE:
                self.refused += 1
                sock.close()
                continue
            self._sources[source] += 1
            self._start(self._serve(sock, port, source))

    async def _serve(self, sock: socket.socket, port: _Port, source: str) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._connect(sock, secure=port.secure)
            await self._talk(reader, writer, port)
        except (OSError, ssl.SSLError, TimeoutError) as failure:
            log.debug("masquerade: a connection was lost: %s", str(failure) or "it was silent")
        finally:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
            if writer is not None:
                writer.transport.abort() if writer.is_closing() else writer.close()
                with contextlib.suppress(OSError, ssl.SSLError):
                    async with asyncio.timeout(HANDSHAKE_TIME):
                        await writer.wait_closed()
                writer.transport.abort()
            else:
                sock.close()

    async def _connect(self, sock: socket.socket, *, secure: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HttpExchange.PIECE, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        tls = {"ssl": self._context, "ssl_handshake_timeout": HANDSHAKE_TIME} if secure else {}
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, **tls)  # type: ignore[arg-type]
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: _Port) -> None:
        """Answer requests until one of both has had enough."""
        scheme = b"https" if port.secure else b"http"
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=HttpExchange.MAX_HEAD)
        extra = [(b"alt-svc", self._alt_svc)] if port.secure else []
        for number in range(MAX_REQUESTS):
            try:
                async with asyncio.timeout(IDLE_TIME if number else HEAD_TIME):
                    request = await read_head(http, reader, scheme)
            except h11.RemoteProtocolError as wrong:
                # a request line without the rest of a request has no method that matters
                bad = Request(b"GET", b"", b"/")
                exchange = HttpExchange(http, reader, writer, bad, extra)
                await exchange.refuse(error(400 if wrong.error_status_hint >= 500 else wrong.error_status_hint, bad))
                return
            if request is None:
                return
            exchange = HttpExchange(http, reader, writer, request, extra, last=number == MAX_REQUESTS - 1)
            redirection = self._redirection(request) if not port.secure else None
            if redirection is not None:
                await exchange.say(redirection)
            else:
                await self._visitors.answer(exchange)
            if not await exchange.finish():
                return

    def _redirection(self, request: Request) -> Answer | None:
        listen = self._https
        if not self._force_https or listen is None:
            return None
        host = request.authority.rpartition(b":")[0] if request.authority[-1:].isdigit() else b""
        name = host if host and not host.endswith(b":") else request.authority
        if not name or not request.path.startswith(b"/"):
            return error(400, request)
        where = name if listen.port == 443 else b"%s:%d" % (name, listen.port)
        return error(301, request, [(b"location", b"https://" + where + request.path)])


async def _listen(port: _Port, resolver: Resolver) -> list[socket.socket]:
    made: list[socket.socket] = []
    try:
        for family, host in await _addresses(port, resolver):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if port.listen.host else 0)
            sock.bind((host, port.listen.port))
            sock.listen(BACKLOG)
    except OSError as failure:
        for sock in made:
            sock.close()
        step = {
            errno.EADDRINUSE: "stop the program that holds it (see `ss -ltnp`), or choose another port",
            errno.EACCES: "choose a port above 1023, or run with CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "choose an address of this machine (see `ip address`)",
        }.get(failure.errno or 0, "choose another address")
        raise ResourceError(f"{port.key}: {port.listen} cannot be listened on: {failure.strerror}; {step}") from None
    return made


async def _addresses(port: _Port, resolver: Resolver) -> list[tuple[socket.AddressFamily, str]]:
    listen = port.listen
    if not listen.host:
        return [(socket.AF_INET6, "::")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "0.0.0.0")]
    return [(address.family, address.host) for address in await resolver.resolve(listen.host, listen.port)]
