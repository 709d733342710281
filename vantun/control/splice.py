"""Bytes from one socket to another inside the kernel: splice(2) through a pipe, which no page is copied into or out of.

A relay needs a pipe only while bytes are under way, so idle connections cost no descriptors; a few empty pipes are kept
for the next one.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
from contextlib import suppress

PIPE = 262_144
"""Bytes that a pipe may hold, where the kernel grants it (fs.pipe-user-pages-soft): 64 KB cost a third more time."""
_KEPT = 8
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMFILE, errno.ENFILE))
"""No splice for these sockets, in this sandbox, or no descriptor left for a pipe."""


class Pipes:
    """Empty pipes."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """Return both ends of an empty pipe. Raises OSError."""
        if self._idle:
            return self._idle.pop()
        ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # then it holds 64 KB, or a page
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE)
        return ends

    def give_back(self, ends: tuple[int, int], *, empty: bool) -> None:
        """Keep a pipe for the next one, or close it."""
        if empty and len(self._idle) < _KEPT:
            self._idle.append(ends)
            return
        for end in ends:
            os.close(end)

    def close(self) -> None:
        """Close those that are kept."""
        while self._idle:
            self.give_back(self._idle.pop(), empty=False)


_pipes = Pipes()


async def splice(source: socket.socket, sink: socket.socket, pipes: Pipes = _pipes) -> bool:
    """Move bytes until ``source`` ends; False = the kernel will not, and nothing was taken that has not arrived.

    Reads no more than the pipe holds before ``sink`` has taken it. Raises OSError when one of the sockets is broken.
    """
    while True:
        await _ready(source, writing=False)
        try:
            ends = pipes.take()
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise
        held = 0
        try:
            while (held := _move(source.fileno(), ends[1], PIPE)) > 0:
                while held:
                    moved = _move(ends[0], sink.fileno(), held)
                    if moved < 0:
                        await _ready(sink, writing=True)
                    else:
                        held -= moved
                await asyncio.sleep(0)  # a source that never pauses must not hold up everybody else
            if held == 0:
                return True
            held = 0  # nothing waits, nothing is in the pipe
        except OSError as error:
            if not held and error.errno in _CANNOT:
                return False
            raise
        finally:
            pipes.give_back(ends, empty=not held)


def _move(source: int, sink: int, size: int) -> int:
    """Move at most ``size`` bytes; return how many, 0 at the end, -1 = wait."""
    try:
        return os.splice(source, sink, size, flags=_FLAGS)
    except BlockingIOError:
        return -1


async def _ready(sock: socket.socket, *, writing: bool) -> None:
    """Wait until a socket is readable, or writable."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(sock.fileno(), lambda: None if future.done() else future.set_result(None))
    try:
        await future
    finally:
        remove(sock.fileno())
