"""Where a program's connection goes at the client: through the tunnel, directly, or nowhere."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from vantun.acl import AccessList, Guard
from vantun.config_kinds import Endpoint
from vantun.control.connector import (
    ADDRESSES_TRIED,
    TIME_LIMIT,
    NotAllowedError,
    connect_first,
    interleave,
    permitted,
    refusal,
)
from vantun.control.relay import relay
from vantun.control.resolver import Resolver
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

log = logging.getLogger(__name__)

DIRECT = 4096
"""Connections that may go past the tunnel at once."""
SILENT = StreamReply()
"""For programs that expect no answer: the far end's refusal is the end of the connection."""

Carry = Callable[[Endpoint, socket.socket, StreamReply, bytes], Awaitable[RefusalCode | None]]
"""Hands a socket to the tunnel and returns None, or returns why not and leaves the socket."""


class Dialer:
    """Decides by the client's access list.

    Attributes
    ----------
    access
        May be replaced; what is connected stays so.
    rejected, passed
        Connections that a rule has refused, and that went past the tunnel.
    mark
        Firewall mark of the direct connections, by which they do not go into the client's own TUN; 0 = none.
    own_ports
        Local ports of the direct connections, by which they are known if a firewall rule leads them back here.
    """

    def __init__(self, access: AccessList, resolver: Resolver, carry: Carry) -> None:
        self.access = access
        self.rejected = 0
        self.passed = 0
        self.own_ports: set[int] = set()
        self.mark = 0
        self._resolver = resolver
        self._carry = carry
        self._relays: set[asyncio.Task[None]] = set()

    async def open(
        self, target: Endpoint, sock: socket.socket, reply: StreamReply, first: bytes = b""
    ) -> RefusalCode | None:
        """Connect a program to ``target``.

        Takes the socket over and returns None, or returns why not and leaves the socket. ``reply`` is for the program,
        ``first`` for the target, before what the program sends.
        """
        verdict = self.access.judge(target.host, None, target.port, "tcp")
        if verdict.action == "reject":
            return self._reject(target, verdict.reason)
        if verdict.action == "allow":
            return await self._carry(target, sock, reply, first)
        return await self._direct(target, sock, reply, first)

    def status(self) -> dict[str, object]:
        """Return what it did."""
        return {"direct": len(self._relays), "passed": self.passed, "rejected": self.rejected}

    async def close(self) -> None:
        """End every direct connection."""
        tasks = list(self._relays)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reject(self, target: Endpoint, reason: str) -> RefusalCode:
        self.rejected += 1
        log.info("%s is not connected to: %s", target, reason)
        return RefusalCode.NOT_ALLOWED

    async def _direct(
        self, target: Endpoint, sock: socket.socket, reply: StreamReply, first: bytes
    ) -> RefusalCode | None:
        if len(self._relays) >= DIRECT:
            log.warning("%s is not connected to: %d connections go past the tunnel already", target, DIRECT)
            return RefusalCode.GENERAL
        access = AccessList(self.access.rules, Guard.OWN)
        try:
            async with asyncio.timeout(TIME_LIMIT):
                found = await self._resolver.resolve(target.host, target.port)
                allowed = permitted(access, target, found, "tcp", ("direct",))
                far = await connect_first(interleave(allowed)[:ADDRESSES_TRIED], self.own_ports, self.mark)
        except NotAllowedError as error:
            return self._reject(target, str(error.strerror))
        except OSError as error:
            log.debug("%s cannot be connected to directly: %s", target, error)
            return refusal(error)
        try:
            if reply.accepted:
                await asyncio.get_running_loop().sock_sendall(sock, reply.accepted)
        except BaseException:
            far.close()
            raise
        self.passed += 1
        port = int(far.getsockname()[1])
        task = asyncio.create_task(relay(sock, far, first))
        self._relays.add(task)

        def over(_task: asyncio.Task[None]) -> None:
            self._relays.discard(task)
            self.own_ports.discard(port)
            sock.close()  # a task that is cancelled before its first step closes nothing
            far.close()

        task.add_done_callback(over)
        return None
