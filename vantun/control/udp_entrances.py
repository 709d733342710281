"""The client's listening UDP sockets: forwards and TPROXY. The worker serves them, this end binds and lends them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantun.config_forwards import ForwardsConfig
from vantun.control.listeners import ListenError, Place, addresses, make_transparent
from vantun.control.resolver import Resolver
from vantun.udp_messages import UdpKind

if TYPE_CHECKING:
    from vantun.control.udp_link import UdpLink

IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR = 20, 74
"""linux/in.h, linux/in6.h; Python does not name them."""


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
            place = Place("udpForwarding", forward.listen)
            for family, host in await addresses(place, resolver):
                sock = _bind(place, family, host)
                name = f"udp {forward.listen}"
                entrance = _Entrance(name, UdpKind.FORWARD, sock, str(forward.remote), forward.timeout)
                self._entrances.append(entrance)
        if self._config.udp_tproxy is not None:
            place = Place("udpTProxy.listen", self._config.udp_tproxy, transparent=True)
            for family, host in await addresses(place, resolver):
                sock = _bind(place, family, host)
                timeout = self._config.udp_tproxy_timeout
                self._entrances.append(_Entrance("udpTProxy", UdpKind.TPROXY, sock, "", timeout))

    def begin(self, link: UdpLink) -> None:
        """Lend the sockets to a new worker."""
        self._link = link
        for entrance in self._entrances:
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


def _bind(place: Place, family: socket.AddressFamily, host: str) -> socket.socket:
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" and not place.listen.host else 1)
        if place.transparent:
            make_transparent(sock)
            sock.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
        sock.bind((host, place.listen.port))
    except OSError as error:
        if sock is not None:
            sock.close()
        raise ListenError(place, host, error) from None
    return sock
