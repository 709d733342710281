"""The control process's view of its data worker: commands out, events in, and a new process when one dies.

Commands never block (:mod:`vantun.control.worker_channel`). What a worker must know for good, its UDP sockets and
lanes, is kept here, and given to the worker that :meth:`WorkerLink.replace` puts in the place of one that was lost.
While there is none, new flows wait for it; other commands do nothing but close the sockets they were given.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

from drivers.linux.address import for_socket
from drivers.linux.linger import reset_on_close
from vantun.config import AccelConfig
from vantun.control.lane_keeper import LaneKeeper
from vantun.control.recruits import Recruits
from vantun.control.tun_link import Carried, TunLink
from vantun.control.udp_link import UdpLink
from vantun.control.user_link import UserLink
from vantun.control.worker_channel import WorkerChannel, ended_error
from vantun.control.worker_process import read_snapshot
from vantun.dataplane.events import LaneRefused
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError, WorkerError
from vantun.lanes import LaneSpec
from vantun.udp_messages import OpenUdp
from vantun.worker_messages import (
    AddLane,
    AddSocket,
    AskSnapshot,
    AttachFlow,
    CloseLane,
    Command,
    EndSession,
    Message,
    Misses,
    OpenFlow,
    RefuseFlow,
    RemoveSocket,
    Retune,
    SnapshotTaken,
    Stop,
    StreamReply,
)

if TYPE_CHECKING:  # the data plane's settings import numba, which this process does without
    from vantun.dataplane.config import DataplaneConfig
    from vantun.dataplane.events import Event

__all__ = ["StreamReply", "WorkerLink", "WorkerListener"]

WAITING_FLOWS = 256
"""New flows that wait for the next worker; more are reset."""


class WorkerListener(Protocol):
    """Who is told; always on the asyncio loop, never from inside a command."""

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Take a datagram of no lane that arrived on UDP socket ``number``; in order of arrival."""

    def on_event(self, event: Event) -> None:
        """Take an event of the data plane."""

    def on_worker_lost(self, reason: str) -> None:
        """Learn, once per worker, that it died or does not answer: its flows are gone, ``replace`` brings the next."""


log = logging.getLogger(__name__)


class WorkerLink(UdpLink, TunLink, UserLink):
    """One data worker, and whoever comes after it. Made by :meth:`start`.

    Parameters
    ----------
    recruits
        Where its workers come from.
    alone
        Whether these are this object's own, and end with it.

    Attributes
    ----------
    dropped
        Datagrams of :meth:`send_datagram` that the UDP socket did not take.
    deaths
        Workers that were lost so far.
    patience
        Seconds after which an unanswered ping, or snapshot, means that the worker is lost.
    """

    patience = 20.0

    def __init__(self, recruits: Recruits, listener: WorkerListener, *, alone: bool = True) -> None:
        self.dropped = 0
        self.deaths = 0
        self._recruits = recruits
        self._alone = alone
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._keeper = LaneKeeper(recruits.floors)
        self._channel: WorkerChannel | None = None
        self._udp: dict[int, socket.socket] = {}
        self._waiting: deque[tuple[Command, Carried]] = deque()
        self._asked = 0
        self._snapshots: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._closing = False
        self._tell = self._post
        recruits.engine_notes.join(self._tell)

    @classmethod
    async def start(cls, config: DataplaneConfig, accel: AccelConfig, listener: WorkerListener) -> Self:
        """Start a worker process and wait until it serves.

        Raises
        ------
        WorkerError
            When the process cannot be started, dies, or finds no usable engine; says why.
        """
        link = cls(Recruits(config, accel), listener)
        try:
            await link.begin()
        except BaseException:
            await link._recruits.close()
            raise
        return link

    async def begin(self) -> None:
        """Start the first worker. Raises WorkerError."""
        self._serve_by(await self._recruits.start(self.patience, self._take))

    @property
    def engines(self) -> dict[str, str]:
        """Operation -> name of the engine that serves it."""
        return self._recruits.engines

    @property
    def serving(self) -> bool:
        """Whether there is a worker now."""
        return self._channel is not None

    @property
    def pid(self) -> int:
        """The worker's process id, 0 while there is none."""
        return self._channel.pid if self._channel is not None else 0

    # --- the process

    def _serve_by(self, channel: WorkerChannel) -> None:
        """Go on with a worker that is ready: it gets what its predecessor had, and what has waited for it."""
        if channel.lost:
            raise WorkerError("the data worker ended as soon as it was ready; see its messages")
        try:
            sockets = {number: sock.dup() for number, sock in self._udp.items()}
        except OSError as error:
            channel.lose("no descriptor is left for its sockets")
            raise WorkerError(f"UDP sockets cannot be shared with the worker: {error.strerror}") from None
        self._channel = channel
        channel.ended.add_done_callback(self._on_ended)
        kept, over = self._keeper.take_over()
        # Lanes before sockets: what arrives for a lane that the worker does not know is taken for a stranger's.
        for spec in kept:
            channel.post(AddLane(spec))
        for number, sock in sockets.items():
            channel.post(AddSocket(number), sock)
        for known in self._recruits.engine_notes.all():
            channel.post(known)
        for spec in over:
            reason = "too many lanes were open to note their packet numbers; it is set up again"
            self._loop.call_soon(self._listener.on_event, LaneRefused(spec.session, spec.path, reason))
        while self._waiting:
            channel.post(*self._waiting.popleft())

    async def replace(self) -> None:
        """Put another worker in the place of the one that was lost: the spare one, if there is any.

        Raises
        ------
        WorkerError
            When none can be started; says why. Try again later.
        """
        self._serve_by(await self._recruits.next(self.patience, self._take))

    def keep_spare(self) -> None:
        """Start a second worker, which waits for the death of the first; a failure shows when it is needed."""
        if not self._closing:
            self._recruits.keep_spare(self.patience)

    @property
    def spare(self) -> str:
        """What there is for the case of a death: "none", "starting" or "ready"."""
        return self._recruits.spare

    def _on_ended(self, ended: asyncio.Future[str]) -> None:
        told = ended.result()
        self._channel = None
        self.deaths += 1
        for future in self._snapshots.values():
            if not future.done():
                future.set_exception(ended_error(told))
                future.exception()  # somebody may have stopped waiting for it
        if not self._closing:
            self._listener.on_worker_lost(told)

    async def close(self) -> None:
        """Let the worker send what is queued (at most 0.5 s) and wait for its end. May be called twice."""
        self._closing = True
        if self._alone:
            await self._recruits.dismiss()
        if self._channel is not None:
            self._channel.post(Stop())
            await self._channel.close()
        for udp in self._udp.values():
            udp.close()
        self._udp.clear()
        while self._waiting:
            self._waiting.popleft()[1].close()
        if self._alone:
            await self._recruits.close()

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
        self._post(AddLane(self._keeper.add(spec)))

    def move_lane(self, session: int, path: int, peer: tuple[str, int]) -> None:
        """Note, for the next worker, that the peer of a lane has another address: this one has found that out."""
        self._keeper.move(session, path, peer)

    def close_lane(self, session: int, path: int) -> None:
        """Stop using a path; what it carried goes by the others."""
        self._keeper.remove(session, path)
        self._post(CloseLane(session, path))

    def end_session(self, session: int) -> None:
        """Reset every flow of a session and forget it."""
        self._keeper.end(session)
        self._post(EndSession(session))

    def retune(self, *, clear: bool = False) -> None:
        """Have the worker serve by the profile of now; ``clear`` = also test anew the engines that were wrong."""
        if clear:
            self._recruits.engine_notes.clear()
        self._post(Retune(clear, self._recruits.services.offers()))

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

    def _post(self, message: Command, sock: Carried | None = None) -> None:
        """Send a message to the worker of now; without one, new flows wait, and what other messages carry is closed."""
        gap = self._channel is None or self._channel.lost
        wanted = isinstance(message, OpenFlow | OpenUdp) and len(self._waiting) < WAITING_FLOWS
        if gap and wanted and sock is not None and not self._closing:
            self._waiting.append((message, sock))
        elif self._channel is not None:
            self._channel.post(message, sock)
        elif sock is not None:
            sock.close()

    async def snapshot(self) -> dict[str, object]:
        """Return the worker's counters and states, ready for JSON.

        The keys of ``Dataplane.snapshot()``, and ``udp`` (a list with a map per socket), ``fallbacks`` (a list) and
        ``worker`` (pid, memory, loop counters).

        Raises
        ------
        WorkerError
            When the worker is lost, or does not answer within :attr:`patience`.
        """
        channel = self._channel
        if channel is None or self._closing:
            raise WorkerError("the data worker has ended; try again when it was restarted")
        self._asked += 1
        number = self._asked
        clears = self._recruits.engine_notes.clears
        future: asyncio.Future[dict[str, object]] = self._loop.create_future()
        self._snapshots[number] = future
        self._post(AskSnapshot(number))
        try:
            snapshot = await asyncio.wait_for(future, self.patience)
            self._recruits.engine_notes.look(snapshot, clears, self._tell)
            return snapshot
        except TimeoutError:
            reason = f"it did not answer for {self.patience:g} s"
            channel.lose(reason)
            raise WorkerError(f"the data worker does not answer: {reason}; it is restarted") from None
        finally:
            self._snapshots.pop(number, None)

    def _take(self, message: Message, descriptors: list[int]) -> None:
        if isinstance(message, Misses):
            for data, host, port in message.datagrams:
                self._listener.on_datagram(message.number, data, (host, port))
        elif isinstance(message, SnapshotTaken):
            future = self._snapshots.get(message.number)
            if future is not None and not future.done() and descriptors:
                future.set_result(read_snapshot(descriptors[0]))
        else:
            self._listener.on_event(message)  # type: ignore[arg-type]
