"""The server's side of UDP associations: sockets for them, and verdicts and addresses for each new destination."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vantun.acl import AccessList
from vantun.config_kinds import Endpoint
from vantun.control.connector import permitted
from vantun.control.resolver import Address, Resolver, literal
from vantun.control.udp_ends import association_socket
from vantun.control.udp_link import UdpLink
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import ASSOCIATION_IDLE, ResolveUdp

log = logging.getLogger(__name__)

TIME_LIMIT = 10.0
"""Seconds for a lookup."""
LOOKUPS = 1024
"""Lookups of all associations at once; each association has a bound of its own in the worker."""


@dataclass(frozen=True)
class UdpLimits:
    """How many associations there may be, and how long one may be silent (seconds)."""

    per_session: int = 1024
    per_user: int = 4096
    idle: float = ASSOCIATION_IDLE


@dataclass(frozen=True)
class _Association:
    session: int
    user: str
    family: socket.AddressFamily


BuiltIn = Callable[[str], tuple[bool, tuple[str, int] | None]]
"""Says of a name whether it is one of the server's own services, and its address, or None when it is not served now."""


def _none_built_in(_host: str) -> tuple[bool, None]:
    return False, None


class UdpConnector:
    """Opens associations and judges their destinations.

    Parameters
    ----------
    built_in
        Names that are neither looked up nor judged.

    Attributes
    ----------
    access
        Judges destinations; may be replaced. A destination in use is judged again every minute.
    denied
        Destinations that the access list refused.
    """

    def __init__(
        self,
        link: UdpLink,
        resolver: Resolver,
        access: AccessList | None = None,
        limits: UdpLimits | None = None,
        built_in: BuiltIn = _none_built_in,
    ) -> None:
        self.access = access if access is not None else AccessList()
        self.denied = 0
        self._link = link
        self._resolver = resolver
        self._limits = limits or UdpLimits()
        self._built_in = built_in
        self._open: dict[int, _Association] = {}
        self._sessions: Counter[int] = Counter()
        self._users: Counter[str] = Counter()
        self._lookups: dict[asyncio.Task[None], int] = {}

    def __len__(self) -> int:
        """Return the number of associations."""
        return len(self._open)

    def open(self, handle: int, session: int, user: str) -> RefusalCode | None:
        """Attach a socket to a flow to ``udp:``; return why not, then the caller refuses the flow."""
        self.cancel(handle)
        if self._sessions[session] >= self._limits.per_session or self._users[user] >= self._limits.per_user:
            log.warning("session %x (%s): an association is refused, there are too many", session, user)
            return RefusalCode.GENERAL
        try:
            sock = association_socket()
        except ResourceError as error:
            log.warning("session %x (%s): an association is refused: %s", session, user, error)
            return RefusalCode.GENERAL
        self._open[handle] = _Association(session, user, socket.AddressFamily(sock.family))
        self._sessions[session] += 1
        self._users[user] += 1
        self._link.attach_udp(handle, sock, idle=self._limits.idle)
        return None

    def cancel(self, handle: int) -> None:
        """Forget an association that has ended."""
        known = self._open.pop(handle, None)
        if known is None:
            return
        self._sessions -= Counter([known.session])  # what falls to 0 is dropped
        self._users -= Counter([known.user])
        for task in [task for task, owner in self._lookups.items() if owner == handle]:
            task.cancel()

    def cancel_those(self, gone: Callable[[int], bool]) -> None:
        """Forget the associations whose handles are ``gone``: their worker is."""
        for handle in [handle for handle in self._open if gone(handle)]:
            self.cancel(handle)

    async def close(self) -> None:
        """Give up every lookup."""
        tasks = list(self._lookups)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.clear()
        self._sessions.clear()
        self._users.clear()

    # --- destinations

    def resolve(self, message: ResolveUdp) -> None:
        """Answer the worker's question about a destination, now or after a lookup."""
        known = self._open.get(message.handle)
        if known is None:
            return
        is_own, address = self._built_in(message.host)
        if is_own:
            self._link.udp_target(message.handle, message.number, address)
            return
        written = literal(message.host, message.port)
        if written is not None:
            self._answer(message, known, [written])
            return
        if len(self._lookups) >= LOOKUPS:
            log.warning("a destination is refused: %d lookups are under way", len(self._lookups))
            self._link.udp_target(message.handle, message.number, None)
            return
        task = asyncio.get_running_loop().create_task(self._look_up(message, known))
        self._lookups[task] = message.handle
        task.add_done_callback(self._lookups.pop)

    async def _look_up(self, message: ResolveUdp, known: _Association) -> None:
        addresses: list[Address] = []
        try:
            async with asyncio.timeout(TIME_LIMIT):
                addresses = await self._resolver.resolve(message.host, message.port)
        except OSError as error:  # TimeoutError is one
            log.debug("UDP to %s: no address: %s", message.host, error)
        self._answer(message, known, addresses)

    def _answer(self, message: ResolveUdp, known: _Association, addresses: list[Address]) -> None:
        target = Endpoint(message.host, message.port)
        usable = [address for address in addresses if _fits(address, known.family)]
        chosen: tuple[str, int] | None = None
        if usable:
            try:
                first = permitted(self.access, target, usable, "udp")[0]
                chosen = (first.host, first.port)
            except OSError as error:
                self.denied += 1
                log.info("session %x (%s): UDP refused: %s", known.session, known.user, error.strerror)
        self._link.udp_target(message.handle, message.number, chosen)


def _fits(address: Address, family: socket.AddressFamily) -> bool:
    """Tell whether a socket of ``family`` can send there; a mapped address would reach an IPv4 host unjudged."""
    if family == socket.AF_INET and address.family != socket.AF_INET:
        return False
    where = ipaddress.ip_address(address.host)
    return not (isinstance(where, ipaddress.IPv6Address) and (where.scope_id or where.ipv4_mapped))
