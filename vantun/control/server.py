"""The server: QUIC connections of its clients, one UDP socket, and connections to the targets of their flows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING

from vantun.config import ClientConfig, ServerConfig, default_status_socket
from vantun.config_kinds import Endpoint
from vantun.config_schema import Role
from vantun.control.appliance import Appliance
from vantun.control.connector import Connector
from vantun.control.known_paths import KnownPaths
from vantun.control.path_events import (
    MessageReceived,
    PathDown,
    PathEvent,
    PathRefused,
    PathUp,
    SessionEnded,
    VisitorCame,
)
from vantun.control.places import Places
from vantun.control.pump import Pump
from vantun.control.reload import merged
from vantun.control.reverse_listeners import ReverseListeners
from vantun.control.revival import told_restart
from vantun.control.server_paths import ServerPaths
from vantun.control.session_messages import (
    ListenRequest,
    SessionAnswer,
    SessionRequest,
    TunAnswer,
    TunCode,
    TunRequest,
)
from vantun.control.speed_service import SpeedService
from vantun.control.tun_interface import state_folder
from vantun.control.tun_record import TunRecords
from vantun.control.tun_server import TunServer
from vantun.control.udp_connector import UdpConnector
from vantun.control.web_front import WebFront
from vantun.dataplane.events import (
    FlowClosed,
    FlowOpened,
    LaneChanged,
    LaneClosed,
    LaneMoved,
    LaneRefused,
    SessionRestarted,
    SessionViolated,
    SocketFailed,
)
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.tun_messages import FLOW_TARGET, TunFlow, TunLost
from vantun.udp_messages import FLOW_TARGET as UDP_TARGET
from vantun.udp_messages import ResolveUdp
from vantun.worker_messages import UserRate

if TYPE_CHECKING:
    import socket

    from vantun.control.crew import Crew
    from vantun.dataplane.events import Event

log = logging.getLogger(__name__)

SOCKET = 0
"""Number of the server's only UDP socket."""
_INTERNAL_ERROR = 1


class Server(Appliance):
    """A VANTUN server; see :mod:`vantun.control.appliance` for its life."""

    role: Role = "server"

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        self._config = config
        self._sockets: list[socket.socket] = []
        self._connector: Connector | None = None
        self._tun: TunServer | None = None
        self._udp: UdpConnector | None = None
        self._reverse: ReverseListeners | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._known = KnownPaths()
        self._paths = ServerPaths(config, places=self._places())
        self._pump: Pump[PathEvent] = Pump(self._paths, self._send, self._on_path_event)
        self._web = WebFront(self._paths, self._pump.wake)
        self._speed = SpeedService(enabled=config.speed_test)

    async def prepare(self) -> None:
        """Create the TUN interface, if there is one, and bind the UDP socket."""
        listen, tun = self._config.listen, self._config.tun
        if tun is not None:
            records = TunRecords(state_folder(default_status_socket(self.role).parent))
            rules = self._config.acl.packet_rules()
            self._tun = await TunServer.open(tun, records, rules, queues=self.workers)
            self.sockets.mark = self._tun.interface.mark
        host = listen.host
        if host:
            try:
                host = (await self.resolver.resolve(host, listen.port))[0].host
            except OSError as error:
                raise ResourceError(
                    f"listen: {host} has no address ({error.strerror}); write an IP address of this machine"
                ) from None
        self._sockets = self.sockets.bind(host, listen.port)
        await self._web.start(self._config, self.resolver)

    def begin(self, link: Crew) -> None:
        """Serve by a new worker."""
        link.add_sockets(SOCKET, self._sockets)
        self._connect_by(link)
        self._reverse = ReverseListeners(self._config.reverse_allow, self.resolver, link, self._known.alive)
        engines = ", ".join(f"{operation} {engine}" for operation, engine in link.engines.items())
        where = Endpoint(self._config.listen.host or "*", self._config.listen.port)
        log.info("vantun server: listening on %s (udp), engines: %s", where, engines)

    def resume(self, link: Crew) -> None:
        """Connect the flows of a new worker."""
        self._connect_by(link)
        if self._reverse is not None:
            self._reverse.resume()

    def _connect_by(self, link: Crew) -> None:
        self._limit_users(link)
        self._connector = Connector(self.resolver, link.attach_flow, link.refuse_flow, self._config.acl)
        self._udp = UdpConnector(link, self.resolver, self._config.acl, built_in=self._speed.udp_address)
        if self._tun is not None:
            self._tun.begin(link)

    def _places(self) -> Places:
        """Return who chooses the workers of sessions: where there is a TUN, every session has a slice on the first."""

        def load() -> tuple[float, ...]:
            link = self.link
            return link.load.scores() if link is not None and self._config.tun is None else ()

        return Places(self.workers, load, rotate=self._config.tun is None)

    def leave(self, link: Crew, worker: int) -> None:
        """Stop connecting for flows that are gone with a worker."""
        gone = partial(link.is_of, worker)
        for connector in (self._connector, self._udp):
            if connector is not None:
                connector.cancel_those(gone)

    def rejoin(self, link: Crew, worker: int) -> None:
        """Give a new worker the UDP sockets that the one before had."""
        if self._reverse is not None:
            self._reverse.resume(partial(link.serves, worker))

    async def abandon(self) -> None:
        """Stop connecting for flows that are gone."""
        if self._connector is not None:
            await self._connector.close()
            self._connector = None
        if self._tun is not None:
            self._tun.abandon()
        if self._udp is not None:
            await self._udp.close()
            self._udp = None

    async def finish(self) -> None:
        """Close every connection, with a goodbye."""
        await self.abandon()
        if self._reverse is not None:
            await self._reverse.close()
            self._reverse = None
        await self._speed.close()
        await self._web.close()
        self._paths.close(self._loop.time())
        self._pump.flush()
        self._pump.stop()
        for sock in self._sockets:
            sock.close()
        if self._tun is not None:
            self._tun.close()

    def ready(self) -> bool:
        """Tell whether clients can connect."""
        return bool(self._sockets)

    def report(self) -> dict[str, object]:
        """Return the paths of all clients."""
        return {
            "listen": str(self._config.listen),
            "paths": self._known.report(self._loop.time()),
            "reverse": self._reverse.status() if self._reverse is not None else [],
            "keys": {"exchange": "X25519+ML-KEM-768"},
            "tun": self._tun.report() if self._tun is not None else {},
            "speedtest": self._speed.report(),
            **self._web.report(),
        }

    def more_fallbacks(self) -> list[dict[str, object]]:
        """Return what the TUN does without."""
        return self._tun.interface.fallbacks() if self._tun is not None else []

    def follow(self, mtus: dict[tuple[int, int], int]) -> None:
        """Have the packets to each client fit all of its paths."""
        if self._tun is not None:
            smallest: dict[int, int] = {}
            for (session, _), mtu in mtus.items():
                smallest[session] = min(mtu, smallest.get(session, mtu))
            self._tun.watch(smallest)

    async def reload(self, config: ServerConfig | ClientConfig) -> None:
        """Use users, certificate, masquerade and access list of ``config``; see the base class."""
        assert isinstance(config, ServerConfig)
        config = merged(self._config, config, self.role)
        leaving = await self._web.reload(config, self._config)
        self._config = config
        self._speed.enabled = config.speed_test
        if self._connector is not None:
            self._connector.access = config.acl
        if self._udp is not None:
            self._udp.access = config.acl
        if self._tun is not None:
            self._tun.use_rules(config.acl.packet_rules())
        if self._reverse is not None:
            await self._reverse.use(config.reverse_allow)
        if self.link is not None:
            self._limit_users(self.link)
        for session in self._paths.end_users(leaving, self._loop.time()):
            log.info("session %x: ended, its user may not stay", session)
            self._forget(session)
        self._pump.wake()
        await super().reload(config)

    def _limit_users(self, link: Crew) -> None:
        """Have the worker keep every user's rates; what a user sends is received here."""
        link.limit_users(UserRate(user, rate.down, rate.up) for user, rate in self._config.rates.items())

    def touch(self, session: int, path: int) -> None:
        """Keep the connection of a path whose lane is alive."""
        self._paths.touch(session, path, self._loop.time())

    # --- the worker

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Take a datagram of a QUIC connection."""
        self._pump.receive(data, number, peer)

    def on_event(self, event: Event) -> None:
        """Act on what the data plane says."""
        match event:
            case FlowOpened(handle, session, target) if target == FLOW_TARGET:
                if self.link is not None and self._tun is not None:
                    self._tun.opened(self.link, handle, session)
                elif self.link is not None:
                    self.link.refuse_flow(handle, RefusalCode.NOT_ALLOWED)
            case TunFlow(session, is_open, _):
                if self._tun is not None:
                    self._tun.flow(session, is_open=is_open)
            case TunLost(_, reason):
                self.fail(ResourceError(f"tun: the interface is lost: {reason}; start again"))
            case FlowOpened(handle) if self.draining:
                if self.link is not None:
                    self.link.refuse_flow(handle, RefusalCode.GENERAL)
            case FlowOpened(handle, session, target):
                self._open(handle, session, target)
            case FlowClosed(handle, _):
                if self._connector is not None:
                    self._connector.cancel(handle)
                if self._udp is not None:
                    self._udp.cancel(handle)
            case ResolveUdp():
                if self._udp is not None:
                    self._udp.resolve(event)
            case LaneChanged(session, path, state, before):
                log.debug("session %x path %d: %s, was %s", session, path, state, before)
            case LaneMoved(session, path, peer):
                self._moved(session, path, peer)
            case SocketFailed(_, reason):
                log.debug("packets to a client could not leave: %s", reason)
            case SessionRestarted(session, epoch, here):
                told_restart(log, session, epoch, here=here)
            case LaneClosed(session, path, code):
                log.info("session %x path %d: closed by the client with code %d", session, path, code)
                self._drop(session, path)
            case LaneRefused(session, path, reason):
                log.warning("session %x path %d: refused by the data worker: %s", session, path, reason)
                self._end_session(session, _INTERNAL_ERROR, "the server has no room")
            case SessionViolated(session, reason):
                log.warning("session %x: ended, the client broke the protocol: %s", session, reason)
                self._end_session(session, _INTERNAL_ERROR, reason)

    def _open(self, handle: int, session: int, target: str) -> None:
        """Connect a flow of a client."""
        if (link := self.link) is None:
            return
        if target == UDP_TARGET and self._udp is not None:
            if (code := self._udp.open(handle, session, self._known.user(session))) is not None:
                link.refuse_flow(handle, code)
        elif not self._speed.open(link, handle, session, target) and self._connector is not None:
            self._connector.open(handle, target)

    def _send(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        if self.link is not None:
            self.link.send_datagram(number, data, peer)

    # --- paths

    def _on_path_event(self, event: PathEvent) -> None:
        match event:
            case PathUp():
                self._install(event)
            case PathDown(session, path, reason):
                log.info("session %x path %d: down: %s", session, path, reason)
                self._drop(session, path)
            case PathRefused(_, error):
                log.info("a client was refused: %s", error)
            case SessionEnded(session):
                log.info("session %x: ended", session)
                self._forget(session)
            case VisitorCame(visit):
                self._web.serve(visit)
            case MessageReceived(session, _, number, message):
                self._request(session, number, message)

    def _request(self, session: int, number: int, message: SessionRequest | SessionAnswer) -> None:
        """Act on a session's request, which is new; :meth:`_reply` may come later."""
        match message:
            case ListenRequest():
                self._later(self._listen(session, number, message))
            case TunRequest() if self._tun is not None:
                peers = [lane.peer[0] for lane in self._known.of(session)]
                self._reply(session, number, self._tun.request(session, self._known.user(session), peers, message))
            case TunRequest():
                reason = "this server has no `tun`"
                self._reply(session, number, TunAnswer(TunCode.NOT_OFFERED, reason, (), (), (), 0, 0))

    async def _listen(self, session: int, number: int, message: ListenRequest) -> None:
        if self._reverse is None:
            return
        answer = await self._reverse.request(session, self._known.user(session), message)
        self._reply(session, number, answer)
        if not self._known.alive(session):  # it has ended while the listener was made
            await self._reverse.forget(session)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _reply(self, session: int, number: int, answer: SessionAnswer) -> None:
        """Answer a session's request; nothing happens when the session has ended meanwhile."""
        self._paths.send(session, number, answer)
        self._pump.wake()

    def _install(self, event: PathUp) -> None:
        lane = event.lane
        self._known.add(lane, self._loop.time())
        log.info("session %x path %d (%s): up, %s from %s", lane.session, lane.path, lane.name, lane.user, lane.peer[0])
        if self.link is not None:
            for each in event.lanes:
                self.link.add_lane(each)

    def _moved(self, session: int, path: int, peer: tuple[str, int]) -> None:
        """Show a path's new address. Its QUIC connection follows with the next packet of the client's."""
        before = self._known.move(session, path, peer)
        if before is not None:
            old, new = Endpoint(*before.peer), Endpoint(*peer)
            log.info("session %x path %d (%s): moved from %s to %s", session, path, before.name, old, new)

    def _drop(self, session: int, path: int) -> None:
        if self._known.drop(session, path) and self.link is not None:
            self.link.close_lane(session, path)

    def _forget(self, session: int) -> None:
        self._known.forget(session)
        if self._tun is not None:
            self._tun.forget(session)
        if self.link is not None:
            self.link.end_session(session)
        if self._reverse is not None:
            self._later(self._reverse.forget(session))

    def _end_session(self, session: int, code: int, reason: str) -> None:
        """End a session at both ends."""
        self._paths.close_session(session, code, reason, self._loop.time())
        self._pump.wake()
        self._forget(session)
