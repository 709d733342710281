"""Keeps one configured path of a client up: sets it up, waits for its end, waits a little, and begins again."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vantun.config import ClientConfig, PathConfig, ServerEntry
from vantun.config_units import format_size
from vantun.control.backoff import Backoff
from vantun.control.client_path import ClientPath
from vantun.control.membership import Admission, Membership
from vantun.control.path_events import (
    MessageReceived,
    PathDown,
    PathEvent,
    PathRefused,
    PathUp,
    Route,
    SessionIdentity,
    SessionUnknownError,
)
from vantun.control.pump import Pump
from vantun.control.requests import Requests
from vantun.control.resolver import Address, Resolver
from vantun.control.server_choice import ServerChoice
from vantun.control.server_lookup import Serving, UnresolvableError, find_server
from vantun.control.session_messages import SessionAnswer, SessionRequest
from vantun.control.tickets import KeptTickets
from vantun.control.udp_sockets import UdpSockets
from vantun.control.volumes import Volumes
from vantun.errors import ResourceError, VantunError, WorkerError
from vantun.lanes import LaneSpec

if TYPE_CHECKING:
    from vantun.control.crew import Crew

log = logging.getLogger(__name__)

SETUP_TIME = 10.0
"""Seconds for one path to come up."""
SETUP_TIME_OF_MANY = 4.0
"""The same where another server can be tried."""
LONGEST_CLOSED = 60.0
"""Seconds after which a path without volume looks at the calendar again."""
STABLE_TIME = 10.0
"""Seconds after which a path that ends counts as one that worked."""


MOST_HURRY, HURRY_TIME = 6, 30.0
"""So many times within so many seconds a path returns without a pause when its server says that it does not know it."""


@dataclass
class Tunnel:
    """What all paths of a client share."""

    config: ClientConfig
    link: Crew
    resolver: Resolver
    sockets: UdpSockets
    membership: Membership
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """By number of the UDP socket."""
    tickets: KeptTickets = field(default_factory=KeptTickets)
    sockets_made: int = 0
    requests: Requests = field(default_factory=Requests)
    volumes: Volumes | None = None
    """What paths with a cap have used of it."""
    trying: set[str] = field(default_factory=set)
    """Paths that nothing on this machine keeps from trying."""
    servers: ServerChoice = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the best server."""
        config = self.config
        self.servers = ServerChoice(config.servers or (ServerEntry(config.server, config.auth, config.tls),))

    def next_socket(self) -> int:
        """Return a number for a new UDP socket; never the same twice, so late datagrams find nobody."""
        self.sockets_made += 1
        return self.sockets_made

    async def ask(self, session: int, message: SessionRequest) -> SessionAnswer:
        """Return the server's answer to a request of ``session``; raises SessionUnknownError when that is lost."""
        return await self.requests.ask(session, message, lambda: self._of(session))

    def _of(self, session: int) -> list[Attempt]:
        return [entry for entry in self.attempts.values() if entry.lane is not None and entry.lane.session == session]


@dataclass(frozen=True)
class Ending:
    """Why a path is not up (any more)."""

    reason: str
    error: VantunError | None = None
    retry: bool = True
    at_once: bool = False
    """The server can be reached: the path may return without a pause, if it was up for a moment."""


class Attempt:
    """One path from its first packet to its end."""

    def __init__(
        self, tunnel: Tunnel, serving: Serving, admission: Admission, sockets: list[socket.socket], peer: Address
    ) -> None:
        """Send the first packet from the first of ``sockets``, which are this path's from now on.

        There is one for each worker. Raises ResourceError.
        """
        self.admission = admission
        self.lane: LaneSpec | None = None
        loop = asyncio.get_running_loop()
        self.up = asyncio.Event()
        self.active = asyncio.Event()
        """Set when the data plane has heard from the server on the lane."""
        self.over: asyncio.Future[Ending] = loop.create_future()
        self._tunnel = tunnel
        self._loop = loop
        self._sockets = sockets
        self.number = tunnel.next_socket()
        identity = None if admission.session is None else SessionIdentity(admission.session, admission.token)
        self._quic = ClientPath(
            serving.config,
            serving.path,
            admission.number,
            Route(self.number, (peer.host, peer.port), len(sockets)),
            identity,
            loop.time(),
            tunnel.tickets,
        )
        tunnel.link.add_sockets(self.number, sockets)
        tunnel.attempts[self.number] = self
        self._pump: Pump[PathEvent] = Pump(self._quic, tunnel.link.send_datagram, self._on_event)
        self._pump.wake()

    def receive(self, data: bytes, peer: tuple[str, int]) -> None:
        """Take a datagram that arrived on this path's socket."""
        self._pump.receive(data, self.number, peer)

    def touch(self, *, at_once: bool = False) -> None:
        """Learn that the lane is alive; ``at_once``: that this end's address may have changed."""
        if self.lane is not None:
            self._quic.touch(self.lane.session, self.lane.path, self._loop.time(), at_once=at_once)
            self._pump.wake()

    def send(self, number: int, message: SessionRequest) -> None:
        """Send a session's request on this path."""
        self._quic.send(number, message)
        self._pump.wake()

    def end(self, reason: str, error: VantunError | None = None, *, retry: bool = True, at_once: bool = False) -> None:
        """End the path, or its set-up; the first reason counts."""
        if not self.over.done():
            self.over.set_result(Ending(reason, error, retry, at_once))

    def close(self) -> None:
        """Say goodbye and give everything back."""
        tunnel = self._tunnel
        self._quic.close(self._loop.time())
        self._pump.flush()
        self._pump.stop()
        if self.lane is not None:
            tunnel.link.close_lane(self.lane.session, self.lane.path)
        tunnel.membership.left(self.admission)
        tunnel.link.remove_socket(self.number)
        del tunnel.attempts[self.number]
        _close(self._sockets)

    def _on_event(self, event: PathEvent) -> None:
        tunnel = self._tunnel
        match event:
            case PathUp():
                if not tunnel.membership.joined(self.admission, event.lane.session, event.tokens):
                    self.end("another path has created the session, this one joins it")
                    return
                self.lane = event.lane
                for lane in event.lanes:
                    tunnel.link.add_lane(lane)
                self.up.set()
            case PathRefused():
                unknown = self.admission.session is not None and isinstance(event.error, SessionUnknownError)
                if self.admission.session is not None and unknown:
                    tunnel.membership.forget(self.admission.session)
                self.end(str(event.error), event.error, retry=event.retry, at_once=unknown)
            case PathDown():
                self.end(event.reason, retry=event.retry, at_once=event.at_once)
            case MessageReceived(session, _, number, message):
                assert isinstance(message, SessionAnswer)
                tunnel.requests.answered(session, number, message)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


class Uplink:
    """One configured path.

    Attributes
    ----------
    state
        "connecting", "up", "waiting" (to try again, or for an interface), "capped" (its volume is used up) or "failed".
    reason
        Why it is not up.
    """

    def __init__(self, tunnel: Tunnel, config: PathConfig) -> None:
        self.config = config
        self.state = "connecting"
        self.reason = ""
        self.attempt: Attempt | None = None
        self.server = config.server
        self.source = config.source
        """The local address in use."""
        self.lacks = ""
        """What it needs and this machine does not have at present."""
        self._tunnel = tunnel
        self._woken = asyncio.Event()
        self._backoff = Backoff()
        self._loop = asyncio.get_running_loop()
        self._was_up = False
        self._hurried: deque[float] = deque(maxlen=MOST_HURRY)

    async def run(self) -> VantunError:
        """Keep the path up, and return the error that makes it pointless to go on."""
        while True:
            await self._wait_until_able()
            self.state = "connecting"
            self._woken.clear()
            self._tunnel.trying.add(self.config.name)
            entry = self._tunnel.servers.current(self._loop.time())
            ending = await self._once(Serving.of(self._tunnel.config, self.config, entry))
            self._tell_choice(entry, ending)
            if self._tunnel.servers.another(entry, self._loop.time()):
                log.warning("path %s: %s", self.config.name, ending.reason)
                self.reason = ending.reason
                continue
            if ending.error is not None and not ending.retry and self._tunnel.servers.hopeless:
                self.state, self.reason = "failed", ending.reason
                log.error("path %s: given up: %s", self.config.name, ending.reason)
                return ending.error
            delay = 0.0 if ending.at_once and self._may_hurry() else self._backoff.next()
            # What fails again and again in the same way is said once.
            level = logging.DEBUG if ending.reason == self.reason else logging.WARNING
            log.log(level, "path %s: %s; trying again in %.1f s", self.config.name, ending.reason, delay)
            self.state, self.reason = "waiting", ending.reason
            await self._rest(delay)

    def wake(self) -> None:
        """End a wait for the next attempt: what stood in the way may be gone."""
        self._backoff.reset()
        self._woken.set()

    def lose(self, reason: str) -> None:
        """End the present attempt at once: what it needs is gone; the lane is closed, its data goes by the others."""
        if self.attempt is not None:
            self.attempt.end(reason)

    async def _rest(self, seconds: float) -> None:
        """Wait until the time is over, or :meth:`wake` is called."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def _wait_until_able(self) -> None:
        """Return as soon as the path has what it needs, and volume left."""
        volumes, name = self._tunnel.volumes, self.config.name
        while True:
            until = volumes.closed_until(name) if volumes is not None else None
            if until is not None:
                used = f"its volume of {format_size(self.config.cap)} is used up"
                state, reason = "capped", f"{used}; it is closed until {until:%Y-%m-%d %H:%M}"
            elif self.lacks:
                state, reason = "waiting", f"{self.lacks}; it begins when that comes"
            else:
                return
            if reason != self.reason:
                log.warning("path %s: %s", name, reason)
            self.state, self.reason = state, reason
            self._tunnel.trying.discard(name)
            await self._rest(LONGEST_CLOSED)

    def _tell_choice(self, entry: ServerEntry, ending: Ending) -> None:
        """Tell the choice of servers how it went; the session with a server that is given up is lost."""
        tunnel, now = self._tunnel, self._loop.time()
        if ending.error is not None and not ending.retry:
            given_up = tunnel.servers.refused(entry, ending.error, now)
        elif tunnel.membership.up:
            return
        else:
            given_up = tunnel.servers.failed(entry, self.config.name, len(tunnel.trying), now)
        if given_up and len(tunnel.servers) > 1 and tunnel.membership.session is not None:
            tunnel.membership.forget(tunnel.membership.session)

    def _may_hurry(self) -> bool:
        """Tell whether to set up without a pause: not more than MOST_HURRY times within HURRY_TIME."""
        now = self._loop.time()
        self._hurried.append(now)
        return len(self._hurried) < MOST_HURRY or now - self._hurried[0] > HURRY_TIME

    async def _once(self, serving: Serving) -> Ending:
        """Set the path up and wait for its end."""
        tunnel = self._tunnel
        try:
            peer, self.source = await find_server(tunnel.resolver, serving.path.server, self.config.sources)
            sockets = tunnel.sockets.bind_towards(peer, self.source, self.config.interface)
        except UnresolvableError as error:
            again = error.again or self._was_up or self.config.origin == "system"
            return Ending(str(error), error, retry=again)
        except ResourceError as error:  # an uplink that is down has lost its address, and gets it back
            return Ending(str(error), error)
        try:
            admission = await tunnel.membership.admit()
        except BaseException:
            _close(sockets)
            raise
        try:
            attempt = self.attempt = Attempt(tunnel, serving, admission, sockets, peer)
        except ResourceError as error:
            _close(sockets)
            tunnel.membership.left(admission)
            return Ending(str(error), error)
        try:
            return await self._live(attempt, serving)
        finally:
            self.attempt = None
            attempt.close()

    async def _live(self, attempt: Attempt, serving: Serving) -> Ending:
        up = asyncio.ensure_future(attempt.up.wait())
        try:
            patience = SETUP_TIME if len(self._tunnel.servers) == 1 else SETUP_TIME_OF_MANY
            await asyncio.wait((up, attempt.over), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if not attempt.up.is_set() and not attempt.over.done():
            where = serving.path.server
            return Ending(
                f"{where} does not answer; is the server running, and does a firewall let UDP port {where.port} pass?"
            )
        if attempt.up.is_set():
            self.state, self.reason, self._was_up = "up", "", True
            self._tunnel.servers.worked(serving.entry)
            self.server = serving.path.server
            began = self._loop.time()
            announcing = asyncio.create_task(self._announce(attempt))
            try:
                ending = await attempt.over
            finally:
                announcing.cancel()
            if self._loop.time() - began > STABLE_TIME:
                self._backoff.reset()
            return ending
        return attempt.over.result()

    async def _announce(self, attempt: Attempt) -> None:
        """Log that the path is up, as soon as its round-trip time is known."""
        await attempt.active.wait()
        rtt = "unknown"
        try:
            lanes = (await self._tunnel.link.snapshot())["lanes"]
        except WorkerError:  # it is lost, and so is the path
            return
        for lane in lanes if isinstance(lanes, list) else []:
            if lane["path"] == attempt.admission.number:
                rtt = f"{lane['rtt_ms']:.1f} ms"
        log.info("path %s: up, RTT %s, to %s", self.config.name, rtt, self.server)

    def report(self) -> dict[str, object]:
        """Return the path's part of the status."""
        lane = self.attempt.lane if self.attempt is not None else None
        return {
            "name": self.config.name,
            "server": str(self.server),
            "source": self.source,
            "interface": self.config.interface,
            "priority": "backup" if self.config.backup else "primary",
            "origin": self.config.origin,
            **(self._tunnel.volumes.report(self.config.name) if self._tunnel.volumes is not None else {}),
            "state": self.state,
            "reason": self.reason,
            "session": f"{lane.session:x}" if lane else None,
            "path": lane.path if lane else None,
            "suite": lane.suite.name if lane else None,
        }
