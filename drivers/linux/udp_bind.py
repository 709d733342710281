"""Binding UDP sockets and sizing their buffers: all that a process without a data plane needs of UDP.

Imports nothing heavy. The control process binds here and hands the socket to a worker, which adopts it
(:meth:`drivers.linux.udp.UdpSocket.adopt`).
"""

from __future__ import annotations

import errno
import ipaddress
import socket

from drivers.errors import DriverError, SystemCallError

RECEIVE_BUFFER = 4 << 20
"""Bytes of socket buffer asked for by default: 30 ms at 1 Gbit/s."""
SEND_BUFFER = 4 << 20

_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3

_NEXT_STEP = {
    errno.EADDRINUSE: "stop the program that holds it (see `ss -ulpn`), or choose another port",
    errno.EACCES: "run with CAP_NET_BIND_SERVICE, or choose a port above 1023",
    errno.EPERM: "run with CAP_NET_BIND_SERVICE, or choose a port above 1023",
    errno.EADDRNOTAVAIL: "choose an address of this machine (see `ip address`)",
    errno.EAFNOSUPPORT: "choose an IPv4 address, or enable IPv6 (sysctl -w net.ipv6.conf.all.disable_ipv6=0)",
}

_INTERFACE_STEP = {
    errno.ENODEV: "connect or create it (`ip link` lists those of this machine)",
    errno.EPERM: "run as root or give CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)",
}


def bind_udp(
    host: str,
    port: int,
    *,
    receive_buffer: int = RECEIVE_BUFFER,
    send_buffer: int = SEND_BUFFER,
    interface: str = "",
    shared: bool = False,
) -> socket.socket:
    """Return a non-blocking UDP socket bound to an IP literal and a port (0 = any).

    The empty host is every address of the machine, of both families if it has IPv6 (look at ``family``). Buffers are in
    bytes; ask :func:`buffer_warning` what the kernel made of them. With ``interface`` packets use that one alone.
    ``shared`` joins the sockets that are there already (SO_REUSEPORT, :mod:`drivers.linux.reuseport`).

    Raises
    ------
    DriverError
        When the host is a name, or the port out of range.
    SystemCallError
        When the address is taken, forbidden or not of this machine, or the interface is missing or forbidden.
    """
    try:
        sock = _bound(host or "::", port, dual=not host, interface=interface, shared=shared)
    except SystemCallError as error:
        if host or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        sock = _bound("0.0.0.0", port, dual=False, interface=interface, shared=shared)
    for size, force, plain in (
        (receive_buffer, _SO_RCVBUFFORCE, socket.SO_RCVBUF),
        (send_buffer, _SO_SNDBUFFORCE, socket.SO_SNDBUF),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:  # without CAP_NET_ADMIN: as much as net.core.*mem_max allows, see buffer_warning()
            sock.setsockopt(socket.SOL_SOCKET, plain, size)
    prepare(sock)
    return sock


def prepare(sock: socket.socket) -> None:
    """Make a socket non-blocking, and have it probe the path MTU.

    PMTUDISC_PROBE: never fragment, and believe only the interface's MTU. A forged ICMP message cannot shrink the path
    (RFC 8899, section 4.6.1); the data plane finds the MTU itself.
    """
    sock.settimeout(0)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)


def buffer_warning(sock: socket.socket, receive_buffer: int, send_buffer: int) -> str | None:
    """Return what is wrong with the buffers that were asked for and how to mend it, or None if they are as asked."""
    warnings = []
    for asked, option, name, key in (
        (receive_buffer, socket.SO_RCVBUF, "receive", "rmem_max"),
        (send_buffer, socket.SO_SNDBUF, "send", "wmem_max"),
    ):
        # The kernel doubles what is set, for its own bookkeeping, and reports the double (socket(7)).
        granted = sock.getsockopt(socket.SOL_SOCKET, option) // 2
        if granted < asked:
            warnings.append(
                f"the kernel gave {granted} bytes of UDP {name} buffer where {asked} were asked; "
                f"run `sysctl -w net.core.{key}={asked}` and start again"
            )
    return "; ".join(warnings) or None


def _tie(sock: socket.socket, interface: str) -> None:
    """Have a socket use one interface alone. Raises SystemCallError."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        step = _INTERFACE_STEP.get(error.errno or 0, "see `ip link`")
        raise SystemCallError(f"using the interface {interface} alone", error.errno or 0, step) from None


def _bound(host: str, port: int, *, dual: bool, interface: str, shared: bool) -> socket.socket:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise DriverError(f"{host!r} is not an IP address to bind UDP to; give one, or nothing for all") from None
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        if dual:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if interface:
            _tie(sock, interface)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except SystemCallError:
        assert sock is not None
        sock.close()
        raise
    except (OSError, OverflowError) as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OverflowError):
            raise DriverError(f"port {port} of {host!r} is out of range; give 0 to 65535") from None
        number = error.errno or 0
        step = _NEXT_STEP.get(number, "see `ip address`")
        raise SystemCallError(f"binding UDP {host} port {port}", number, step) from None
    return sock
