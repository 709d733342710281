"""The inboxes by which workers hand over what the kernel gave to the wrong one (:mod:`vantun.dataplane.handover`)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

from vantun.errors import WorkerError
from vantun.worker_messages import AddPeer, JoinMesh

INBOX = 2 << 20
"""Bytes that wait in an inbox at most, if the kernel grants them."""


def inbox() -> tuple[socket.socket, socket.socket]:
    """Return the reading and the writing end of a worker's inbox; copies of the writing end go to the others.

    Raises OSError when no descriptor is left.
    """
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock, force, plain in ((writing, 32, socket.SO_SNDBUF), (reading, 33, socket.SO_RCVBUF)):
        sock.settimeout(0)
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, INBOX)  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
        except OSError:  # without CAP_NET_ADMIN: as much as net.core.*mem_max allows
            sock.setsockopt(socket.SOL_SOCKET, plain, INBOX)
    return reading, writing


class Mesh:
    """An inbox for each worker; they outlive the workers. One worker needs none."""

    def __init__(self) -> None:
        self._boxes: list[tuple[socket.socket, socket.socket]] = []

    def make(self, workers: int) -> None:
        """Make the inboxes. Raises WorkerError when no descriptor is left."""
        try:
            while workers > 1 and len(self._boxes) < workers:
                self._boxes.append(inbox())
        except OSError as error:
            raise _error(error) from None

    def place_of(self, worker: int) -> Iterator[tuple[JoinMesh | AddPeer, socket.socket]]:
        """Yield what a worker is told, each with what goes along. Raises WorkerError when no descriptor is left."""
        for other, (reading, writing) in enumerate(self._boxes):
            try:
                yield (JoinMesh(worker), reading.dup()) if other == worker else (AddPeer(other), writing.dup())
            except OSError as error:
                raise _error(error) from None

    def close(self) -> None:
        """Close the inboxes."""
        for sock in itertools.chain(*self._boxes):
            sock.close()
        self._boxes.clear()


def _error(error: OSError) -> WorkerError:
    return WorkerError(f"the workers cannot be connected: {error.strerror}; allow more open files (ulimit -n)")
