"""One worker process and the socket to it, on the asyncio loop: messages out and in, silence noticed, an end reported.

Messages never block: what the worker cannot take at once waits in a bounded backlog. A worker that dies, or that leaves
the backlog or a ping unanswered, is ended and reported once; messages after that do nothing but close the sockets they
were given.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from vantun.control.tun_link import Carried
from vantun.control.worker_process import explain_exit
from vantun.errors import ProtocolError, WorkerError
from vantun.worker_messages import MAX_MESSAGE, Command, Configure, Failed, Message, Ping, Pong, Ready, decode, encode

BACKLOG_MESSAGES = 8192
BACKLOG_BYTES = 4 << 20
START_SECONDS = 600.0
"""A first start compiles every kernel, which takes minutes on a small machine; later ones take about a second."""
CLOSE_SECONDS = 2.0
_PING_EVERY = 5.0
_LATE = 2.0
"""Seconds by which a timer is late when everything was stopped: the worker was, too, and may answer again."""
_REAP_EVERY = 0.005
_RETRY_SECONDS = 0.01
_MESSAGES_PER_TURN = 128


class Process(Protocol):
    """What ``subprocess.Popen`` and ForkedProcess are here."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status if it has ended, negative for a signal."""

    def kill(self) -> None:
        """End it."""


class WorkerChannel:
    """One worker process, from its start to its end.

    Parameters
    ----------
    process, sock
        What ``spawn_worker`` or a nursery gave; this object's from now on.
    patience
        Seconds after which an unanswered ping means that the worker is lost.
    take
        Called with every message of the worker but Ready, Failed and Pong, and with its descriptors, which are closed
        afterwards. May raise ProtocolError, which ends the worker.

    Attributes
    ----------
    pid
        The worker's process id.
    lost
        Whether it was given up, or has ended.
    ended
        Set once the process is gone: why.
    """

    def __init__(
        self,
        process: Process,
        sock: socket.socket,
        patience: float,
        take: Callable[[Message, list[int]], None],
    ) -> None:
        self.pid = process.pid
        self.lost = False
        self.process = process
        self._socket = sock
        self._patience = patience
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._backlog: deque[tuple[bytes, Carried | None]] = deque()
        self._backlog_bytes = 0
        self._pinged_at: float | None = None
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        sock.settimeout(0)
        self._loop.add_reader(sock, self._readable)

    async def begin(self, settings: Configure) -> Ready:
        """Configure the worker and wait until it serves.

        Raises
        ------
        WorkerError
            When the process dies, or finds no usable engine; says why.
        """
        self.post(settings)
        try:
            ready = await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except TimeoutError:
            raise WorkerError(f"the data worker was not ready after {START_SECONDS:.0f} s; see its messages") from None
        finally:
            if not self._ready.done() or self._ready.exception() is not None:
                self.lose("it was not wanted any more")
                await self.ended
        if self.lost:
            raise WorkerError("the data worker ended as soon as it was ready; see its messages")
        self._timers["ping"] = self._loop.call_later(min(_PING_EVERY, self._patience), self._ping)
        return ready

    def serve(self, take: Callable[[Message, list[int]], None]) -> None:
        """Have another take the worker's messages from now on: it has waited, and gets its work now."""
        self._take = take

    async def close(self) -> None:
        """Wait for the end of a worker that was told to stop; one that takes too long is killed."""
        try:
            await asyncio.wait_for(asyncio.shield(self.ended), CLOSE_SECONDS)
        except TimeoutError:
            self.lose(f"it did not end within {CLOSE_SECONDS:g} s")
            self.process.kill()
            await self.ended

    # --- sending

    def post(self, message: Command, sock: Carried | None = None) -> None:
        """Send a message, now or as soon as the worker takes it; ``sock`` travels with it and is closed here."""
        if self.lost:
            if sock is not None:
                sock.close()
            return
        data = encode(message)
        if self._backlog or not self._send(data, sock):
            self._backlog.append((data, sock))
            self._backlog_bytes += len(data)
            if len(self._backlog) > BACKLOG_MESSAGES or self._backlog_bytes > BACKLOG_BYTES:
                self.lose(f"it left {len(self._backlog)} messages unread")

    def _send(self, data: bytes, sock: Carried | None) -> bool:
        """Send a message now; False = the worker's queue is full, and the loop comes back to it."""
        try:
            if sock is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [sock.fileno()])
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._socket, self._flush)
            return False
        except OSError as error:
            # ENOBUFS, ENOMEM: no memory now; ETOOMANYREFS: too many descriptors are under way. epoll sees neither.
            if error.errno in (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS):
                self._timers["retry"] = self._loop.call_later(_RETRY_SECONDS, self._flush)
                return False
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # the worker is gone: the reader says so
                raise
        if sock is not None:
            sock.close()
        return True

    def _flush(self) -> None:
        if self.lost:
            return
        self._loop.remove_writer(self._socket)
        while self._backlog:
            data, sock = self._backlog[0]
            if not self._send(data, sock):
                return
            self._backlog.popleft()
            self._backlog_bytes -= len(data)

    def _ping(self) -> None:
        now = self._loop.time()
        if self._pinged_at is None or now > self._timers["ping"].when() + _LATE:
            self._pinged_at = now
            self.post(Ping(0))
        elif now - self._pinged_at > self._patience:
            self.lose(f"it did not answer for {self._patience:g} s")
            return
        self._timers["ping"] = self._loop.call_later(min(_PING_EVERY, self._patience), self._ping)

    # --- receiving

    def _readable(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE + 1, 4)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:  # it died with messages of ours unread; what it said before stands behind this
                continue
            if not data:
                self._end_process()
                return
            try:
                self._serve(decode(data), descriptors)
            except ProtocolError as error:
                self.lose(str(error))
                return
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _serve(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, Pong):
            self._pinged_at = None
        elif isinstance(message, Ready):
            if not self._ready.done():
                self._ready.set_result(message)
        elif isinstance(message, Failed):
            if not self._ready.done():
                self._ready.set_exception(WorkerError(f"the data worker cannot serve: {message.reason}"))
        elif isinstance(message, Command):
            raise ProtocolError("the data worker sent a command; restart the appliance")
        else:
            self._take(message, descriptors)

    # --- the end

    def lose(self, reason: str) -> None:
        """Give the worker up: it is killed, and its end is reported with ``reason``."""
        self._end_process(reason)

    def _end_process(self, reason: str = "") -> None:
        """Close everything of the worker's, kill it if it has not ended by itself, and report when it is gone."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for timer in self._timers.values():
            timer.cancel()
        for _, sock in self._backlog:
            if sock is not None:
                sock.close()
        self._backlog.clear()
        if reason:
            self.process.kill()
        self._reap(reason, self._loop.time() + CLOSE_SECONDS)

    def _reap(self, reason: str, kill_at: float) -> None:
        """Collect the exit status, which comes an instant after the end of the socket."""
        status = self.process.poll()
        if status is None:
            if self._loop.time() >= kill_at:
                self.process.kill()
            self._loop.call_later(_REAP_EVERY, self._reap, reason, kill_at)
            return
        told = reason or explain_exit(status)
        if not self._ready.done():
            self._ready.set_exception(ended_error(told))
            self._ready.exception()  # somebody may have stopped waiting for it
        self.ended.set_result(told)


def ended_error(told: str) -> WorkerError:
    """Return the error of those who waited for a worker that has ended."""
    return WorkerError(f"the data worker ended: {told}; its messages stand before this one")
