"""Making the UDP sockets that are handed to the data worker: for programs, for targets, and for listening.

They fragment as the kernel sees fit, unlike the tunnel's own sockets: programs may send datagrams of any size.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from drivers.errors import DriverError
from drivers.linux.reuseport import bind_shared
from drivers.linux.transparent import transparent_socket
from vantun.config_kinds import Endpoint
from vantun.control.connector import refusal
from vantun.control.resolver import Address, Resolver
from vantun.control.udp_link import UdpLink
from vantun.dataplane.ports import RefusalCode
from vantun.errors import ResourceError
from vantun.udp_messages import PROGRAM_IDLE

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 1 << 20
"""Bytes asked for where many sources share a socket; the kernel gives what net.core.rmem_max allows."""


def bind_relay(host: str) -> socket.socket:
    """Return a UDP socket for one SOCKS5 association, bound to a local IP address and any port.

    ``host`` is best the address at which the program has reached the TCP listener: it can reach that one.

    Raises
    ------
    ResourceError
        When there is no such address, or no descriptor left.
    """
    return _bind(host, 0)


def bind_listeners(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return UDP sockets that listen for many sources, one for each of ``count`` workers, on one address and port.

    The empty host is every address, of both families. A source stays with one socket (:func:`bind_shared`).

    Raises
    ------
    ResourceError
        When the address is taken, forbidden, or not of this machine.
    """
    if host:
        return _spread(count, lambda own, shared: _bind(host, own or port, shared=shared))
    try:
        return _spread(count, lambda own, shared: _bind("::", own or port, dual=True, shared=shared))
    except ResourceError:
        return _spread(count, lambda own, shared: _bind("0.0.0.0", own or port, shared=shared))


def bind_tproxies(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return UDP sockets for nft's ``tproxy``, one for each of ``count`` workers, on one address and port.

    IPv4 if ``host`` is empty or an IPv4 address, else IPv6. nft looks for a listener by the sender's address and port
    and this end's own, so a source stays with one socket whatever it sends to.

    Raises
    ------
    ResourceError
        When this process may not, or the address is taken.
    """
    return _spread(count, lambda own, shared: transparent_socket(host, own or port, listening=True, shared=shared))


def _spread(count: int, bind: Callable[[int, bool], socket.socket]) -> list[socket.socket]:
    try:
        sockets = bind_shared(count, bind)
    except DriverError as error:
        raise ResourceError(str(error)) from None
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sockets


def association_socket() -> socket.socket:
    """Return an unconnected UDP socket on any port, for IPv6 and IPv4; only for IPv4 where there is no IPv6.

    Raises
    ------
    ResourceError
        When no descriptor or port is left.
    """
    try:
        return _bind("::", 0, dual=True)
    except ResourceError:
        return _bind("0.0.0.0", 0)


def connected_socket(addresses: list[Address]) -> tuple[socket.socket, Address]:
    """Return a UDP socket connected to the first of ``addresses`` that has a route. Raises OSError."""
    failure = OSError("a target without addresses")
    for address in addresses:
        sock = socket.socket(address.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect((address.host, address.port))
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock, address
    raise failure


async def attach_reverse(
    link: UdpLink, resolver: Resolver, handle: int, target: Endpoint, idle: float = PROGRAM_IDLE
) -> RefusalCode | None:
    """Connect a flow that the server opened (``udp:reverse:ID``) to the target that this client has configured for it.

    Returns
    -------
    RefusalCode | None
        Why it cannot be connected: the caller refuses the flow with it.
    """
    try:
        sock, address = connected_socket(await resolver.resolve(target.host, target.port))
    except OSError as error:
        log.info("a reverse flow to %s is refused: %s", target, error.strerror or error)
        return refusal(error)
    link.attach_udp(handle, sock, (address.host.partition("%")[0], address.port), idle)
    return None


def _bind(host: str, port: int, *, dual: bool = False, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise ResourceError(f"no UDP socket for {host}: {error.strerror}; raise the limit on open files") from None
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "no such port"
        raise ResourceError(
            f"UDP {Endpoint(host, port)} cannot be bound: {reason}; choose an address of this machine and a free port"
        ) from None
    return sock
