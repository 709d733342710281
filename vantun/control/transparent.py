"""Connections that the firewall diverts here: TPROXY and REDIRECT (iptables-extensions(8), nft(8)).

The target is what the program wanted to connect to. With TPROXY it is the socket's own address; with REDIRECT the
kernel's connection tracking knows it (SO_ORIGINAL_DST).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct

from vantun.acl import unmapped
from vantun.config_kinds import Endpoint
from vantun.control.dialer import SILENT, Dialer

SO_ORIGINAL_DST = 80
"""linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST has the same number."""


class LoopError(Exception):
    """A connection that would lead back to the proxy."""


def original_target(sock: socket.socket) -> Endpoint:
    """Return where a redirected connection was to go. Raises OSError when the kernel does not know it."""
    where = str(sock.getsockname()[0])
    if sock.family == socket.AF_INET or "." in where:
        raw = sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
        port, packed = struct.unpack_from("!2xH4s", raw)
        return Endpoint(socket.inet_ntop(socket.AF_INET, packed), port)
    raw = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    port, packed = struct.unpack_from("!2xH4x16s", raw)
    return Endpoint(socket.inet_ntop(socket.AF_INET6, packed), port)


def plain(where: tuple[object, ...]) -> Endpoint:
    """Return a socket's address without a zone, an IPv4-mapped one as IPv4."""
    address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    return Endpoint(str(unmapped(address)), int(str(where[1])))


def is_local(host: str) -> bool:
    """Tell whether an address is this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


class Transparent:
    """Serves one port; :meth:`serve` is what a Listener calls."""

    def __init__(self, dialer: Dialer, *, redirected: bool) -> None:
        self._dialer = dialer
        self._redirected = redirected

    async def serve(self, sock: socket.socket) -> str | None:
        """See listeners.Serve."""
        try:
            target = self._target(sock)
        except LoopError as error:
            return str(error)
        code = await self._dialer.open(target, sock, SILENT)
        return None if code is None else f"{target} cannot be opened now: {code.name.lower().replace('_', ' ')}"

    def _target(self, sock: socket.socket) -> Endpoint:
        here, program = plain(sock.getsockname()), plain(sock.getpeername())
        if program.port in self._dialer.own_ports and is_local(program.host):
            raise LoopError("it is this client's own: the firewall leads it back here; exclude the client's user there")
        if not self._redirected:
            if is_local(here.host):
                raise LoopError("it was not diverted: only connections that a TPROXY rule diverts are served here")
            return here
        try:
            target = original_target(sock)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOPROTOOPT):
                raise
            raise LoopError("it was not redirected: only connections of a REDIRECT rule are served here") from None
        if target == here:
            raise LoopError("it was not redirected: only connections of a REDIRECT rule are served here")
        return target
