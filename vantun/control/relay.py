"""Two TCP sockets joined by the control process: for targets that the client reaches without the tunnel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from drivers.linux.linger import reset_on_close
from vantun.control.splice import splice

PIECE = 65_536
"""Bytes that are read at once; so much, and what the kernel buffers, waits for the slower end."""


Move = Callable[[socket.socket, socket.socket], Awaitable[bool]]


async def relay(near: socket.socket, far: socket.socket, first: bytes = b"", move: Move = splice) -> None:
    """Carry bytes both ways until both have ended; both sockets are closed then.

    ``first`` goes to ``far`` before what is read from ``near``. An end of one direction leaves the other one open; a
    reset of one end resets the other. Where the kernel splices, no byte comes into this process.
    """
    loop = asyncio.get_running_loop()

    async def pump(source: socket.socket, sink: socket.socket, data: bytes) -> None:
        if data:
            await loop.sock_sendall(sink, data)
        if not await move(source, sink):
            while data := await loop.sock_recv(source, PIECE):
                await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)

    ways = [asyncio.ensure_future(pump(near, far, first)), asyncio.ensure_future(pump(far, near, b""))]
    try:
        await asyncio.gather(*ways)
    except BaseException as error:
        for sock in (near, far):
            reset_on_close(sock)
        if not isinstance(error, OSError):
            raise
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        near.close()
        far.close()
