"""Both ends of one stream through a proxy: ``python -m benchmarks.line_stream serve|connect``; prints JSON.

The far end serves on side b; the near end connects through SOCKS5, or to a port that leads there. What is counted is
what the receiver got in a time that it takes itself (not every proxy can end one direction of a stream); it is thrown
away in the kernel (MSG_TRUNC), so that the ends cost as little as those of iperf3.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import threading
import time
from contextlib import suppress

from vantun.socks5_client import connect_through

_BLOCK = 1 << 20
_REPORT = struct.Struct("!Qd")
UP, DOWN, HOLD = b"u", b"d", b"h"


def drain(sock: socket.socket, seconds: float) -> tuple[int, float]:
    """Read for ``seconds``; return bytes, and the seconds from the first to the last of them."""
    buffer = bytearray(_BLOCK)
    size, first, last = 0, 0.0, 0.0
    while last - first < seconds and (count := sock.recv_into(buffer, _BLOCK, socket.MSG_TRUNC)):
        last = time.perf_counter()
        first = first or last
        size += count
    return size, last - first


def fill(sock: socket.socket) -> None:
    """Send until the other end has had enough."""
    block = os.urandom(_BLOCK)
    with suppress(OSError):
        while True:
            sock.sendall(block)


def serve_one(sock: socket.socket) -> None:
    """Do what the first bytes of a connection ask for."""
    with sock, suppress(OSError):
        wish = sock.recv(9, socket.MSG_WAITALL)
        if wish[:1] == UP:
            sock.sendall(_REPORT.pack(*drain(sock, *struct.unpack("!d", wish[1:9]))))
            drain(sock, 10.0)  # closed with bytes in it, it would be reset, and the report with it
        elif wish[:1] == DOWN:
            fill(sock)
        else:
            sock.recv(1)


def serve(address: str, port: int) -> None:
    """Serve for ever."""
    with socket.create_server((address, port), backlog=4096) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve_one, args=(sock,), daemon=True).start()


def connect(proxy: tuple[str, int], target: tuple[str, int], *, socks: bool) -> socket.socket:
    """Return a connection to the far end."""
    return connect_through(proxy, target) if socks else socket.create_connection(proxy, 20.0)


def measure(sock: socket.socket, seconds: float, *, down: bool) -> dict[str, float]:
    """Send or receive for ``seconds``; return bytes and Mbit/s."""
    sock.settimeout(None)
    sock.sendall((DOWN if down else UP) + struct.pack("!d", seconds))
    if down:
        size, took = drain(sock, seconds)
    else:
        threading.Thread(target=fill, args=(sock,), daemon=True).start()
        size, took = _REPORT.unpack(sock.recv(_REPORT.size, socket.MSG_WAITALL))
    return {"bytes": size, "mbit_s": round(size * 8 / took / 1e6, 1) if took else 0.0}


def main() -> None:
    """Serve, or connect and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("serve", "connect"))
    parser.add_argument("address", help="of the far end")
    parser.add_argument("port", type=int)
    parser.add_argument("--proxy", default="", metavar="HOST:PORT")
    parser.add_argument("--plain", action="store_true", help="the proxy leads there by itself, without SOCKS5")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--down", action="store_true")
    options = parser.parse_args()
    if options.job == "serve":
        serve(options.address, options.port)
    host, _, port = options.proxy.rpartition(":")
    with connect((host, int(port)), (options.address, options.port), socks=not options.plain) as sock:
        print(json.dumps(measure(sock, options.seconds, down=options.down)))


if __name__ == "__main__":
    main()
