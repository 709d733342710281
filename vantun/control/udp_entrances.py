"""The client's listening UDP sockets: forwards and TPROXY. The workers serve them, this end binds and lends them.

There is one for each worker on every address, and the kernel's hash says which of them a source is served by. All stay
open here, so that a source's place is the same whoever has died.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vantun.config_forwards import ForwardsConfig
from vantun.config_kinds import Endpoint
from vantun.control.listeners import Place, addresses
from vantun.control.places import MAX_SLICES
from vantun.control.resolver import Resolver
from vantun.control.udp_ends import bind_listeners, bind_tproxies
from vantun.udp_messages import UdpKind


class Link(Protocol):
    """What Crew is here."""

    def udp_places(self, session: int) -> Sequence[int]:
        """Return the workers that have a slice of a session, in the order of the slices."""

    def open_udp(
        self, session: int, kind: UdpKind, sock: socket.socket, *, target: str, idle: float, worker: int
    ) -> int:
        """See UdpLink."""

    def move_udp(self, number: int, session: int) -> None:
        """See UdpLink."""

    def close_udp(self, number: int) -> None:
        """See UdpLink."""


@dataclass
class _Entrance:
    name: str
    kind: UdpKind
    sock: socket.socket
    target: str
    timeout: float
    place: int
    """In the group of sockets on its address: the worker that is to serve it."""
    worker: int
    """The one that does."""
    number: int = 0


class UdpEntrances:
    """Sockets that outlive a worker: each new one gets copies."""

    def __init__(self, config: ForwardsConfig, workers: int = 1) -> None:
        self._config = config
        self._workers = min(workers, MAX_SLICES)
        self._entrances: list[_Entrance] = []
        self._link: Link | None = None
        self._session = 0

    async def listen(self, resolver: Resolver) -> None:
        """Bind everything. Raises ResourceError."""
        for forward in self._config.udp:
            for host in await _hosts("udpForwarding", forward.listen, resolver):
                self._add(
                    f"udp {forward.listen}",
                    bind_listeners(host, forward.listen.port, self._workers),
                    (UdpKind.FORWARD, str(forward.remote), forward.timeout),
                )
        listen = self._config.udp_tproxy
        if listen is not None:
            # A transparent socket is of one family: every address means two of them, where there is IPv6.
            both = ["0.0.0.0", "::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]
            for host in await _hosts("udpTProxy.listen", listen, resolver) if listen.host else both:
                sockets = bind_tproxies(host, listen.port, self._workers)
                self._add("udpTProxy", sockets, (UdpKind.TPROXY, "", self._config.udp_tproxy_timeout))

    def _add(self, name: str, sockets: Iterable[socket.socket], what: tuple[UdpKind, str, float]) -> None:
        kind, target, timeout = what
        for place, sock in enumerate(sockets):
            self._entrances.append(_Entrance(name, kind, sock, target, timeout, place, place))

    def begin(self, link: Link, gone: Callable[[int], bool] = lambda _number: True) -> None:
        """Lend the sockets, or those whose numbers are ``gone``, to a new worker."""
        self._link = link
        places = link.udp_places(self._session)
        for entrance in [each for each in self._entrances if gone(each.number)]:
            self._lend(entrance, places, link)

    def _lend(self, entrance: _Entrance, places: Sequence[int], link: Link) -> None:
        """Have the worker of an entrance's place serve it, or another one if that one has no slice of the session."""
        if entrance.number:
            link.close_udp(entrance.number)  # the command that opened it may have waited for this worker
        entrance.worker = _worker_of(entrance.place, places)
        entrance.number = link.open_udp(
            self._session,
            entrance.kind,
            entrance.sock.dup(),
            target=entrance.target,
            idle=entrance.timeout,
            worker=entrance.worker,
        )

    def move(self, session: int) -> None:
        """Use another session from now on; 0 = none. A server may grant it fewer slices than there are workers."""
        self._session = session
        if self._link is None:
            return
        places = self._link.udp_places(session)
        for entrance in self._entrances:
            if not session or _worker_of(entrance.place, places) == entrance.worker:
                self._link.move_udp(entrance.number, session)
            else:
                self._lend(entrance, places, self._link)

    def status(self) -> dict[str, object]:
        """Return where it listens."""
        return {
            entrance.name: {"listen": entrance.name.removeprefix("udp "), "target": entrance.target}
            for entrance in self._entrances
        }

    def close(self) -> None:
        """Close the sockets here and in the workers."""
        for entrance in self._entrances:
            if self._link is not None and entrance.number:
                self._link.close_udp(entrance.number)
            entrance.sock.close()
        self._entrances.clear()


def _worker_of(place: int, places: Sequence[int]) -> int:
    """Return who serves a place of a group, given the workers that have a slice; none = nobody knows yet."""
    return place if place in places or not places else places[place % len(places)]


async def _hosts(key: str, listen: Endpoint, resolver: Resolver) -> list[str]:
    """Return the IP addresses to bind; empty = every one."""
    if not listen.host:
        return [""]
    return [host for _, host in await addresses(Place(key, listen), resolver)]
