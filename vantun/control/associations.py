"""SOCKS5 UDP ASSOCIATE at the client (RFC 1928, section 7): a relay socket per program, which the worker serves.

The association ends with the program's TCP connection, and the connection with the association.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
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


class Associations:
    """All associations of a client."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._link: UdpLink | None = None

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
        session, link = way
        self._link = link
        # What the program has connected to is what it can reach, also where the proxy listens on every address.
        here = unmapped(ipaddress.ip_address(str(sock.getsockname()[0])))
        program = unmapped(ipaddress.ip_address(str(sock.getpeername()[0])))
        try:
            udp = bind_relay(str(here))
        except ResourceError as error:
            log.warning("UDP ASSOCIATE refused: %s", error)
            return RefusalCode.GENERAL
        bound = int(udp.getsockname()[1])
        number = link.open_udp(session, UdpKind.SOCKS5, udp, peer=(str(program), port))
        task = asyncio.create_task(self._keep(sock, number, reply(0, str(here), bound)))
        self._tasks[number] = task

        def over(_task: asyncio.Task[None]) -> None:
            self._tasks.pop(number, None)
            sock.close()
            link.close_udp(number)

        task.add_done_callback(over)
        return None

    def move(self, session: int) -> None:
        """Have associations that outlive a session, because they send past the tunnel, use the next one."""
        if self._link is not None:
            for number in self._tasks:
                self._link.move_udp(number, session)

    def closed(self, number: int) -> None:
        """Learn that an association has ended by itself."""
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """End every association."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, sock: socket.socket, number: int, answer: bytes) -> None:
        """Tell the program its relay, and wait for the end of the TCP connection."""
        try:
            await asyncio.get_running_loop().sock_sendall(sock, answer)
            while await asyncio.get_running_loop().sock_recv(sock, 4096):
                continue  # nothing is to be said on it
        except OSError as error:
            log.debug("the program of association %d is gone: %s", number, error)
