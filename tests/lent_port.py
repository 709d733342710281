"""A stream port over a real TCP connection whose socket compiled code reads and writes, with the model's handles."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time

from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.tcp_port import TcpPort

_PATIENCE = 2000
"""Waits, of a millisecond each, for what the kernel was given to come out at the other end."""


class LentPort(TcpPort):
    """As :class:`vantun.lab.endpoint.MemoryPort`; ``lends = False`` has Python read and write the socket.

    ``room`` is what the kernel may hold of what is written, in bytes: a program that reads slowly.
    """

    def __init__(self, plane: Dataplane, room: int | None = None, *, lends: bool = True) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._program = socket.create_connection(listener.getsockname(), timeout=10)
            handed, _ = listener.accept()
        if room is not None:
            handed.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        self._program.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._program.setblocking(False)
        self._plane, self._lends = plane, lends
        self._got = bytearray()
        self._waiting = bytearray()
        self._finished = False
        self.limited = room is not None
        self.opened = self.ended = self.was_reset = self.closed = False
        self.refusal: int | None = None
        super().__init__(handed, self)

    # --- what the program does

    def feed(self, data: bytes) -> None:
        self._waiting += data
        self._push()

    def finish(self) -> None:
        self._finished = True
        self._push()

    def _push(self) -> None:
        if self._program.fileno() < 0:
            return
        try:
            while self._waiting:
                del self._waiting[: self._program.send(self._waiting)]
            if self._finished:
                self._program.shutdown(socket.SHUT_WR)
        except OSError:  # full, or the port was closed
            pass
        self._settle(self._program)

    def break_stream(self) -> None:
        if self._program.fileno() >= 0:
            self._program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._program.close()

    def drain(self) -> bool:
        """Read what has come."""
        if self.fileno() >= 0:
            self._settle(self._socket)
        try:
            while self._program.fileno() >= 0 and (data := self._program.recv(1 << 16)):
                self._got += data
        except OSError:  # nothing more, or a reset
            pass
        self._push()
        return True

    @property
    def received(self) -> bytes:
        if not self.limited:
            self.drain()
        return bytes(self._got)

    @staticmethod
    def _settle(sock: socket.socket) -> None:
        """Wait until the kernel has carried over what it has room for: it needs no help, but may need a moment."""
        left = -1
        for _ in range(_PATIENCE):
            before, left = left, struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]
            if left == 0 or left == before:
                return
            time.sleep(0.001)

    def forsake(self) -> None:
        """Close everything, at the end of a test."""
        self._program.close()
        self._socket.close()

    # --- PortKeeper

    def forget(self, port: TcpPort) -> None:
        """See PortKeeper."""

    def linger(self, port: TcpPort) -> None:
        port.close()

    def lend(self, port: TcpPort) -> None:
        if self._lends:
            self._plane.lend_stream(port.handle, port.fileno())

    # --- Port

    def accepted(self) -> None:
        self.opened = True
        super().accepted()

    def attached(self, handle: int, now: float) -> None:
        """Connect the flow that the peer has opened, as the worker does."""
        self.handle = handle
        self._plane.attach_flow(handle, self, now)
        if self.fileno() >= 0:
            self.lend(self)

    def refused(self, code: int) -> None:
        self.refusal = code
        super().refused(code)

    def shutdown_write(self) -> None:
        self.ended = True
        super().shutdown_write()

    def reset(self) -> None:
        self.was_reset = True
        super().reset()

    def close(self) -> None:
        self.closed = True
        super().close()
