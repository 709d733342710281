"""A connection through a SOCKS5 proxy, as a blocking socket (RFC 1928, RFC 1929): for commands, the demo and tests."""

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
    7: "the proxy does not do CONNECT",
    8: "the proxy does not know this kind of address",
}
_NO_LOGIN, _USER_PASSWORD = b"\x05\x01\x00", b"\x05\x01\x02"

Address = tuple[str, int]


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
    sock = socket.create_connection(proxy, patience)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _introduce(sock, proxy, login)
        sock.sendall(b"\x05\x01\x00" + _target(*target))
        code, kind = _exactly(sock, 4)[1::2]
        if code:
            reason = _REFUSALS.get(code, f"code {code}")
            raise VantunError(f"the proxy {proxy[0]}:{proxy[1]} refused {target[0]}:{target[1]}: {reason}")
        _exactly(sock, {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0])
        _exactly(sock, 2)
    except BaseException:
        sock.close()
        raise
    return sock


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
