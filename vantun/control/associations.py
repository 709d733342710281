"""SOCKS5 UDP ASSOCIATE at the client (RFC 1928, section 7): a relay socket per program, which the worker serves.

The association ends with the program's TCP connection, and the connection with the association. The relay socket stays
open here, too, so that the next worker goes on with it when one dies: what programs send meanwhile waits in it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantun.acl import unmapped
from vantun.control.socks5 import reply
from vantun.control.udp_ends import bind_relay
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import UdpKind

if TYPE_CHECKING:
    from vantun.control.udp_link import UdpLink

log = logging.getLogger(__name__)

MOST = 1024
"""Associations at once; each holds a UDP socket in the worker."""

Way = Callable[[], Awaitable["tuple[int, UdpLink] | None"]]
"""Waits for a session; returns it and the worker that carries it, or None when there is none in time."""


@dataclass(eq=False)
class _Association:
    control: socket.socket
    """The program's TCP connection."""
    relay: socket.socket
    peer: tuple[str, int]
    number: int = 0
    """Of the worker that serves it."""
    left: bool = False
    """Whether that one has died."""


class Associations:
    """All associations of a client."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._open: dict[int, _Association] = {}
        """By number."""
        self._tasks: dict[_Association, asyncio.Task[None]] = {}
        self._link: UdpLink | None = None
        self._session = 0

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._tasks)

    async def open(self, sock: socket.socket, port: int) -> RefusalCode | None:
        """Relay datagrams of a program, which sends from UDP ``port`` (0 = the first that does); see Dialer.open."""
        way = await self._way()
        if way is None:
            return RefusalCode.NETWORK_UNREACHABLE
        if len(self._tasks) >= MOST:
            log.warning("UDP ASSOCIATE refused: %d associations are open", MOST)
            return RefusalCode.GENERAL
        self._session, self._link = way
        # What the program has connected to is what it can reach, also where the proxy listens on every address.
        here = unmapped(ipaddress.ip_address(str(sock.getsockname()[0])))
        program = unmapped(ipaddress.ip_address(str(sock.getpeername()[0])))
        try:
            made = _Association(sock, bind_relay(str(here)), (str(program), port))
        except ResourceError as error:
            log.warning("UDP ASSOCIATE refused: %s", error)
            return RefusalCode.GENERAL
        bound = int(made.relay.getsockname()[1])
        if not self._lend(made, self._link):
            made.relay.close()
            return RefusalCode.GENERAL
        task = asyncio.create_task(self._keep(made, reply(0, str(here), bound)))
        self._tasks[made] = task
        task.add_done_callback(lambda _task: self._over(made))
        return None

    def _lend(self, association: _Association, link: UdpLink) -> bool:
        """Give the relay socket to a worker; False, and it is told, when no descriptor is left."""
        try:
            copy = association.relay.dup()
        except OSError as error:
            log.warning("a UDP association ends: its socket cannot be shared with the worker: %s", error.strerror)
            return False
        association.number = link.open_udp(self._session, UdpKind.SOCKS5, copy, peer=association.peer)
        self._open[association.number] = association
        return True

    def _over(self, association: _Association) -> None:
        del self._tasks[association]
        self._open.pop(association.number, None)
        association.control.close()
        association.relay.close()
        if self._link is not None:
            self._link.close_udp(association.number)

    def move(self, session: int) -> None:
        """Have associations that outlive a session, because they send past the tunnel, use the next one."""
        self._session = session
        if self._link is not None:
            for number in self._open:
                self._link.move_udp(number, session)

    def abandon(self, gone: Callable[[int], bool] = lambda _number: True) -> None:
        """Learn that the worker is lost, which served the associations whose numbers are ``gone``."""
        for association in self._tasks:
            association.left = association.left or gone(association.number)

    def resume(self, link: UdpLink) -> None:
        """Go on with a new worker."""
        for association, task in list(self._tasks.items()):
            if association.left:
                association.left = False
                link.close_udp(association.number)  # the command that opened it may have waited for this worker
                del self._open[association.number]
                if not self._lend(association, link):
                    task.cancel()

    def closed(self, number: int) -> None:
        """Learn that an association has ended by itself."""
        association = self._open.get(number)
        if association is not None:
            self._tasks[association].cancel()

    async def close(self) -> None:
        """End every association."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, association: _Association, answer: bytes) -> None:
        """Tell the program its relay, and wait for the end of the TCP connection."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(association.control, answer)
            while await loop.sock_recv(association.control, 4096):
                continue  # nothing is to be said on it
        except OSError as error:
            log.debug("the program of association %d is gone: %s", association.number, error)
