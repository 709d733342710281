"""Connections and datagrams through a SOCKS5 proxy, as blocking sockets (RFC 1928, RFC 1929): for commands, tests."""

from __future__ import annotations

import ipaddress
import socket

from vantun.errors import VantunError

_REFUSALS = {
    1: "general failure",
    2: "not allowed; see the access rules of server and client",
    3: "network unreachable; is a path up? `vantun status` tells",
    4: "host unreachable, or its name is unknown",
    5: "connection refused",
    6: "timed out",
    7: "the proxy does not do this; see socks5.disableUDP",
    8: "the proxy does not know this kind of address",
}
_NO_LOGIN, _USER_PASSWORD = b"\x05\x01\x00", b"\x05\x01\x02"

_CONNECT, _UDP_ASSOCIATE = 1, 3

Address = tuple[str, int]


class RefusedError(VantunError):
    """The proxy says no.

    Attributes
    ----------
    code
        Its reply (RFC 1928, section 6).
    """

    def __init__(self, code: int, what: str) -> None:
        self.code = code
        super().__init__(f"{what}: {_REFUSALS.get(code, f'code {code}')}")


def connect_through(
    proxy: Address, target: Address, login: tuple[str, str] | None = None, patience: float = 20.0
) -> socket.socket:
    """Return a connection to ``target`` (a name or an address, and a port) through ``proxy``.

    Parameters
    ----------
    login
        User name and password, if the proxy asks for them.
    patience
        Seconds for each step, and the time-out of the socket that is returned.

    Raises
    ------
    VantunError
        When the proxy refuses, and why.
    OSError
        When it cannot be reached.
    """
    return _ask(proxy, _CONNECT, target, login, patience)[0]


def associate(
    proxy: Address, login: tuple[str, str] | None = None, patience: float = 20.0
) -> tuple[socket.socket, Address]:
    """Begin a UDP association (RFC 1928, section 7), and end it by closing the socket that is returned.

    Datagrams go to the address that is returned with it, behind the header of RFC 1928. Parameters and exceptions are
    those of :func:`connect_through`.
    """
    sock, (host, port) = _ask(proxy, _UDP_ASSOCIATE, ("0.0.0.0", 0), login, patience)
    return sock, (str(sock.getpeername()[0]) if host in ("0.0.0.0", "::") else host, port)


def _ask(
    proxy: Address, command: int, target: Address, login: tuple[str, str] | None, patience: float
) -> tuple[socket.socket, Address]:
    """Return the connection to the proxy after its consent, and the address that it is bound to."""
    sock = socket.create_connection(proxy, patience)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _introduce(sock, proxy, login)
        sock.sendall(bytes((5, command, 0)) + _target(*target))
        code, kind = _exactly(sock, 4)[1::2]
        if code:
            what = "UDP" if command == _UDP_ASSOCIATE else f"{target[0]}:{target[1]}"
            raise RefusedError(code, f"the proxy {proxy[0]}:{proxy[1]} refused {what}")
        address = _exactly(sock, {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0])
        port = int.from_bytes(_exactly(sock, 2), "big")
    except BaseException:
        sock.close()
        raise
    return sock, (str(ipaddress.ip_address(address)) if kind in (1, 4) else address.decode("latin-1"), port)


def _introduce(sock: socket.socket, proxy: Address, login: tuple[str, str] | None) -> None:
    sock.sendall(_NO_LOGIN if login is None else _USER_PASSWORD)
    if _exactly(sock, 2)[1] == 0xFF:
        wants = "asks for a login" if login is None else "takes no login"
        raise VantunError(f"the proxy {proxy[0]}:{proxy[1]} {wants}; see socks5.username in the client's file")
    if login is None:
        return
    user, password = (text.encode() for text in login)
    sock.sendall(bytes((1, len(user))) + user + bytes((len(password),)) + password)
    if _exactly(sock, 2)[1]:
        raise VantunError(f"the proxy {proxy[0]}:{proxy[1]} does not accept user {login[0]!r}; see socks5.password")


def _target(host: str, port: int) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes((3, len(name))) + name + port.to_bytes(2, "big")
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed + port.to_bytes(2, "big")


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise VantunError(f"the proxy closed the connection after {len(data)} of {count} bytes of its answer")
        data += part
    return data
