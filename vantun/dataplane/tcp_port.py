"""A TCP socket as a stream port: bytes move between the socket and shard rows, with no copy in between.

The socket is set to reset on close as long as its stream is incomplete, so that whatever ends it early, the death
of this process included, reaches the program as a reset and never as a clean end of truncated data.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.linux.libc import libc
from drivers.linux.linger import end_on_close, reset_on_close
from vantun.dataplane.ports import WOULD_BLOCK
from vantun.worker_messages import StreamReply

_DRAIN_PIECE = 65_536
_DRAIN_PIECES = 16
"""Bytes that a refused program may still send (1 MiB): a request it did not wait to be answered."""


class PortKeeper(Protocol):
    """Who watches the sockets of ports."""

    def forget(self, port: TcpPort) -> None:
        """Stop watching: the socket is about to be closed."""

    def lend(self, port: TcpPort) -> None:
        """Have compiled code read and write the socket: the far end is connected, and nothing is held back here."""

    def linger(self, port: TcpPort) -> None:
        """Call :meth:`TcpPort.drain` when the socket is readable, and :meth:`TcpPort.close` in the end."""


class TcpPort:
    """A connected, non-blocking TCP socket as :class:`vantun.dataplane.ports.StreamPort`.

    Parameters
    ----------
    sock
        Belongs to the port from now on.
    keeper
        Watches it.
    reply
        What the program is told about the far end; None at the far end itself.
    first
        Bytes of the stream that were read from the socket before, or take the place of what was.

    Attributes
    ----------
    handle
        Of its flow.
    """

    def __init__(
        self, sock: socket.socket, keeper: PortKeeper, reply: StreamReply | None = None, first: bytes = b""
    ) -> None:
        sock.settimeout(0)
        reset_on_close(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.handle = -1
        self._socket = sock
        self._descriptor = sock.fileno()
        self._keeper = keeper
        self._reply = reply
        self._first = first
        self._open = False
        self._pieces_left = _DRAIN_PIECES
        self._readv, self._writev = libc().readv, libc().writev

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._descriptor

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        if self._first:
            return self._read_first(iov, count)
        result = self._readv(self._descriptor, iov.ctypes.data, count)
        return result if result >= 0 else self._refusal(-result)

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        result = self._writev(self._descriptor, iov.ctypes.data, count)
        return result if result >= 0 else self._refusal(-result)

    def _read_first(self, iov: NDArray[np.uint64], count: int) -> int:
        done = 0
        for address, length in iov[:count].tolist():
            piece = self._first[done : done + length]
            ctypes.memmove(address, piece, len(piece))
            done += len(piece)
        self._first = self._first[done:]
        if not self._first and self._open:
            self._keeper.lend(self)
        return done

    def _refusal(self, number: int) -> int:
        # EINTR cannot happen to a call that does not sleep, but were it taken for an error, a stream would end by it
        if number in (errno.EAGAIN, errno.EINTR):
            return WOULD_BLOCK
        raise ConnectionError(number, os.strerror(number))

    def accepted(self) -> None:
        """Write the reply; raises ConnectionError when the program is gone or has no room for a few bytes."""
        reply, self._reply = self._reply, None
        if reply is not None and reply.accepted:
            try:
                sent = self._socket.send(reply.accepted)
            except OSError as error:
                raise ConnectionError(error.errno, error.strerror) from None
            if sent < len(reply.accepted):
                raise ConnectionError(errno.ENOBUFS, "the program takes no reply")
        self._open = True
        if not self._first:
            self._keeper.lend(self)

    def refused(self, code: int) -> None:
        """Write the reply, end the stream, and keep reading until the program has closed.

        A close with unread bytes would be a reset, which overtakes the reply.
        """
        reply, self._reply = self._reply, None
        try:
            data = reply.refusal(code) if reply is not None else b""
            if data:
                self._socket.send(data)
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # the program is gone
            self._close()
            return
        self._keeper.linger(self)

    def drain(self) -> bool:
        """Throw away what a refused program still sends; return whether it is through, or has sent too much."""
        while self._pieces_left > 0:
            try:
                piece = self._socket.recv(_DRAIN_PIECE)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True
            if not piece:
                return True
            self._pieces_left -= 1
        return True

    def shutdown_write(self) -> None:
        """See StreamPort."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the program has reset the stream: the next read says so
                raise

    def reset(self) -> None:
        """Close abortively; a program that was still waiting for its reply gets one, as SOCKS5 wants."""
        if self._reply is not None and (self._reply.refused or self._reply.by_code):
            self.refused(self._reply.failed)
            return
        self._close()

    def close(self) -> None:
        """Close; both directions have ended, or nothing more can be done for the program."""
        if self._descriptor >= 0:
            end_on_close(self._socket)
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._keeper.forget(self)
            self._descriptor = -1
            self._socket.close()
