"""The client: one QUIC connection per configured path, the session they share, and the ways in for programs."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from vantun.config import ClientConfig, ServerConfig, default_status_socket
from vantun.config_kinds import Endpoint
from vantun.config_schema import Role
from vantun.control.appliance import Appliance
from vantun.control.associations import Associations
from vantun.control.connection_watch import ConnectionWatch
from vantun.control.dialer import Dialer
from vantun.control.entrances import Entrances
from vantun.control.membership import LINGER, Membership
from vantun.control.own_lookup import OwnLookup
from vantun.control.path_events import SessionUnknownError
from vantun.control.reverse_forwards import ReverseForwards, refuse_unknown
from vantun.control.revival import told_restart
from vantun.control.session_messages import SessionAnswer, SessionRequest
from vantun.control.sleep_watch import LONG_SLEEP
from vantun.control.tun_client import TunClient
from vantun.control.tun_interface import state_folder
from vantun.control.tun_record import TunRecords
from vantun.control.udp_rules import UdpRules
from vantun.control.uplink import Attempt, Tunnel
from vantun.control.uplinks import Uplinks
from vantun.control.volumes import Volumes, volume_folder
from vantun.dataplane.events import (
    FlowClosed,
    FlowOpened,
    LaneChanged,
    LaneClosed,
    LaneRefused,
    SessionRestarted,
    SessionViolated,
    SocketFailed,
)
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError, VantunError
from vantun.tun_messages import TunFlow, TunLost
from vantun.udp_messages import AskUdp, UdpClosed
from vantun.worker_messages import StreamReply

if TYPE_CHECKING:
    import socket

    from vantun.control.crew import Crew
    from vantun.dataplane.events import Event

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a program waits for a path before it is told that the network is unreachable."""


class Client(Appliance):
    """A VANTUN client; see :mod:`vantun.control.appliance` for its life."""

    role: Role = "client"

    def __init__(self, config: ClientConfig) -> None:
        super().__init__(config)
        self._config = config
        self._membership = Membership(self._on_session_lost)
        self._dialer = Dialer(config.acl, self.resolver, self._carry)
        self._udp_rules = UdpRules(config.acl, self.resolver)
        self._associations = Associations(self._way)
        self._entrances: Entrances | None = None
        self._reverse = ReverseForwards(config.forwards.reverse, self.resolver)
        self._tun: TunClient | None = None
        self._tunnel: Tunnel | None = None
        self._uplinks: Uplinks | None = None
        self._volumes = Volumes({path.name: path.cap for path in config.paths}, volume_folder())
        self._connections: ConnectionWatch | None = None
        self._running: asyncio.Task[VantunError] | None = None
        self._following: asyncio.Task[None] | None = None
        self._routing: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Create the TUN interface, if there is one, and listen for programs; they wait until there is a path."""
        if self._config.tun is not None:
            records = TunRecords(state_folder(default_status_socket(self.role).parent))
            self._tun = await TunClient.open(self._config.tun, records, queues=self.workers)
            self.sockets.mark = self._dialer.mark = self._udp_rules.mark = self._tun.interface.mark
            self.resolver.lookup = OwnLookup(self._tun.interface.mark)
        self._entrances = await Entrances.start(
            self._config, self.resolver, self._dialer, self._associations, self.workers
        )

    def begin(self, link: Crew) -> None:
        """Set all paths up by a new worker."""
        self._tunnel = Tunnel(self._config, link, self.resolver, self.sockets, self._membership)
        self._tunnel.volumes = self._volumes
        own = (self._tun.interface.name,) if self._tun is not None else ()
        self._uplinks = Uplinks(self._tunnel, own)
        self._running = asyncio.create_task(self._uplinks.run())
        self._running.add_done_callback(self._on_uplinks_done)
        self._connections = ConnectionWatch.start(self._uplinks.settle)
        if self._connections is None:
            self._uplinks.use_default()
        self._udp_rules.begin(link)
        if self._entrances is not None:
            self._entrances.begin(link)
        self._reverse.begin(link)
        self._following = asyncio.create_task(self._follow(self._tunnel))
        if self._tun is not None:
            self._tun.begin(link)
            if self._routing is None:
                self._routing = asyncio.create_task(self._tun.run(self._membership.wait_up, self._ask))
                self._routing.add_done_callback(self._on_routing_done)

    def resume(self, link: Crew) -> None:
        """Go on; paths and the session have never ended."""
        self._udp_rules.begin(link)
        self._associations.resume(link)
        if self._entrances is not None:
            self._entrances.begin(link)
        self._reverse.begin(link)
        if self._tun is not None:
            self._tun.begin(link)

    def leave(self, link: Crew, worker: int) -> None:
        """Note which associations the lost worker had."""
        self._associations.abandon(partial(link.serves, worker))

    def rejoin(self, link: Crew, worker: int) -> None:
        """Give a new worker the UDP sockets that the one before had."""
        self._associations.resume(link)
        if self._entrances is not None:
            self._entrances.rejoin(link, partial(link.serves, worker))

    async def abandon(self) -> None:
        """Drop what lived in the worker; what programs ask for meanwhile waits for the next one."""
        await self._udp_rules.abandon()
        self._associations.abandon()
        if self._tun is not None:
            self._tun.abandon()

    async def finish(self) -> None:
        """Close the ways in, and every path with a goodbye."""
        if self._entrances is not None:
            await self._entrances.close()
        await self._reverse.close()
        await self._udp_rules.abandon()
        if self._routing is not None:
            self._routing.cancel()
        await self._end_uplinks()
        self._volumes.save()
        if self._tun is not None:
            self._tun.close()

    def ready(self) -> bool:
        """Tell whether a path is up."""
        return bool(self._membership.up)

    def report(self) -> dict[str, object]:
        """Return the paths and the proxy."""
        paths = self._uplinks.report() if self._uplinks is not None else []
        suites = sorted({str(path["suite"]) for path in paths if path["suite"]})
        return {
            "paths": paths,
            **(self._entrances.status() if self._entrances is not None else {}),
            "udp_rules": self._udp_rules.status(),
            "reverse": self._reverse.status(),
            "keys": {"exchange": "X25519+ML-KEM-768", "suite": ", ".join(suites)},
            "tun": self._tun.report() if self._tun is not None else {},
        }

    def more_fallbacks(self) -> list[dict[str, object]]:
        """Return what the TUN does without."""
        return self._tun.interface.fallbacks() if self._tun is not None else []

    def follow(self, mtus: dict[tuple[int, int], int]) -> None:
        """Have the packets of the TUN fit all paths."""
        if self._tun is not None:
            self._tun.watch(mtus.values())

    def count(self, lanes: list[dict[str, object]]) -> None:
        """Count what paths with a cap have carried, and close those that have reached it."""
        if self._uplinks is not None:
            self._uplinks.close_full(self._volumes.count(lanes, self._uplinks.names()))

    async def reload(self, config: ServerConfig | ClientConfig) -> None:
        """Use the access list of ``config``; see the base class."""
        self._dialer.access = config.acl
        self._udp_rules.renew(config.acl)
        await super().reload(config)

    def on_slept(self, seconds: float) -> None:
        """Set all paths up anew: the server, and every NAT on the way, has forgotten them."""
        super().on_slept(seconds)
        if self._tunnel is None or seconds < LONG_SLEEP:
            return
        for attempt in list(self._tunnel.attempts.values()):
            attempt.end(f"this machine was asleep for {seconds:.0f} s", at_once=True)
        if seconds > LINGER and self._membership.session is not None:
            self._membership.forget(self._membership.session)

    def touch(self, session: int, path: int) -> None:
        """Keep the connection of a path whose lane is alive."""
        for attempt in self._of(session, path):
            attempt.touch()

    # --- the worker

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        """Take a datagram of a QUIC connection."""
        attempt = self._tunnel.attempts.get(number) if self._tunnel is not None else None
        if attempt is not None:
            attempt.receive(data, peer)

    def on_event(self, event: Event) -> None:
        """Act on what the data plane says."""
        match event:
            case LaneChanged(session, path, state, before):
                log.debug("session %x path %d: %s, was %s", session, path, state, before)
                if state == "active":
                    for attempt in self._of(session, path):
                        attempt.active.set()
                elif state == "suspect":  # perhaps a NAT on the way has given us another address
                    for attempt in self._of(session, path):
                        attempt.touch(at_once=True)
                elif state == "dead":
                    self._end(session, path, "nothing comes through any more")
            case SocketFailed(number, reason):
                failed = self._tunnel.attempts.get(number) if self._tunnel is not None else None
                if failed is not None:
                    failed.end(f"its packets cannot leave ({reason}): is a route or an address gone?", at_once=True)
            case SessionRestarted(session, epoch, here):
                told_restart(log, session, epoch, here=here)
            case LaneClosed(session, path, code):
                self._end(session, path, f"the server has closed it with code {code}")
            case LaneRefused(session, path, reason):
                self._end(session, path, f"the data worker has refused it: {reason}")
            case SessionViolated(session, reason):
                log.error("the session is ended, the server broke the protocol: %s", reason)
                self._membership.forget(session)
            case TunFlow(session, is_open, code):
                if self._tun is not None:
                    self._tun.flow(session, is_open=is_open, code=code)
            case TunLost(_, reason):
                self.fail(ResourceError(f"tun: the interface is lost: {reason}; start again"))
            case FlowOpened(handle, _, target):
                known = self._reverse.open(handle, target) or self._reverse.open_udp(handle, target)
                if self.link is not None and not known:
                    refuse_unknown(self.link, handle, target)
            case FlowClosed(handle, _):
                self._reverse.cancel(handle)
            case AskUdp():
                self._udp_rules.ask(event)
            case UdpClosed(number, reason):
                log.debug("UDP association %d has ended: %s", number, reason)
                self._associations.closed(number)

    # --- the session

    async def _way(self) -> tuple[int, Crew] | None:
        session = None if self.draining else await self._membership.wait_up(PATIENCE)
        return None if session is None or self.link is None else (session, self.link)

    async def _carry(
        self, target: Endpoint, sock: socket.socket, reply: StreamReply, first: bytes
    ) -> RefusalCode | None:
        way = await self._way()
        if way is None:
            return RefusalCode.NETWORK_UNREACHABLE
        session, link = way
        link.open_flow(session, str(target), sock, reply, first)
        return None

    async def _follow(self, tunnel: Tunnel) -> None:
        """Tell those who need to know which session is the client's; log the first."""
        told = False
        while True:
            session = await self._membership.wait_up()
            assert session is not None
            if not told and self._entrances is not None:
                paths = len(self._uplinks.report()) if self._uplinks is not None else 0
                log.info("vantun client: %s; %d path(s)", self._entrances.summary(), paths)
                told = True
            if self._entrances is not None:
                self._entrances.move(session)
            self._associations.move(session)
            self._reverse.register(session, tunnel.ask)
            await self._membership.wait_lost(session)
            self._reverse.withdraw()
            if self._entrances is not None:
                self._entrances.move(0)

    def _on_session_lost(self, session: int) -> None:
        log.warning("session %x is lost: its connections are reset, a new one is made", session)
        if self._tun is not None:
            self._tun.lost(session)
        if self._tunnel is None:
            return
        self._tunnel.requests.lost(session)
        self._tunnel.link.end_session(session)
        for attempt in self._tunnel.attempts.values():
            if attempt.lane is not None and attempt.lane.session == session:
                attempt.end("its session is lost")

    async def _ask(self, session: int, message: SessionRequest) -> SessionAnswer:
        """Ask the server; raises SessionUnknownError when the session is lost."""
        if self._tunnel is None:
            raise SessionUnknownError("the data worker is lost, and the session with it")
        return await self._tunnel.ask(session, message)

    def _on_routing_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _on_uplinks_done(self, task: asyncio.Task[VantunError]) -> None:
        if not task.cancelled():
            self.fail(task.exception() or task.result())

    async def _end_uplinks(self) -> None:
        if self._following is not None:
            self._following.cancel()
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if self._connections is not None:
            self._connections.close()
            self._connections = None
        if self._uplinks is not None:
            await self._uplinks.close()
        self._tunnel = None

    def _of(self, session: int, path: int) -> list[Attempt]:
        attempts = self._tunnel.attempts.values() if self._tunnel is not None else ()
        return [
            attempt
            for attempt in attempts
            if attempt.lane is not None and (attempt.lane.session, attempt.lane.path) == (session, path)
        ]

    def _end(self, session: int, path: int, reason: str) -> None:
        for attempt in self._of(session, path):
            attempt.end(reason)
