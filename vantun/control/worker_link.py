"""The control process's end of the data worker: commands out, events and datagrams in, on the asyncio loop.

Commands never block: what the worker cannot take at once waits in a bounded backlog. A worker that dies, or that leaves
the backlog or a ping unanswered, is ended and reported once; commands after that do nothing but close the sockets they
were given.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from drivers.linux.address import for_socket
from drivers.linux.linger import reset_on_close
from vantun.config import AccelConfig
from vantun.control.tun_link import Carried, TunLink
from vantun.control.udp_link import UdpLink
from vantun.control.worker_process import explain_exit, read_snapshot, spawn_worker
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ProtocolError, ResourceError, WorkerError
from vantun.lanes import LaneSpec
from vantun.worker_messages import (
    MAX_MESSAGE,
    AddLane,
    AddSocket,
    AskSnapshot,
    AttachFlow,
    CloseLane,
    Command,
    Configure,
    EndSession,
    Failed,
    Message,
    Misses,
    OpenFlow,
    Ping,
    Pong,
    Ready,
    RefuseFlow,
    RemoveSocket,
    SnapshotTaken,
    Stop,
    StreamReply,
    decode,
    encode,
)

if TYPE_CHECKING:  # the data plane's settings import numba, which this process does without
    from vantun.dataplane.config import DataplaneConfig
    from vantun.dataplane.events import Event

__all__ = ["StreamReply", "WorkerLink", "WorkerListener"]

BACKLOG_MESSAGES = 8192
BACKLOG_BYTES = 4 << 20
_START_SECONDS = 600.0
"""A first start compiles every kernel, which takes minutes on a small machine; later ones take about a second."""
_CLOSE_SECONDS = 2.0
_PING_EVERY = 5.0
_REAP_EVERY = 0.005
_RETRY_SECONDS = 0.01
_MESSAGES_PER_TURN = 128


class WorkerListener(Protocol):
    """Who is told; always on the asyncio loop, never from inside a command."""

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Take a datagram of no lane that arrived on UDP socket ``number``; in order of arrival."""

    def on_event(self, event: Event) -> None:
        """Take an event of the data plane."""

    def on_worker_lost(self, reason: str) -> None:
        """Learn, once, that the worker died or does not answer: every session, flow and socket in it is gone."""


class WorkerLink(UdpLink, TunLink):
    """One data worker. Made by :meth:`start`.

    Attributes
    ----------
    engines
        Operation -> name of the engine that serves it.
    pid
        The worker's process id.
    dropped
        Datagrams of :meth:`send_datagram` that the UDP socket did not take.
    patience
        Seconds after which an unanswered ping, or snapshot, means that the worker is lost.
    """

    patience = 20.0

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket, listener: WorkerListener) -> None:
        self.engines: dict[str, str] = {}
        self.pid = process.pid
        self.dropped = 0
        self._process = process
        self._socket = sock
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._udp: dict[int, socket.socket] = {}
        self._backlog: deque[tuple[bytes, Carried | None]] = deque()
        self._backlog_bytes = 0
        self._asked = 0
        self._snapshots: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._pinged_at: float | None = None
        self._ready: asyncio.Future[Ready] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._serving = False
        self._lost = False
        self._closing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        sock.settimeout(0)
        self._loop.add_reader(sock, self._readable)

    @classmethod
    async def start(cls, config: DataplaneConfig, accel: AccelConfig, listener: WorkerListener) -> WorkerLink:
        """Start a worker process and wait until it serves.

        Raises
        ------
        WorkerError
            When the process cannot be started, dies, or finds no usable engine; says why.
        """
        process, ours = spawn_worker()
        link = cls(process, ours, listener)
        link._post(Configure(asdict(config), asdict(accel)))
        try:
            ready = await asyncio.wait_for(asyncio.shield(link._ready), _START_SECONDS)
        except TimeoutError:
            raise WorkerError(f"the data worker was not ready after {_START_SECONDS:.0f} s; see its messages") from None
        finally:
            if not link._ready.done() or link._ready.exception() is not None:
                link._lose("it was not wanted any more")
                await link._ended
        if link._lost:
            raise WorkerError("the data worker ended as soon as it was ready; see its messages")
        link._serving = True
        link.engines = ready.engines
        link._timers["ping"] = link._loop.call_later(min(_PING_EVERY, link.patience), link._ping)
        return link

    # --- commands

    def add_socket(self, number: int, sock: socket.socket) -> None:
        """Hand the worker a bound UDP socket; ``sock`` stays the caller's, who must not receive on it any more.

        Raises ResourceError when this process has no descriptor left.
        """
        try:
            copy = sock.dup()
            self._udp[number], old = sock.dup(), self._udp.get(number)
        except OSError as error:
            raise ResourceError(f"UDP socket {number} cannot be shared with the worker: {error.strerror}") from None
        if old is not None:
            old.close()
        copy.settimeout(0)
        self._udp[number].settimeout(0)
        self._post(AddSocket(number), copy)

    def remove_socket(self, number: int) -> None:
        """Have the worker close its copy of a UDP socket; unknown numbers are ignored."""
        sock = self._udp.pop(number, None)
        if sock is not None:
            sock.close()
            self._post(RemoveSocket(number))

    def send_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Send a datagram of the control connection by the socket of the data; one that does not leave is counted."""
        sock = self._udp.get(number)
        try:
            if sock is not None:
                sock.sendto(data, for_socket(sock.family, *peer))
                return
        except OSError:  # full, no route, refused by a firewall: loss, which QUIC repairs
            self.dropped += 1
            return
        self.dropped += 1

    def add_lane(self, spec: LaneSpec) -> None:
        """Begin to speak on a lane, and begin its session with the first; LaneRefused comes if there is no room."""
        self._post(AddLane(spec))

    def close_lane(self, session: int, path: int) -> None:
        """Stop using a path; what it carried goes by the others."""
        self._post(CloseLane(session, path))

    def end_session(self, session: int) -> None:
        """Reset every flow of a session and forget it."""
        self._post(EndSession(session))

    def open_flow(self, session: int, target: str, sock: socket.socket, reply: StreamReply, first: bytes = b"") -> None:
        """Open a flow to ``target`` for a TCP socket, which is the worker's from now on and closed here.

        The worker writes ``reply``; ``first`` (at most 48,000 bytes), then what waits in the socket, begin the flow.
        """
        reset_on_close(sock)
        self._post(OpenFlow(session, target, reply, first), sock)

    def attach_flow(self, handle: int, sock: socket.socket) -> None:
        """Answer FlowOpened with a connected TCP socket, which is the worker's from now on and closed here."""
        reset_on_close(sock)
        self._post(AttachFlow(handle), sock)

    def refuse_flow(self, handle: int, code: RefusalCode) -> None:
        """Answer FlowOpened with a refusal."""
        self._post(RefuseFlow(handle, code))

    async def snapshot(self) -> dict[str, object]:
        """Return the worker's counters and states, ready for JSON.

        The keys of ``Dataplane.snapshot()``, and ``udp`` (a list with a map per socket), ``fallbacks`` (a list) and
        ``worker`` (pid, memory, loop counters).

        Raises
        ------
        WorkerError
            When the worker is lost, or does not answer within :attr:`patience`.
        """
        if self._lost or self._closing:
            raise WorkerError("the data worker has ended; try again when it was restarted")
        self._asked += 1
        number = self._asked
        future: asyncio.Future[dict[str, object]] = self._loop.create_future()
        self._snapshots[number] = future
        self._post(AskSnapshot(number))
        try:
            return await asyncio.wait_for(future, self.patience)
        except TimeoutError:
            reason = f"it did not answer for {self.patience:g} s"
            self._lose(reason)
            raise WorkerError(f"the data worker does not answer: {reason}; it is restarted") from None
        finally:
            self._snapshots.pop(number, None)

    async def close(self) -> None:
        """Let the worker send what is queued (at most 0.5 s) and wait for its end. May be called twice."""
        if not self._closing:
            self._closing = True
            if not self._lost:
                self._post(Stop())
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), _CLOSE_SECONDS)
        except TimeoutError:
            self._lose(f"it did not end within {_CLOSE_SECONDS:g} s")
            self._process.kill()
            await self._ended

    # --- sending

    def _post(self, message: Command, sock: Carried | None = None) -> None:
        if self._lost:
            if sock is not None:
                sock.close()
            return
        data = encode(message)
        if self._backlog or not self._send(data, sock):
            self._backlog.append((data, sock))
            self._backlog_bytes += len(data)
            if len(self._backlog) > BACKLOG_MESSAGES or self._backlog_bytes > BACKLOG_BYTES:
                self._lose(f"it left {len(self._backlog)} messages unread")

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
        if self._lost:
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
        if self._pinged_at is None:
            self._pinged_at = now
            self._post(Ping(0))
        elif now - self._pinged_at > self.patience:
            self._lose(f"it did not answer for {self.patience:g} s")
            return
        self._timers["ping"] = self._loop.call_later(min(_PING_EVERY, self.patience), self._ping)

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
                self._take(decode(data), descriptors)
            except ProtocolError as error:
                self._lose(str(error))
                return
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _take(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, Misses):
            for data, host, port in message.datagrams:
                self._listener.on_datagram(message.number, data, (host, port))
        elif isinstance(message, SnapshotTaken):
            future = self._snapshots.get(message.number)
            if future is not None and not future.done() and descriptors:
                future.set_result(read_snapshot(descriptors[0]))
        elif isinstance(message, Pong):
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
            self._listener.on_event(message)

    # --- the end

    def _lose(self, reason: str) -> None:
        """Give the worker up: it is killed, and its end is reported with ``reason``."""
        self._end_process(reason)

    def _end_process(self, reason: str = "") -> None:
        """Close everything of the worker's, kill it if it has not ended by itself, and report when it is gone."""
        if self._lost:
            return
        self._lost = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for timer in self._timers.values():
            timer.cancel()
        for _, sock in self._backlog:
            if sock is not None:
                sock.close()
        self._backlog.clear()
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        if reason:
            self._process.kill()
        self._reap(reason, self._loop.time() + _CLOSE_SECONDS)

    def _reap(self, reason: str, kill_at: float) -> None:
        """Collect the exit status, which comes an instant after the end of the socket."""
        status = self._process.poll()
        if status is None:
            if self._loop.time() >= kill_at:
                self._process.kill()
            self._loop.call_later(_REAP_EVERY, self._reap, reason, kill_at)
            return
        told = reason or explain_exit(status)
        error = WorkerError(f"the data worker ended: {told}; its messages stand before this one")
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._snapshots.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # somebody may have stopped waiting for it
        self._ended.set_result(told)
        if self._serving and not self._closing:
            self._listener.on_worker_lost(told)
