"""The status socket: one JSON document to whoever connects, then close (`vantun status` reads it)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

from vantun.errors import ResourceError

log = logging.getLogger(__name__)

READERS = 16
"""Answers under way at once; a reader beyond that is turned away."""
TIME_LIMIT = 5.0
"""Seconds for a reader to take its answer."""
_PROBE_TIME = 1.0
_PAUSE = 0.5

Document = Callable[[], Awaitable[dict[str, object]]]


class StatusServer:
    """Answers on a Unix socket that only this user may open.

    Raises
    ------
    ResourceError
        When another appliance answers at ``path``, or the socket cannot be made there.
    """

    def __init__(self, path: Path, document: Document) -> None:
        self.path = path
        self.time_limit = TIME_LIMIT
        self._document = document
        self._answering: set[asyncio.Task[None]] = set()
        self._listener = _bind(path)
        self._inode = os.stat(path).st_ino
        self._task = asyncio.get_running_loop().create_task(self._accept())

    async def close(self) -> None:
        """Stop answering and remove the socket, unless somebody has put another one in its place."""
        tasks = [self._task, *self._answering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_ino == self._inode:
                self.path.unlink()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("status socket: accepting waits: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._answering) >= READERS:
                sock.close()
                continue
            task = loop.create_task(self._answer(sock))
            self._answering.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("status socket: a mistake in VANTUN, please report it", exc_info=task.exception())

    async def _answer(self, sock: socket.socket) -> None:
        with sock:
            document = json.dumps(await self._document(), ensure_ascii=False).encode() + b"\n"
            try:
                async with asyncio.timeout(self.time_limit):
                    await asyncio.get_running_loop().sock_sendall(sock, document)
            except OSError as error:  # it went away, or (TimeoutError) does not read
                log.debug("status socket: a reader did not take its answer: %s", error)


def _bind(path: Path) -> socket.socket:
    try:
        _make_folder(path.parent)
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)  # it is never open to others, not even between bind and chmod
        try:
            sock.bind(str(path))
            sock.listen(READERS)
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(before)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"the status socket {path} cannot be made: {reason}; set status.socket to a place that this user may write"
        ) from None
    return sock


def _make_folder(folder: Path) -> None:
    """Make the folder, private, and see that nobody else could have prepared it for us (the default is below /tmp)."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700)
    for place in (folder, folder.parent):
        if os.stat(place).st_uid not in (0, os.geteuid()):
            raise ResourceError(f"{place} belongs to another user; set status.socket to a place of this user")


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody answers on; anything else is in the way."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ResourceError(f"{path} is in the way of the status socket and is no socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIME)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:  # somebody holds it and does not get round to answering
            pass
    raise ResourceError(f"another one runs and answers on {path}; stop it, or give this one another status.socket")
