"""Accepting TCP connections of programs, for every mode: bounds, patience, and an orderly end for whom is turned away.

Sockets are used without asyncio's streams: those read ahead, and what a program sends behind its request belongs to the
worker.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drivers.linux.linger import reset_on_close
from vantun.acl import unmapped
from vantun.config_kinds import Endpoint
from vantun.control.resolver import Resolver
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

CONCURRENT = 1024
"""Programs that one listener serves at once until they are handed on; the others wait in the kernel's queue."""
PER_SOURCE = 128
"""Of these from one host (IPv4) or network (IPv6 /64) that is not this machine; more are reset."""
BACKLOG = 1024
FAREWELL_TIME = 1.0
"""Seconds for a program to take the last reply, before its socket is closed."""
PAUSE = 0.5
"""Seconds without accepting after the kernel had no descriptor or memory for a connection."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Serve = Callable[[socket.socket], Awaitable[str | None]]
"""Serves a program. Returns None when the socket was handed on, or why not: then the socket is closed behind it."""


@dataclass(frozen=True)
class Place:
    """Where to listen.

    Attributes
    ----------
    key
        The configuration key that names the address, for messages.
    transparent
        Whether the socket takes connections to foreign addresses (IP_TRANSPARENT).
    """

    key: str
    listen: Endpoint
    transparent: bool = False


class Listener:
    """Accepts on the addresses of one place. Made by :meth:`start`."""

    def __init__(self, place: Place, serve: Serve, listeners: list[socket.socket]) -> None:
        self.place = place
        self.accepted = 0
        self.failed = 0
        """Programs that were turned away."""
        self.too_many = 0
        """Connections that were reset because their source had too many already."""
        self._serve_one = serve
        self._listeners = listeners
        self._room = asyncio.Semaphore(CONCURRENT)
        self._sources: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]

    @classmethod
    async def start(cls, place: Place, resolver: Resolver, serve: Serve) -> Listener:
        """Listen on every address of ``place``. Raises ResourceError."""
        return cls(place, serve, await listen(place, resolver))

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._listeners[0].getsockname()[1])

    def status(self) -> dict[str, object]:
        """Return where it listens and what it did."""
        return {
            "listen": str(self.place.listen),
            "in_handshake": len(self._serving),
            "accepted": self.accepted,
            "failed": self.failed,
            "too_many": self.too_many,
        }

    async def close(self) -> None:
        """Stop listening and drop the programs that are not handed on yet."""
        tasks = [*self._accepting, *self._serving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError as error:
                self._room.release()
                if error.errno in _NO_ROOM:
                    # The connection stays in the queue and the listener stays readable: without a pause this spins.
                    log.warning(
                        "%s: accepting waits: %s; raise `ulimit -n`, or use fewer connections", self.place.key, error
                    )
                    await asyncio.sleep(PAUSE)
                else:  # the program has gone before we came (ECONNABORTED and its like, accept(2))
                    log.debug("%s: a connection was lost before it was accepted: %s", self.place.key, error)
                continue
            except BaseException:
                self._room.release()
                raise
            self._begin(sock, source_of(str(peer[0])))

    def _begin(self, sock: socket.socket, source: str) -> None:
        if source and self._sources[source] >= PER_SOURCE:
            self.too_many += 1
            self._room.release()
            reset_on_close(sock)
            sock.close()
            return
        self.accepted += 1
        self._sources[source] += 1
        task = asyncio.get_running_loop().create_task(self._serve(sock))
        self._serving.add(task)
        task.add_done_callback(lambda done: self._done(done, sock, source))

    def _done(self, task: asyncio.Task[None], sock: socket.socket, source: str) -> None:
        self._serving.discard(task)
        self._room.release()
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if task.cancelled():
            sock.close()  # a task that is cancelled before its first step closes nothing
        elif task.exception() is not None:
            log.error("%s: a mistake in VANTUN, please report it", self.place.key, exc_info=task.exception())

    async def _serve(self, sock: socket.socket) -> None:
        try:
            reason = await self._serve_one(sock)
        except TimeoutError:
            reason = "it did not say what it wants in time"
        except OSError as error:
            reason = error.strerror or "it was lost"
        except BaseException:
            sock.close()
            raise
        if reason is None:
            return
        self.failed += 1
        log.info("%s: a program was turned away: %s", self.place.key, reason)
        try:
            await farewell(sock)
        finally:
            sock.close()


def source_of(host: str) -> str:
    """Return what connections are counted by: an IPv4 address or an IPv6 /64; empty for this machine."""
    address = unmapped(ipaddress.ip_address(host))
    if address.is_loopback:
        return ""
    return str(address) if address.version == 4 else str(ipaddress.IPv6Address(int(address) >> 64 << 64))


async def farewell(sock: socket.socket) -> None:
    """Let the last reply arrive: what is left unread at close turns into a RST, which can overtake it."""
    loop = asyncio.get_running_loop()
    try:
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(FAREWELL_TIME):
            for _ in range(64):
                if not await loop.sock_recv(sock, 65536):
                    return
    except OSError as error:  # TimeoutError as well: it has had its time
        log.debug("closing without waiting: %s", error)


async def listen(place: Place, resolver: Resolver) -> list[socket.socket]:
    """Return listening sockets for every address of a place that this machine has. Raises ResourceError."""
    sockets: list[socket.socket] = []
    missing: ListenError | None = None
    try:
        for family, host in await addresses(place, resolver):
            try:
                sockets.append(_listen(place, family, host))
            except ListenError as error:
                if error.errno not in _NO_SUCH_ADDRESS:
                    raise
                missing = error  # `localhost` on a machine without IPv6
        if not sockets and missing is not None:
            raise missing
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def addresses(place: Place, resolver: Resolver) -> list[tuple[socket.AddressFamily, str]]:
    """Return the addresses that a place to listen on means. Raises ResourceError."""
    host = place.listen.host
    if not host:
        return [(socket.AF_INET6, "::")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "0.0.0.0")]
    try:
        found = await resolver.resolve(host, place.listen.port)
    except OSError as error:
        raise ResourceError(
            f"{place.key}: {host} has no address here ({error.strerror}); write an IP address of this machine"
        ) from None
    return [(address.family, address.host) for address in found]


class ListenError(ResourceError):
    """An address cannot be listened on.

    Attributes
    ----------
    errno
        What the kernel said.
    """

    def __init__(self, place: Place, host: str, error: OSError) -> None:
        super().__init__(_explain(place, host, error))
        self.errno = error.errno or 0


def _listen(place: Place, family: socket.AddressFamily, host: str) -> socket.socket:
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # Without it a restart within a minute fails while old connections are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" and not place.listen.host else 1)
        if place.transparent:
            make_transparent(sock)
        sock.bind((host, place.listen.port))
        sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ListenError(place, host, error) from None
    return sock


def make_transparent(sock: socket.socket) -> None:
    """Let a socket take packets to foreign addresses. Raises PermissionError without CAP_NET_ADMIN or CAP_NET_RAW."""
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)


IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
"""linux/in.h, linux/in6.h; Python names neither before 3.13."""


def _explain(place: Place, host: str, error: OSError) -> str:
    step = {
        errno.EADDRINUSE: f"stop the program that holds it (see `ss -ltnp`), or choose another {place.key}",
        errno.EACCES: "choose a port above 1023, or run with CAP_NET_BIND_SERVICE",
        errno.EPERM: "a transparent proxy needs CAP_NET_ADMIN: run as root, or use the systemd unit of packaging/",
        errno.EADDRNOTAVAIL: "choose an address of this machine (see `ip address`)",
        errno.EAFNOSUPPORT: "this machine has no such addresses; listen on an address of the other family",
    }.get(error.errno or 0, f"choose another {place.key}")
    return f"{place.key}: cannot listen on {Endpoint(host, place.listen.port)}: {error.strerror}; {step}"
