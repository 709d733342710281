"""The worker's end of the socket to the control process: commands in, reports out, nothing blocks."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from vantun.dataplane.poller import IN, OUT, Poller
from vantun.errors import ProtocolError
from vantun.worker_messages import MAX_MESSAGE, Message, Misses, decode, encode

_COMMANDS = 64
"""Commands served per turn."""
_DESCRIPTORS = 4
OUTBOX = 65_536
"""Reports that may wait; a control process that leaves more of them unread is as good as dead."""


class ControlSocket:
    """Serves commands; keeps reports until the control process takes them.

    ``serve`` takes a message and its descriptors, and off their list those that it keeps.

    Attributes
    ----------
    closed
        Whether the control process is gone.
    misses_dropped
        Datagrams of no lane that it had no room for.
    unreadable
        Messages that were none.
    retry
        Whether :meth:`flush` should be called in a moment: the kernel had no memory, which epoll does not see.
    """

    def __init__(self, sock: socket.socket, poller: Poller, serve: Callable[[Message, list[int]], None]) -> None:
        sock.settimeout(0)
        self.closed = False
        self.misses_dropped = 0
        self.unreadable = 0
        self.retry = False
        self._socket = sock
        self._poller = poller
        self._serve = serve
        self._outbox: deque[tuple[bytes, int]] = deque()
        poller.add(sock.fileno(), IN, self._ready)

    def post(self, message: Message, descriptor: int = -1) -> None:
        """Send a report, now or as soon as there is room; ``descriptor`` travels with it and is closed here."""
        if self.closed:
            if descriptor >= 0:
                os.close(descriptor)
            return
        data = encode(message)
        if not self._outbox and self._send(data, descriptor):
            return
        self._outbox.append((data, descriptor))
        if len(self._outbox) > OUTBOX:
            self._end(f"the control process leaves {len(self._outbox)} reports unread: this worker ends")

    def post_misses(self, number: int, datagrams: list[tuple[bytes, str, int]]) -> None:
        """Send datagrams of no lane if there is room now, in as many messages as they need."""
        start = 0
        while start < len(datagrams) and not self.closed:
            end, size = start, 0
            while end < len(datagrams) and size + len(datagrams[end][0]) + 100 < MAX_MESSAGE - 100:
                size += len(datagrams[end][0]) + 100
                end += 1
            if self._outbox or not self._send(encode(Misses(number, tuple(datagrams[start:end]))), -1):
                self.misses_dropped += len(datagrams) - start
                return
            start = end

    def _send(self, data: bytes, descriptor: int) -> bool:
        try:
            if descriptor >= 0:
                socket.send_fds(self._socket, [data], [descriptor])
            else:
                self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            self._poller.change(self._socket.fileno(), IN | OUT)
            return False
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS):
                self.retry = True
                return False
            self.closed = True  # EPIPE, ECONNRESET
        if descriptor >= 0:
            os.close(descriptor)
        return True

    def flush(self) -> None:
        """Send what waits."""
        self.retry = False
        while self._outbox:
            if not self._send(*self._outbox[0]):
                return
            self._outbox.popleft()
        if not self.closed:
            self._poller.change(self._socket.fileno(), IN)

    def _ready(self, events: int) -> None:
        if events & OUT or self._outbox:
            self.flush()
        if events & ~OUT:
            self._receive()

    def _receive(self) -> None:
        for _ in range(_COMMANDS):
            if self.closed:
                return
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE + 1, _DESCRIPTORS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # ECONNRESET: it died with reports of ours unread
                data, descriptors = b"", []
            if not data:
                self._end("")
                return
            try:
                self._serve(decode(data), descriptors)
            except ProtocolError as error:
                self.unreadable += 1
                complain(str(error))  # the one who could be told sent it
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; reports that wait are lost."""
        self._end("")
        self._socket.close()
        while self._outbox:
            _, descriptor = self._outbox.popleft()
            if descriptor >= 0:
                os.close(descriptor)

    def _end(self, reason: str) -> None:
        if reason:
            complain(reason)
        self.closed = True
        self._poller.remove(self._socket.fileno())


def complain(text: str) -> None:
    """Write a line where nobody else listens; if it cannot be written (the disk is full), the worker goes on."""
    with suppress(OSError):
        print(f"vantun worker: {text}", file=sys.stderr, flush=True)  # noqa: T201 - see above
