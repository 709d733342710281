"""Starting the data worker's process, reading what it leaves: its exit status and its snapshots."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

import cbor2

from vantun.errors import ProtocolError, WorkerError
from vantun.one_thread import one_thread

_SNAPSHOT_BYTES = 256 << 20


def spawn_worker(floors: int, rates: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Return a new worker process and our end of the socket to it; ``floors`` and ``rates`` are shared pages.

    Raises WorkerError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", "-m", "vantun.dataplane.worker", "--fd", str(theirs.fileno())]
    command += ["--floors", str(floors), "--rates", str(rates)]
    with theirs:
        try:
            inherited = [theirs.fileno(), floors, rates]
            with one_thread():
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited)
        except OSError as error:
            ours.close()
            raise WorkerError(f"the data worker cannot be started: {error}; free memory or processes") from None
    return process, ours


def explain_exit(status: int) -> str:
    """Return what the exit status of a worker says, as a sentence about "it"."""
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    return f"it exited with status {status}"


def read_snapshot(descriptor: int) -> dict[str, object]:
    """Return the map that a memfd holds as CBOR. Raises ProtocolError."""
    size = os.fstat(descriptor).st_size
    if size > _SNAPSHOT_BYTES:
        raise ProtocolError(f"a snapshot of {size} B is over {_SNAPSHOT_BYTES} B; report this")
    data = bytearray()
    while len(data) < size:
        part = os.pread(descriptor, size - len(data), len(data))
        if not part:
            break
        data += part
    try:
        document = cbor2.loads(bytes(data))
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise ProtocolError(f"the data worker's snapshot cannot be read: {error}; restart the appliance") from None
    if not isinstance(document, dict):
        raise ProtocolError("the data worker's snapshot is no map; restart the appliance")
    return document


def disgraced(snapshot: Mapping[str, object]) -> dict[tuple[str, str], str]:
    """Return (operation, engine) -> why, of the engines that a worker keeps out until somebody clears them."""
    return {
        (str(serving.get("operation")), str(rung.get("engine"))): str(rung.get("reason"))
        for serving in _maps(snapshot.get("engine_watch"))
        for rung in _maps(serving.get("rungs"))
        if rung.get("until_cleared")
    }


def _maps(value: object) -> list[Mapping[str, object]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
