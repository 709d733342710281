"""What programs ask of a proxy port: SOCKS5, HTTP, or both on one port, told apart by the first byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from vantun.config_proxies import HttpConfig, Socks5Config
from vantun.control.dialer import Dialer
from vantun.control.http_proxy import PIECE, HttpRequest, Refuse
from vantun.control.socks5 import VERSION, Associate, Connect, Handshake, Hangup, Send, reply
from vantun.dataplane.ports import RefusalCode
from vantun.worker_messages import StreamReply

HANDSHAKE_TIME = 10.0
"""Seconds for a program to say what it wants."""

STREAM_REPLY = StreamReply(accepted=reply(0), refused=reply(1), code_at=1, failed=int(RefusalCode.GENERAL))
"""What the worker answers for us once the far end has."""

Associator = Callable[[socket.socket, int], Awaitable[RefusalCode | None]]
"""Takes a program that wants UDP, and the port it says it sends from. As Dialer.open: None = it is served."""


class Programs:
    """Serves one port; :meth:`serve` is what a Listener calls.

    Parameters
    ----------
    socks5, http
        What is spoken on the port; at least one.

    Attributes
    ----------
    time_limit
        Seconds for a program to say what it wants.
    """

    def __init__(
        self, dialer: Dialer, associate: Associator, socks5: Socks5Config | None, http: HttpConfig | None
    ) -> None:
        self.time_limit = HANDSHAKE_TIME
        self._dialer = dialer
        self._associate = associate
        self._socks5 = socks5
        self._http = http

    async def serve(self, sock: socket.socket) -> str | None:
        """See listeners.Serve."""
        first = b""
        if self._socks5 is not None and self._http is not None:
            async with asyncio.timeout(self.time_limit):
                first = await asyncio.get_running_loop().sock_recv(sock, 1)
            if not first:
                return "it closed the connection before it said anything"
        if self._socks5 is not None and (self._http is None or first[0] <= VERSION):
            return await self._serve_socks5(sock, self._socks5, first)
        assert self._http is not None
        return await self._serve_http(sock, self._http, first)

    async def _serve_socks5(self, sock: socket.socket, config: Socks5Config, first: bytes) -> str | None:
        loop = asyncio.get_running_loop()
        handshake = Handshake(config.username, config.password)
        wish: Connect | Associate | None = None
        async with asyncio.timeout(self.time_limit):
            while handshake.wanted:
                data = first or await loop.sock_recv(sock, handshake.wanted)
                first = b""
                if not data:
                    return "it closed the connection in the handshake"
                for action in handshake.receive(data):
                    match action:
                        case Send(answer):
                            await loop.sock_sendall(sock, answer)
                        case Hangup(reason):
                            return reason
                        case Connect() | Associate():
                            wish = action
        assert wish is not None, "a handshake ends with Connect, Associate or Hangup"
        if isinstance(wish, Connect):
            code = await self._dialer.open(wish.target, sock, STREAM_REPLY)
            what = f"{wish.target} cannot be opened now"
        else:
            code = await self._associate(sock, wish.port)
            what = "UDP cannot be relayed now"
        if code is None:
            return None
        async with asyncio.timeout(self.time_limit):
            await loop.sock_sendall(sock, reply(code))
        return f"{what}: {code.name.lower().replace('_', ' ')}"

    async def _serve_http(self, sock: socket.socket, config: HttpConfig, first: bytes) -> str | None:
        loop = asyncio.get_running_loop()
        request = HttpRequest(config.username, config.password, config.realm)
        async with asyncio.timeout(self.time_limit):
            decision = request.receive(first) if first else None
            while decision is None:
                decision = request.receive(await loop.sock_recv(sock, PIECE))
            if isinstance(decision, Refuse):
                await loop.sock_sendall(sock, decision.answer)
                return decision.reason
        code = await self._dialer.open(decision.target, sock, decision.reply, decision.first)
        if code is None:
            return None
        async with asyncio.timeout(self.time_limit):
            await loop.sock_sendall(sock, decision.reply.refusal(code))
        return f"{decision.target} cannot be opened now: {code.name.lower().replace('_', ' ')}"
