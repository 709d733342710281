"""The server's side of reverse forwards: listens where its configuration permits, and opens flows to clients."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vantun.config_forwards import MOST_REVERSE, ListenRule
from vantun.config_kinds import Endpoint
from vantun.control.listeners import Listener, ListenError, Place, addresses
from vantun.control.resolver import Resolver
from vantun.control.reverse_forwards import REVERSE
from vantun.control.session_messages import ListenAnswer, ListenCode, ListenRequest, Transport
from vantun.control.udp_ends import bind_listeners
from vantun.errors import ResourceError
from vantun.udp_messages import ANY_WORKER, UdpKind
from vantun.worker_messages import StreamReply

log = logging.getLogger(__name__)

MOST = 1024
"""Listeners of all users together."""


class FlowOpener(Protocol):
    """Opens flows towards clients."""

    def open_flow(self, session: int, target: str, sock: socket.socket, reply: StreamReply, first: bytes = b"") -> None:
        """See WorkerLink."""

    def udp_places(self, session: int) -> Sequence[int]:
        """See Crew."""

    def open_udp(self, session: int, kind: UdpKind, sock: socket.socket, *, target: str = "", worker: int) -> int:
        """See UdpLink."""

    def close_udp(self, number: int) -> None:
        """See UdpLink."""


@dataclass
class _Socket:
    """Of UDP: one of a group on an address, the worker that serves it, and the number by which that one knows it."""

    sock: socket.socket
    worker: int
    number: int = 0


@dataclass
class _Entry:
    user: str
    request: ListenRequest
    port: int
    listener: Listener | None = None
    """Of TCP."""
    udp: list[_Socket] = field(default_factory=list)
    """One for each worker that has a slice of the session."""


class ReverseListeners:
    """All listeners of a server, by session and the client's number.

    Parameters
    ----------
    alive
        Tells whether a session has a path.
    """

    def __init__(
        self,
        allow: dict[str, tuple[ListenRule, ...]],
        resolver: Resolver,
        opener: FlowOpener,
        alive: Callable[[int], bool],
    ) -> None:
        self._allow = allow
        self._resolver = resolver
        self._opener = opener
        self._alive = alive
        self._entries: dict[tuple[int, int], _Entry] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    async def request(self, session: int, user: str, message: ListenRequest) -> ListenAnswer:
        """Listen for a client, or say why not."""
        number, what = message.listener, f"{message.transport} {Endpoint(message.host or '*', message.port)}"
        if not self._permits(user, message):
            log.info("session %x (%s): may not listen on %s", session, user, what)
            reason = f"{what} is not in the server's reverse.allow for this user"
            return ListenAnswer(number, ListenCode.NOT_ALLOWED, reason, 0)
        known = self._entries.get((session, number))
        if known is not None and known.request == message:
            return ListenAnswer(number, ListenCode.LISTENING, "", known.port)
        await self._make_way(session, user, message)
        mine = sum(entry.user == user for entry in self._entries.values())
        if mine >= MOST_REVERSE or len(self._entries) >= MOST:
            return ListenAnswer(number, ListenCode.NO_ROOM, f"there is room for {MOST_REVERSE} listeners of a user", 0)
        try:
            entry = await self._listen(session, user, message)
        except ResourceError as error:
            code = ListenCode.FAILED
            if isinstance(error, ListenError) and error.errno == errno.EADDRINUSE:
                code = ListenCode.IN_USE
            log.info("session %x (%s): %s", session, user, error)
            return ListenAnswer(number, code, _printable(str(error)), 0)
        self._entries[session, number] = entry
        log.info("session %x (%s): listening on %s, port %d", session, user, what, entry.port)
        return ListenAnswer(number, ListenCode.LISTENING, "", entry.port)

    def _permits(self, user: str, message: ListenRequest) -> bool:
        rules = self._allow.get(user, ()) + self._allow.get("*", ())
        # A client that asks for every address needs a rule for every address.
        return any(rule.permits(message.host or "*", message.port, message.transport) for rule in rules)

    async def use(self, allow: dict[str, tuple[ListenRule, ...]]) -> None:
        """Judge by other permissions from now on; what they do not permit any more is closed."""
        self._allow = allow
        for key, entry in list(self._entries.items()):
            if not self._permits(entry.user, entry.request) and self._entries.pop(key, None) is entry:
                what = Endpoint(entry.request.host or "*", entry.port)
                log.info("session %x (%s): may not listen on %s any more", key[0], entry.user, what)
                await self._close(entry)

    async def _listen(self, session: int, user: str, message: ListenRequest) -> _Entry:
        if message.transport is Transport.UDP:
            host = ""
            if message.host:
                host = (await addresses(Place("reverse", Endpoint(message.host, 0)), self._resolver))[0][1]
            places = self._opener.udp_places(session) or (ANY_WORKER,)
            bound = bind_listeners(host, message.port, len(places))
            udp = [_Socket(sock, worker) for sock, worker in zip(bound, places, strict=True)]
            entry = _Entry(user, message, int(bound[0].getsockname()[1]), udp=udp)
            try:
                for each in udp:
                    self._lend(session, entry, each)
            except OSError as error:
                await self._close(entry)
                raise ResourceError(f"UDP cannot be listened on: {error.strerror}; allow more open files") from None
            return entry
        target = f"{REVERSE}{message.listener}"

        async def serve(sock: socket.socket) -> str | None:
            self._opener.open_flow(session, target, sock, StreamReply())
            return None

        place = Place("reverse", Endpoint(message.host, message.port))
        listener = await Listener.start(place, self._resolver, serve)
        return _Entry(user, message, listener.port, listener)

    def _lend(self, session: int, entry: _Entry, udp: _Socket) -> None:
        """Give a copy of a UDP socket to its worker. Raises OSError."""
        target = str(entry.request.listener)
        copy = udp.sock.dup()
        udp.number = self._opener.open_udp(session, UdpKind.REVERSE, copy, target=target, worker=udp.worker)

    def resume(self, gone: Callable[[int], bool] = lambda _number: True) -> None:
        """Go on with a new worker, which has none of the UDP sockets yet whose numbers are ``gone``."""
        for (session, _), entry in self._entries.items():
            for each in [each for each in entry.udp if gone(each.number)]:
                self._opener.close_udp(each.number)  # the command that opened it may have waited for this worker
                try:
                    self._lend(session, entry, each)
                except OSError as error:
                    log.warning(
                        "session %x (%s): UDP port %d is served no more: %s", session, entry.user, entry.port, error
                    )

    async def _close(self, entry: _Entry) -> None:
        if entry.listener is not None:
            await entry.listener.close()
        for each in entry.udp:
            if each.number:
                self._opener.close_udp(each.number)
            each.sock.close()

    async def _make_way(self, session: int, user: str, message: ListenRequest) -> None:
        """Close what this request replaces: of the same number, or the same address in a lost session of the user."""
        where = (message.transport, message.host, message.port)
        for key, entry in list(self._entries.items()):
            theirs = (entry.request.transport, entry.request.host, entry.request.port)
            lost = entry.user == user and theirs == where and not self._alive(key[0])
            if key == (session, message.listener) or lost:
                del self._entries[key]
                await self._close(entry)

    async def forget(self, session: int) -> None:
        """Close what a session that has ended had."""
        for key in [key for key in self._entries if key[0] == session]:
            await self._close(self._entries.pop(key))

    async def close(self) -> None:
        """Close everything."""
        for session in {session for session, _ in self._entries}:
            await self.forget(session)

    def status(self) -> list[dict[str, object]]:
        """Return each listener."""
        return [
            {
                "session": f"{session:x}",
                "user": entry.user,
                "listener": number,
                "protocol": str(entry.request.transport),
                "port": entry.port,
                **(entry.listener.status() if entry.listener is not None else {}),
            }
            for (session, number), entry in self._entries.items()
        ]


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:400]
