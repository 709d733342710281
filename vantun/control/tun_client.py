"""The client's TUN: asks the server for addresses in each new session, and sends the configured networks there.

Once set, addresses and routes stay until the client ends, also while there is no path: what was meant for the tunnel
does not leave in the clear meanwhile. A new session asks for the addresses of the one before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

from drivers.errors import DriverError
from vantun.config_tun import ClientTunConfig, IPInterface
from vantun.control.backoff import Backoff
from vantun.control.path_events import SessionUnknownError
from vantun.control.session_messages import (
    MAX_PREFIXES,
    Prefix,
    SessionAnswer,
    SessionRequest,
    TunAnswer,
    TunCode,
    TunRequest,
)
from vantun.control.tun_firewall import Firewall
from vantun.control.tun_interface import NUMBER, Kernel, TunInterface
from vantun.control.tun_link import TunLink
from vantun.control.tun_mtu import inner_mtu
from vantun.control.tun_record import TunRecords
from vantun.control.tun_routes import plan
from vantun.errors import ResourceError

log = logging.getLogger(__name__)

Ask = Callable[[int, SessionRequest], Awaitable[SessionAnswer]]
"""Sends a request of a session and returns the server's answer; raises SessionUnknownError when the session is lost."""


class TunClient:
    """Made by :meth:`open`; works while :meth:`run` runs.

    Attributes
    ----------
    state, reason
        "waiting" (for a session, or to ask again), "refused", "up" (packets flow); and why.
    """

    def __init__(self, config: ClientTunConfig, interface: TunInterface) -> None:
        self.interface = interface
        self.state = "waiting"
        self.reason = ""
        self._config = config
        self._addresses: tuple[IPInterface, ...] = ()
        self._given: tuple[IPInterface, ...] = ()
        """Those that the interface has: all, or without those of a family that this machine does not have."""
        self._gateways: tuple[str, ...] = ()
        self._accepted: tuple[str, ...] = ()
        self._lanes: tuple[int, ...] = ()
        self._link: TunLink | None = None
        self._session: int | None = None
        self._changed = asyncio.Event()
        self._broken = False

    @classmethod
    async def open(
        cls, config: ClientTunConfig, records: TunRecords, kernel: Kernel | None = None, queues: int = 1
    ) -> TunClient:
        """Create the interface; it has no address yet. Raises ResourceError when this machine refuses."""
        try:
            kernel = kernel or Kernel(queues=queues)
        except DriverError as error:
            raise ResourceError(f"tun: {error}") from None
        return cls(config, await TunInterface.open(config.name, records, kernel, offload=config.offload))

    # --- the worker

    def begin(self, link: TunLink) -> None:
        """Tell a new worker everything; its flow is opened (again) by :meth:`run`."""
        self._link = link
        device = self.interface.device
        link.add_tun(NUMBER, self.interface.descriptors, client=True, offloads=int(device.takes))
        self._break()

    def abandon(self) -> None:
        """Learn that the worker is lost."""
        self._link = None

    def flow(self, session: int, *, is_open: bool, code: int) -> None:
        """Learn whether packets flow."""
        if session != self._session:
            return
        if is_open:
            self.state, self.reason = "up", ""
            log.info("tun: %s is up with %s", self.interface.name, ", ".join(map(str, self._given)))
            return
        reason = f"the server has refused the flow of packets with code {code}" if code else "the flow has ended"
        self.state, self.reason = "waiting", reason
        self._break()

    def lost(self, session: int) -> None:
        """Learn that a session is lost."""
        if session == self._session:
            self.state, self.reason = "waiting", "there is no session"
            self._break()

    def watch(self, lanes: Iterable[int]) -> None:
        """Follow the paths' MTUs: ``lanes`` has the largest UDP payload of each, bytes."""
        self._lanes = tuple(lanes)
        if self._addresses:
            try:
                self.interface.set_mtu(self._mtu())
            except DriverError as error:
                log.warning("tun: %s", error)

    def _break(self) -> None:
        self._broken = True
        self._changed.set()

    # --- sessions

    async def run(self, wait_up: Callable[[], Awaitable[int | None]], ask: Ask) -> None:
        """Set the tunnel up in every session, again and again.

        Parameters
        ----------
        wait_up
            Returns the session as soon as it has a path.
        """
        backoff = Backoff()
        while True:
            session = await wait_up()
            if session is None:
                continue
            self._session = session
            self._broken = False
            self._changed.clear()
            try:
                answer = await ask(session, self._request())
                done = isinstance(answer, TunAnswer) and self._take(session, answer)
            except SessionUnknownError:
                done = False
                self.state, self.reason = "waiting", "the session was lost"
            except DriverError as error:
                done = False
                self._say("waiting", f"this machine refuses: {error}")
            if done and not self._broken:
                began = asyncio.get_running_loop().time()
                await self._changed.wait()
                if asyncio.get_running_loop().time() - began > 10.0:
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    def _request(self) -> TunRequest:
        wanted = self._config.addresses or tuple(address.ip for address in self._addresses)
        return TunRequest(
            addresses=tuple(address.packed for address in wanted),
            prefixes=tuple(Prefix.of(network) for network in self._config.announced[:MAX_PREFIXES]),
            mtu=self._config.mtu,
            offloads=int(self.interface.device.takes),
        )

    def _take(self, session: int, answer: TunAnswer) -> bool:
        """Act on the server's answer; return whether the tunnel is granted. Raises DriverError."""
        if answer.code is not TunCode.GRANTED:
            self._say("refused", f"the server gives no addresses: {answer.reason}")
            return False
        if answer.reason:
            log.warning("tun: the server does not route all that is announced: %s", answer.reason)
        interface, config = self.interface, self._config
        self._addresses = tuple(address.interface() for address in answer.addresses)
        self._gateways = tuple(str(ip_address(gateway)) for gateway in answer.gateways)
        accepted = tuple(prefix.network() for prefix in answer.prefixes)
        self._accepted = tuple(map(str, accepted))
        interface.leave([answer.offloads])
        given = self._given = interface.configure(self._addresses, self._mtu())
        families = {address.version for address in given}
        for version in families:
            interface.missing.pop(f"IPv{version}", None)
        missing = {network.version for network in config.routes} - families
        for version in missing:
            interface.missing[f"IPv{version}"] = "the server, or this machine, has none in the tunnel: it goes nowhere"
        default = any(not network.prefixlen for network in config.routes)
        firewall = Firewall(
            interface.name,
            interface.mark,
            restore_marks=bool(config.routes),
            guarded=given if default else (),
        )
        if interface.set_firewall(firewall) and config.routes:
            interface.set_setting("ipv4/conf/all/src_valid_mark", "1")
        interface.set_forwarding({network.version for network in accepted} & families)
        made = plan(config.routes, config.excluded, interface.index, interface.slot, missing)
        interface.set_routes(made.routes, made.rules)
        if self._link is not None:
            self._link.set_tun_routes(session, [str(address.ip) for address in self._addresses], self._accepted)
            self._link.open_tun(session)
        return True

    def _mtu(self) -> int:
        return inner_mtu(self._lanes, self._config.mtu)

    def _say(self, state: str, reason: str) -> None:
        """Set the state, and log a reason that is a new one."""
        if reason != self.reason:
            log.warning("tun: %s", reason)
        self.state, self.reason = state, reason

    # --- the end, and what is shown

    def close(self) -> None:
        """Undo everything."""
        self.interface.close()

    def report(self) -> dict[str, object]:
        """Return the section of the status."""
        return {
            **self.interface.report(),
            "state": self.state,
            "reason": self.reason,
            "gateways": list(self._gateways),
            "announced": list(map(str, self._config.announced)),
            "accepted": list(self._accepted),
        }
