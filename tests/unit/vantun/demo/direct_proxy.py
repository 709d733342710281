"""A SOCKS5 proxy that connects directly: what the demo's programs see when the tunnel is perfect."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vantun.demo.load import Address, Route
from vantun.demo.origin import Origin


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        near: socket.socket = self.request
        near.recv(3)
        near.sendall(b"\x05\x00")
        request = near.recv(10)
        try:
            far = socket.create_connection((socket.inet_ntoa(request[4:8]), int.from_bytes(request[8:10], "big")))
        except OSError:
            near.sendall(b"\x05\x05\x00\x01" + bytes(6))
            return
        near.sendall(b"\x05\x00\x00\x01" + bytes(6))
        with far:
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def direct_proxy() -> Iterator[Address]:
    """Yield the address of a proxy."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield "127.0.0.1", int(server.server_address[1])
        server.shutdown()


@contextmanager
def route_to(origin: Origin) -> Iterator[Route]:
    """Serve ``origin`` and yield the way to it through a proxy."""
    threading.Thread(target=origin.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with direct_proxy() as proxy:
            yield Route(proxy, ("127.0.0.1", origin.port))
    finally:
        origin.shutdown()
        origin.server_close()
