"""The SOCKS5 listener: accepts programs, speaks the handshake, and hands the connected sockets on.

Sockets are used without asyncio's streams: those read ahead, and what a program sends behind its request belongs to the
worker.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from vantun.config import Socks5Config
from vantun.config_kinds import Endpoint
from vantun.control.resolver import Resolver
from vantun.control.socks5 import Connect, Handshake, Hangup, Send, reply
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.worker_messages import StreamReply

log = logging.getLogger(__name__)

HANDSHAKE_TIME = 10.0
"""Seconds for a program to say what it wants."""
CONCURRENT = 1024
"""Programs that may be in the handshake, or wait for a path, at once; the others wait in the kernel's queue."""
BACKLOG = 1024
FAREWELL_TIME = 1.0
"""Seconds for a program to take the last reply, before its socket is closed."""
PAUSE = 0.5
"""Seconds without accepting after the kernel had no descriptor or memory for a connection."""

STREAM_REPLY = StreamReply(accepted=reply(0), refused=reply(1), code_at=1, failed=int(RefusalCode.GENERAL))
"""What the worker answers for us once the far end has."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Opener = Callable[[Endpoint, socket.socket], Awaitable[RefusalCode | None]]
"""Takes over the socket and returns None, or returns why not and leaves the socket."""


class Socks5Server:
    """A SOCKS5 proxy that serves CONNECT. Made by :meth:`start`."""

    def __init__(self, config: Socks5Config, opener: Opener, listeners: list[socket.socket]) -> None:
        self.accepted = 0
        self.failed = 0
        """Handshakes that ended without a connection."""
        self.time_limit = HANDSHAKE_TIME
        self._config = config
        self._opener = opener
        self._listeners = listeners
        self._room = asyncio.Semaphore(CONCURRENT)
        self._serving: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]

    @classmethod
    async def start(cls, config: Socks5Config, resolver: Resolver, opener: Opener) -> Socks5Server:
        """Listen on every address of ``config.listen``. Raises ResourceError."""
        listeners: list[socket.socket] = []
        try:
            for family, host in await _addresses(config.listen, resolver):
                listeners.append(_listen(family, host, config.listen.port, dual=not config.listen.host))
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        return cls(config, opener, listeners)

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._listeners[0].getsockname()[1])

    def status(self) -> dict[str, object]:
        """Return where it listens and what it did."""
        return {
            "listen": str(self._config.listen),
            "in_handshake": len(self._serving),
            "accepted": self.accepted,
            "failed": self.failed,
        }

    async def close(self) -> None:
        """Stop listening and drop the programs that are still in the handshake."""
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
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._room.release()
                if error.errno in _NO_ROOM:
                    # The connection stays in the queue and the listener stays readable: without a pause this spins.
                    log.warning("SOCKS5: accepting waits: %s; raise `ulimit -n`, or use fewer connections", error)
                    await asyncio.sleep(PAUSE)
                else:  # the program has gone before we came (ECONNABORTED and its like, accept(2))
                    log.debug("SOCKS5: a connection was lost before it was accepted: %s", error)
                continue
            except BaseException:
                self._room.release()
                raise
            self.accepted += 1
            task = loop.create_task(self._serve(sock))
            self._serving.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            log.error("SOCKS5: a mistake in VANTUN, please report it", exc_info=task.exception())

    async def _serve(self, sock: socket.socket) -> None:
        try:
            reason = await self._shake(sock)
        except TimeoutError:
            reason = f"it did not say what it wants within {self.time_limit:g} s"
        except OSError as error:
            reason = error.strerror or "it was lost"
        except BaseException:
            sock.close()
            raise
        if reason is None:
            return
        self.failed += 1
        log.info("SOCKS5: a program was turned away: %s", reason)
        try:
            await _farewell(sock)
        finally:
            sock.close()

    async def _shake(self, sock: socket.socket) -> str | None:
        """Speak the handshake; return None when the socket was handed on, else why not."""
        loop = asyncio.get_running_loop()
        handshake = Handshake(self._config.username, self._config.password)
        target: Endpoint | None = None
        async with asyncio.timeout(self.time_limit):
            while handshake.wanted:
                data = await loop.sock_recv(sock, handshake.wanted)
                if not data:
                    return "it closed the connection in the handshake"
                for action in handshake.receive(data):
                    match action:
                        case Send(answer):
                            await loop.sock_sendall(sock, answer)
                        case Hangup(reason):
                            return reason
                        case Connect(target):
                            pass
        assert target is not None, "a handshake ends with Connect or Hangup"
        code = await self._opener(target, sock)
        if code is None:
            return None
        async with asyncio.timeout(self.time_limit):
            await loop.sock_sendall(sock, reply(code))
        return f"{target} cannot be opened now: {code.name.lower().replace('_', ' ')}"


async def _farewell(sock: socket.socket) -> None:
    """Let the last reply arrive: what is left unread at close turns into a RST, which can overtake it."""
    loop = asyncio.get_running_loop()
    try:
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(FAREWELL_TIME):
            for _ in range(64):
                if not await loop.sock_recv(sock, 65536):
                    return
    except OSError as error:  # TimeoutError as well: it has had its time
        log.debug("SOCKS5: closing without waiting: %s", error)


async def _addresses(listen: Endpoint, resolver: Resolver) -> list[tuple[socket.AddressFamily, str]]:
    if not listen.host:
        return [(socket.AF_INET6, "::")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "0.0.0.0")]
    try:
        found = await resolver.resolve(listen.host, listen.port)
    except OSError as error:
        raise ResourceError(
            f"socks5.listen: {listen.host} has no address here ({error.strerror}); write an IP address of this machine"
        ) from None
    return [(address.family, address.host) for address in found]


def _listen(family: socket.AddressFamily, host: str, port: int, *, dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Without it a restart within a minute fails while old connections are in TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        step = {
            errno.EADDRINUSE: "stop the program that holds it (see `ss -ltnp`), or choose another socks5.listen",
            errno.EACCES: "choose a port above 1023, or run with CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "choose an address of this machine (see `ip address`)",
        }.get(error.errno or 0, "choose another socks5.listen")
        raise ResourceError(f"SOCKS5 cannot listen on {Endpoint(host, port)}: {error.strerror}; {step}") from None
    return sock
