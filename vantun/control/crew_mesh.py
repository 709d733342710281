"""The inboxes by which workers hand over what the kernel gave to the wrong one (:mod:`vantun.dataplane.handover`)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

from vantun.dataplane.handover import inbox
from vantun.errors import WorkerError
from vantun.worker_messages import AddPeer, JoinMesh


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
