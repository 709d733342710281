"""The client's access list for UDP: the worker asks what becomes of a target, and this end answers.

As for connections: a name that goes through the tunnel is not looked up here, one that goes past it is judged again
with each of its addresses, and only an address that was judged is sent to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import TYPE_CHECKING

from vantun.acl import AccessList, Guard
from vantun.config_kinds import Endpoint
from vantun.control.connector import permitted
from vantun.control.resolver import Address, Resolver, literal
from vantun.udp_messages import AskUdp, UdpAction

if TYPE_CHECKING:
    from vantun.control.udp_link import UdpLink

log = logging.getLogger(__name__)

TIME_LIMIT = 10.0
"""Seconds for a lookup."""


class UdpRules:
    """Answers for one client.

    Attributes
    ----------
    rejected, direct
        Questions that were answered so; a target is asked for again now and then.
    mark
        Firewall mark of direct datagrams, by which they do not go into the client's own TUN; 0 = none.
    """

    def __init__(self, access: AccessList, resolver: Resolver) -> None:
        self.rejected = 0
        self.direct = 0
        self.mark = 0
        self._access = access
        self._resolver = resolver
        self._link: UdpLink | None = None
        self._lookups: set[asyncio.Task[None]] = set()

    def begin(self, link: UdpLink) -> None:
        """Serve a new worker, before it gets a socket of a program."""
        self._link = link
        self._tell()

    def renew(self, access: AccessList) -> None:
        """Judge by other rules from now on; what was answered is void."""
        self._access = access
        self._tell()

    def _tell(self) -> None:
        if self._link is not None:
            self._link.judge_udp(self.mark, judged=self._access.decides("udp"))

    def ask(self, message: AskUdp) -> None:
        """Answer the worker, now or after a lookup."""
        verdict = self._access.judge(message.host, None, message.port, "udp")
        if verdict.action == "allow":
            self._answer(message, UdpAction.TUNNEL)
        elif verdict.action == "reject":
            self._reject(message, verdict.reason)
        elif (written := literal(message.host, message.port)) is not None:
            self._direct(message, [written])
        else:  # their number is bounded by the worker's questions
            task = asyncio.get_running_loop().create_task(self._look_up(message))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _look_up(self, message: AskUdp) -> None:
        try:
            async with asyncio.timeout(TIME_LIMIT):
                addresses = await self._resolver.resolve(message.host, message.port)
        except OSError as error:  # TimeoutError is one
            self._reject(message, f"it has no address: {error}")
            return
        verdict = self._access.judge(message.host, None, message.port, "udp")
        if verdict.action == "direct":
            self._direct(message, addresses)
        else:  # the rules have changed meanwhile
            self.ask(message)

    def _direct(self, message: AskUdp, addresses: list[Address]) -> None:
        access = AccessList(self._access.rules, Guard.OWN)
        usable = [address for address in addresses if _usable(address)]
        try:
            first = permitted(access, Endpoint(message.host, message.port), usable, "udp", ("direct",))[0]
        except OSError as error:
            self._reject(message, str(error.strerror))
            return
        self.direct += 1
        self._answer(message, UdpAction.DIRECT, (first.host, first.port))

    def _reject(self, message: AskUdp, reason: str) -> None:
        self.rejected += 1
        log.info("UDP to %s is not sent: %s", Endpoint(message.host, message.port), reason)
        self._answer(message, UdpAction.REJECT)

    def _answer(self, message: AskUdp, action: UdpAction, address: tuple[str, int] = ("", 0)) -> None:
        if self._link is not None:
            self._link.udp_verdict(message.number, action, address)

    def status(self) -> dict[str, object]:
        """Return what it did."""
        return {"direct": self.direct, "rejected": self.rejected}

    async def abandon(self) -> None:
        """Give up what the worker had asked: it is gone, and the next one counts its questions anew."""
        self._link = None
        tasks = list(self._lookups)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _usable(address: Address) -> bool:
    """Tell whether datagrams can be sent there: a mapped address would reach an IPv4 host unjudged."""
    where = ipaddress.ip_address(address.host)
    return not (isinstance(where, ipaddress.IPv6Address) and (where.scope_id or where.ipv4_mapped))
