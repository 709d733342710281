"""A GPU service without a device: ``python -m benchmarks.service_null NAME CONTROL OPERATION KIND``.

``engine`` has, behind the service, an engine that says "done" and computes nothing: what is left is the ring, the wakes
and both ends' Python. ``device`` has the real host side of a device engine, which lays batches out and takes them back,
over a device that does nothing in no time. With ``pinned`` that device takes it upon itself to copy from and to the
ring, as CUDA's does for parity, so that the processor copies nothing there. None of them passes a self-test, and none
can be reached by a configuration.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from accel.calls import aligned
from accel.device.engine import DeviceEngine
from accel.device.packet_rows import VERDICT
from accel.device.port import Bytes, Lane, Words
from accel.device.strips import common_shapes
from accel.engine import Engine, EngineSession, Job, KeySpec, Maturity, Operation, Provenance, Status, Ticket
from accel.finished import FINISHED, Synchronous
from accel.service.main import live_as_child
from accel.service.messages import listen
from accel.service.server import Server
from drivers.lanes import Batch, Room
from vantun.kernel_cache import use_kernel_cache

ALL = frozenset(Operation)


class _Session:
    """Takes keys, and keeps none."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Forget it."""

    def remove_key(self, slot: int) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is held."""


class NullEngine(Synchronous):
    """Says of every row that it is done."""

    name = "null"
    operations = ALL
    provenance = Provenance.FAKE
    maturity = Maturity.UNTESTED

    def open(self, operation: Operation) -> EngineSession:
        """Return a session."""
        return _Session(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Compute nothing."""
        job.status[:] = Status.DONE
        return FINISHED


class _NullLane:
    """Host memory of a lane; what is begun is done."""

    def __init__(self, room: Room) -> None:
        self.source: Bytes = aligned(room.source)
        self.target: Bytes = aligned(room.target)
        self.work: Words = aligned(4 * room.work).view(np.uint32)

    def begin(self, batch: Batch) -> None:
        """Launch nothing, and say of every packet that it is done."""
        for launch in batch.launches:
            if launch.kernel.endswith("_tags"):
                verdicts = self.target[batch.target - VERDICT * launch.items : batch.target]
                verdicts.view(np.int64)[1::2] = 1

    def done(self) -> bool:
        """Return that it is."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class NullDevice:
    """A device that takes no time."""

    def add(self, text: str, kernels: Sequence[str]) -> None:
        """Compile nothing."""

    def lane(self, room: Room) -> _NullLane:
        """Return a lane."""
        return _NullLane(room)

    def write_table(self, first: int, words: Words) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Nothing is held."""


class PinningNull(NullDevice):
    """One that would copy from and to its clients' memory itself, and does not."""

    def pin(self, address: int, size: int) -> str:
        """Register nothing."""
        return ""

    def unpin(self, address: int) -> None:
        """Nothing is held."""


def null_engine(kind: str) -> Engine:
    """Return what is behind the service."""
    if kind == "engine":
        return NullEngine()
    device = PinningNull if kind == "pinned" else NullDevice
    engine = DeviceEngine("null", ALL, lambda text, kernels: device(), Provenance.FAKE, Maturity.UNTESTED)
    engine.shapes, engine.measure = common_shapes(), _compiled_is_faster
    return engine


def _compiled_is_faster(lane: Lane, batch: Batch) -> float:
    """Have kernels with compiled-in rows serve where they can, as on a GPU where they are faster."""
    return float(not any("_rows_" in launch.kernel for launch in batch.launches))


def main(name: str, control: str, operation: str, kind: str) -> int:
    """Be the service until the other end of the socket is closed."""
    live_as_child()
    use_kernel_cache()
    with socket.socket(fileno=int(control)) as parent:
        server = Server(null_engine(kind), (Operation(operation),), partial(listen, name))
        server.watch(parent.fileno())
        parent.send(b"{}")
        while not _closed(parent):
            server.turn()
        server.close()
    return 0


def _closed(parent: socket.socket) -> bool:
    try:
        return parent.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
