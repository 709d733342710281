"""The client's listening UDP sockets: forwards and TPROXY. The worker serves them, this end binds and lends them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantun.config_forwards import ForwardsConfig
from vantun.config_kinds import Endpoint
from vantun.control.listeners import Place, addresses
from vantun.control.resolver import Resolver
from vantun.control.udp_ends import bind_listener, bind_tproxy
from vantun.udp_messages import UdpKind

if TYPE_CHECKING:
    from vantun.control.udp_link import UdpLink


@dataclass
class _Entrance:
    name: str
    kind: UdpKind
    sock: socket.socket
    target: str
    timeout: float
    number: int = 0


class UdpEntrances:
    """Sockets that outlive a worker: each new one gets copies."""

    def __init__(self, config: ForwardsConfig) -> None:
        self._config = config
        self._entrances: list[_Entrance] = []
        self._link: UdpLink | None = None
        self._session = 0

    async def listen(self, resolver: Resolver) -> None:
        """Bind everything. Raises ResourceError."""
        for forward in self._config.udp:
            name = f"udp {forward.listen}"
            for host in await _hosts("udpForwarding", forward.listen, resolver):
                sock = bind_listener(host, forward.listen.port)
                self._entrances.append(_Entrance(name, UdpKind.FORWARD, sock, str(forward.remote), forward.timeout))
        listen = self._config.udp_tproxy
        if listen is not None:
            # A transparent socket is of one family: every address means two of them, where there is IPv6.
            both = ["0.0.0.0", "::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]
            for host in await _hosts("udpTProxy.listen", listen, resolver) if listen.host else both:
                sock = bind_tproxy(host, listen.port)
                timeout = self._config.udp_tproxy_timeout
                self._entrances.append(_Entrance("udpTProxy", UdpKind.TPROXY, sock, "", timeout))

    def begin(self, link: UdpLink, gone: Callable[[int], bool] = lambda _number: True) -> None:
        """Lend the sockets, or those whose numbers are ``gone``, to a new worker."""
        self._link = link
        for entrance in [each for each in self._entrances if gone(each.number)]:
            entrance.number = link.open_udp(
                self._session,
                entrance.kind,
                entrance.sock.dup(),
                target=entrance.target,
                idle=entrance.timeout,
            )

    def move(self, session: int) -> None:
        """Use another session from now on; 0 = none."""
        self._session = session
        if self._link is not None:
            for entrance in self._entrances:
                self._link.move_udp(entrance.number, session)

    def status(self) -> dict[str, object]:
        """Return where it listens."""
        return {
            entrance.name: {"listen": entrance.name.removeprefix("udp "), "target": entrance.target}
            for entrance in self._entrances
        }

    def close(self) -> None:
        """Close the sockets here and in the worker."""
        for entrance in self._entrances:
            if self._link is not None and entrance.number:
                self._link.close_udp(entrance.number)
            entrance.sock.close()
        self._entrances.clear()


async def _hosts(key: str, listen: Endpoint, resolver: Resolver) -> list[str]:
    """Return the IP addresses to bind; empty = every one."""
    if not listen.host:
        return [""]
    return [host for _, host in await addresses(Place(key, listen), resolver)]
