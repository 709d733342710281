"""All the ways in that a client offers to programs, opened together and closed together."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vantun.config import ClientConfig
from vantun.config_kinds import Endpoint
from vantun.control.associations import Associations
from vantun.control.dialer import SILENT, Dialer
from vantun.control.listeners import Listener, Place
from vantun.control.programs import Programs
from vantun.control.resolver import Resolver
from vantun.control.transparent import Transparent
from vantun.control.udp_entrances import UdpEntrances
from vantun.dataplane.ports import RefusalCode

if TYPE_CHECKING:
    from vantun.control.crew import Crew

Serve = Callable[[socket.socket], Awaitable[str | None]]


class Entrances:
    """Listeners of a client. Made by :meth:`start`."""

    def __init__(self, dialer: Dialer, associations: Associations, udp: UdpEntrances) -> None:
        self._dialer = dialer
        self._associations = associations
        self._udp = udp
        self.listeners: dict[str, Listener] = {}
        """By name of the mode; forwards by their listening address."""

    @classmethod
    async def start(
        cls, config: ClientConfig, resolver: Resolver, dialer: Dialer, associations: Associations, workers: int = 1
    ) -> Entrances:
        """Listen for all that ``config`` names, on each UDP address with a socket per worker. Raises ResourceError."""
        made = cls(dialer, associations, UdpEntrances(config.forwards, workers))
        try:
            for name, place, serve in made._plan(config):
                made.listeners[name] = await Listener.start(place, resolver, serve)
            await made._udp.listen(resolver)
        except BaseException:
            await made.close()
            raise
        return made

    def _plan(self, config: ClientConfig) -> list[tuple[str, Place, Serve]]:
        dialer, forwards, http = self._dialer, config.forwards, config.http
        plan: list[tuple[str, Place, Serve]] = []
        if config.socks5 is not None:
            associate = self._associations.open if config.socks5.udp else _no_udp
            both = http is not None and http.listen == config.socks5.listen
            programs = Programs(dialer, associate, config.socks5, http if both else None)
            plan.append(("socks5", Place("socks5.listen", config.socks5.listen), programs.serve))
            http = None if both else http
        if http is not None:
            programs = Programs(dialer, _no_udp, None, http)
            plan.append(("http", Place("http.listen", http.listen), programs.serve))
        for forward in forwards.tcp:
            place = Place("tcpForwarding", forward.listen)
            plan.append((f"tcp {forward.listen}", place, _forwarder(dialer, forward.remote)))
        if forwards.tcp_tproxy is not None:
            place = Place("tcpTProxy.listen", forwards.tcp_tproxy, transparent=True)
            plan.append(("tcpTProxy", place, Transparent(dialer, redirected=False).serve))
        if forwards.tcp_redirect is not None:
            place = Place("tcpRedirect.listen", forwards.tcp_redirect)
            plan.append(("tcpRedirect", place, Transparent(dialer, redirected=True).serve))
        return plan

    def begin(self, link: Crew) -> None:
        """Give the listening UDP sockets to a new worker."""
        self._udp.begin(link)

    def rejoin(self, link: Crew, gone: Callable[[int], bool]) -> None:
        """Give the listening UDP sockets whose numbers are ``gone`` to a new worker."""
        self._udp.begin(link, gone)

    def move(self, session: int) -> None:
        """Have the listening UDP sockets use another session (0 = none)."""
        self._udp.move(session)

    def status(self) -> dict[str, object]:
        """Return the listeners and what they did."""
        forwards = {name: listener.status() for name, listener in self.listeners.items()}
        return {
            **{name: forwards.pop(name) for name in ("socks5", "http") if name in forwards},
            "forwards": {**forwards, **self._udp.status()},
            "access": {**self._dialer.status(), "udp_associations": len(self._associations)},
        }

    def summary(self) -> str:
        """Return in a few words what is served, for the log."""
        names = {"socks5": "SOCKS5", "http": "HTTP"}
        words = [f"{names.get(name, name)} on {entry.place.listen}" for name, entry in self.listeners.items()]
        return ", ".join([*words, *self._udp.status()]) or "no proxy"

    async def close(self) -> None:
        """Stop listening, and end what does not go through the worker."""
        for listener in self.listeners.values():
            await listener.close()
        self._udp.close()
        await self._associations.close()
        await self._dialer.close()


def _forwarder(dialer: Dialer, remote: Endpoint) -> Serve:
    async def serve(sock: socket.socket) -> str | None:
        code = await dialer.open(remote, sock, SILENT)
        return None if code is None else f"{remote} cannot be opened now: {code.name.lower().replace('_', ' ')}"

    return serve


async def _no_udp(_sock: socket.socket, _port: int) -> RefusalCode | None:
    return RefusalCode.NOT_ALLOWED
