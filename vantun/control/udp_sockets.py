"""Binding the UDP sockets of an appliance, and saying once what is wrong with their buffers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from drivers.errors import Capability, DriverError, Unavailable
from drivers.linux.ethtool import device_towards, probe_uso
from drivers.linux.reuseport import bind_group
from drivers.linux.udp_bind import RECEIVE_BUFFER, SEND_BUFFER, bind_udp, buffer_warning
from vantun.control.resolver import Address
from vantun.errors import ResourceError

_MOST_DEVICES = 16
_MOST_PEERS = 64
"""Peers that a status asks the routes to: many clients come by few interfaces."""
log = logging.getLogger(__name__)


class UdpSockets:
    """Makes sockets, and remembers whether the kernel gave the buffers that were asked for."""

    def __init__(
        self,
        workers: int = 1,
        probe: Callable[[str], Capability | Unavailable] = probe_uso,
        towards: Callable[[str], str | None] = device_towards,
    ) -> None:
        self.workers = workers
        """So many sockets make a group."""
        self._probe = probe
        self._towards = towards
        self._devices: tuple[str, ...] = ()
        """By which paths have left, the last ones."""
        self.warning: str | None = None
        """What the kernel refused, and the sysctl that grants it."""
        self.unsteered = ""
        """Why the kernel's hash alone says which worker gets a datagram; empty while a program does."""
        self.mark = 0
        """Mark of every socket, so that packets of the tunnel itself are not sent into it; 0 = none."""

    def bind(self, host: str, port: int, interface: str = "") -> list[socket.socket]:
        """Return a socket for each worker, bound to an IP address (empty = every one, of both families) and a port.

        Port 0 = any. With ``interface`` they use that one alone.

        Raises
        ------
        ResourceError
            When the kernel refuses, with the next step.
        """

        def bind_one(own: int, shared: bool) -> socket.socket:  # noqa: FBT001 - called by place
            return bind_udp(host, own or port, interface=interface, shared=shared)

        try:
            group = bind_group(self.workers, bind_one)
        except DriverError as error:
            raise ResourceError(str(error)) from None
        try:
            for sock in group.sockets if self.mark else ():
                set_mark(sock, self.mark)
        except ResourceError:
            for sock in group.sockets:
                sock.close()
            raise
        if not group.steered and group.reason != self.unsteered:
            self.unsteered = group.reason
            log.warning("workers hand datagrams over to each other: %s", group.reason)
        warning = buffer_warning(group.sockets[0], RECEIVE_BUFFER, SEND_BUFFER)
        if warning is not None and self.warning is None:
            self.warning = warning
            log.warning("bursts may be lost: %s", warning)
        return group.sockets

    def bind_towards(self, peer: Address, source: str, interface: str = "") -> list[socket.socket]:
        """Return sockets for packets to ``peer``, from ``source`` and by ``interface`` alone if they are not empty.

        Raises ResourceError.
        """
        device = interface or self._towards(peer.host)
        if device is not None and device not in self._devices:
            self._devices = (*self._devices, device)[-_MOST_DEVICES:]
        return self.bind(source or ("::" if peer.family == socket.AF_INET6 else "0.0.0.0"), 0, interface)

    def fallbacks(self, lanes: object = ()) -> list[dict[str, object]]:
        """Return the fallbacks in force for `vantun status`: small buffers, no steering, interfaces without USO.

        Parameters
        ----------
        lanes
            Of the status. A server learns from them by which interfaces it sends, a client knew when it bound.
        """
        found: list[dict[str, object]] = []
        if self.warning:
            found.append({"what": "smaller UDP socket buffers", "reason": self.warning})
        if self.unsteered:
            found.append({"what": "datagrams handed over between workers", "reason": self.unsteered})
        for device in self._devices or self._of_peers(lanes):
            answer = self._probe(device)
            if isinstance(answer, Unavailable) and "does not split" in answer.reason:
                found.append({"what": "UDP split by the kernel", "reason": answer.reason, "next": answer.next_step})
        return found

    def _of_peers(self, lanes: object) -> list[str]:
        """Return the interfaces by which packets leave to the peers of some lanes."""
        rows = lanes if isinstance(lanes, list) else []
        hosts = {str(row.get("peer", "")).rpartition(":")[0] for row in rows if isinstance(row, dict)} - {""}
        found = (self._towards(host) for host in sorted(hosts)[:_MOST_PEERS])
        return list(dict.fromkeys(device for device in found if device is not None))


def set_mark(sock: socket.socket, mark: int) -> None:
    """Give a socket the mark that rules know it by; raises ResourceError, and closes it, without the privilege."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    except OSError as error:
        sock.close()
        step = "run as root or give CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN)"
        raise ResourceError(f"tun: a socket cannot be marked: {error.strerror}; {step}") from None
