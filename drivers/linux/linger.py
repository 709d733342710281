"""How a TCP socket ends when it is closed: by a reset, or by an orderly end.

The difference survives the process: the kernel closes what a dead one leaves behind, and an orderly end would pass for
the end of the data.
"""

from __future__ import annotations

import socket
import struct

_RESET = struct.pack("ii", 1, 0)
_ORDERLY = struct.pack("ii", 0, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Have ``sock`` send RST when its last descriptor is closed, whoever closes it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def end_on_close(sock: socket.socket) -> None:
    """Undo :func:`reset_on_close`: FIN, unless bytes that were received are still unread."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ORDERLY)
