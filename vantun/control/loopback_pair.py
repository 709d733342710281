"""Two TCP sockets that are connected to each other: the worker takes the sockets of a network only."""

from __future__ import annotations

import socket

_TRIES = 16
"""Connections of strangers, who happen on the port, that are turned away."""


def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, which do not block.

    Raises
    ------
    OSError
        When there is no descriptor or port left.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=_TRIES) as listener:
        near = socket.create_connection(listener.getsockname())  # the kernel completes it at once, before accept
        try:
            far = _accept(listener, near)
        except BaseException:
            near.close()
            raise
    for sock in (near, far):
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def _accept(listener: socket.socket, near: socket.socket) -> socket.socket:
    for _ in range(_TRIES):
        far, peer = listener.accept()
        if peer == near.getsockname():
            return far
        far.close()
    raise ConnectionError("strangers connect to every port of the loopback at once")
