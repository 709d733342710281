"""UDP sockets for TPROXY: they receive what was sent to other machines, and answer in their name.

Needs CAP_NET_ADMIN, rules that bring the packets here (nft ``tproxy``) and a route that takes them for local ones.
Imports nothing heavy: the control process makes the listening sockets, a data worker those that answer.
Source: Linux, Documentation/networking/tproxy.rst; ip(7), ipv6(7).
"""

from __future__ import annotations

import errno
import ipaddress
import socket

from drivers.errors import DriverError, SystemCallError

IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
IP_RECVORIGDSTADDR = 20
IPV6_RECVORIGDSTADDR = 74


def transparent_socket(host: str, port: int, *, listening: bool, shared: bool = False) -> socket.socket:
    """Return a non-blocking UDP socket bound to an IP address, which need not be one of this machine.

    Parameters
    ----------
    host, port
        The empty host with ``listening`` is every IPv4 address; ``::`` every IPv6 one.
    listening
        Whether the original destination is to be told beside each datagram.
    shared
        Whether others, which share it, too, may have the address: SO_REUSEPORT, before it is bound.

    Raises
    ------
    DriverError
        When the host is a name, or the port out of range.
    SystemCallError
        When the kernel refuses.
    """
    host = host or "0.0.0.0"
    try:
        six = ipaddress.ip_address(host).version == 6
    except ValueError:
        raise DriverError(f"{host!r} is not an IP address for a transparent socket; give one") from None
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(0)
        sock.setsockopt(level, IPV6_TRANSPARENT if six else IP_TRANSPARENT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if listening:
            sock.setsockopt(level, IPV6_RECVORIGDSTADDR if six else IP_RECVORIGDSTADDR, 1)
        sock.bind((host, port))
    except OverflowError:
        sock.close()
        raise DriverError(f"port {port} of {host!r} is out of range; give 0 to 65535") from None
    except OSError as error:
        sock.close()
        number = error.errno or 0
        step = "run with CAP_NET_ADMIN" if number == errno.EPERM else "see `ss -ulpn` and `ip address`"
        raise SystemCallError(f"making a transparent UDP socket on {host} port {port}", number, step) from None
    return sock
