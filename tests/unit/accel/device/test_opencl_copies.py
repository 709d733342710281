"""Copies of an OpenCL device with memory of its own: PoCL, which has none, is treated as one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.device.engine import DeviceEngine
from accel.device.program import FEC, KERNELS, program
from accel.device.span_rows import HEADER
from accel.engine import Job, Maturity, Operation, Provenance, SealJob
from accel.trials import SpanRow, difference, run, span_job
from drivers.errors import UnavailableError
from drivers.lanes import Batch, Launch, Room, Run
from drivers.opencl import device as opencl
from drivers.opencl.device import CopyingProgram, OpenclProgram, open_program
from drivers.opencl.find import OpenclPlace, choose_device
from tests.service import HostService, expected, key, packets, spans, until

cl = pytest.importorskip("pyopencl", reason="pyopencl: pip install 'vantun[opencl]'")

PATIENCE = 60.0
ROOM = Room(source=1 << 16, target=1 << 16, work=64, scratch=64)
NOTHING = Batch(tuple(Launch(kernel, 1) for kernel in KERNELS[FEC]), 64, 64, HEADER)


@pytest.fixture
def place() -> OpenclPlace:
    try:
        return choose_device(emulated=True)
    except UnavailableError as error:
        pytest.skip(f"PoCL: {error}")


class Kept:
    """An event, as somebody keeps it or does not."""

    def __init__(self, event: object) -> None:
        self.event = event


class Watching:
    """pyopencl, and which of the events of its copies are kept by somebody."""

    def __init__(self) -> None:
        self.events: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(cl, name)

    def enqueue_copy(self, *arguments: object, **options: object) -> Kept:
        event = Kept(cl.enqueue_copy(*arguments, **options))
        self.events.append(weakref.ref(event))
        return event

    @property
    def kept(self) -> list[bool]:
        return [event() is not None for event in self.events]


def test_a_batch_is_not_waited_for_where_it_begins(place: OpenclPlace) -> None:
    """Pyopencl waits, and lets no other thread run, when the event of a copy goes that is not done."""
    device, watching = CopyingProgram(place, program(FEC), KERNELS[FEC]), Watching()
    lane = device.lane(ROOM)
    lane.work[:HEADER] = 0
    device.cl = watching
    for _ in range(2):
        watching.events.clear()
        lane.begin(NOTHING)
        assert watching.kept == [True] * 3
        while not lane.done():
            pass
        assert watching.kept == [False] * 3
    device.cl = cl
    lane.close()
    device.close()


def test_a_device_that_shares_the_hosts_memory_copies_nothing(place: OpenclPlace) -> None:
    device = open_program(place, program(FEC), KERNELS[FEC])
    assert type(device) is OpenclProgram
    watching, lane = Watching(), device.lane(ROOM)
    lane.work[:HEADER] = 0
    device.cl = watching
    lane.begin(NOTHING)
    while not lane.done():
        pass
    assert watching.events == []
    device.cl = cl
    lane.close()
    device.close()


@pytest.mark.parametrize("operation", [Operation.FEC_ENCODE, Operation.FEC_DECODE, Operation.AEAD_SEAL])
def test_what_lies_in_the_ring_is_copied_by_the_device(
    place: OpenclPlace, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    copied, real = [], opencl._memory_of

    def memory_of(run: Run) -> NDArray[np.uint8]:
        copied.append(run.size)
        return real(run)

    def open_device(text: str, kernels: Sequence[str]) -> CopyingProgram:
        return CopyingProgram(place, text, kernels)

    monkeypatch.setattr(opencl, "_memory_of", memory_of)
    device = DeviceEngine("pocl", frozenset(Operation), open_device, Provenance.EMULATOR, Maturity.UNTESTED)
    keys = {slot: key(slot) for slot in (0, 1)}
    job: Job
    if operation is Operation.FEC_ENCODE:
        job, sizes = spans(4), [4 * 5 * 112, 4 * 2 * 112]
    elif operation is Operation.FEC_DECODE:
        units = [tuple(bytes([n, j]) * 50 for j in range(5)) for n in range(4)]
        job, sizes = span_job([SpanRow(each, 0, (0, 3), (1, 4)) for each in units]), [4 * 5 * 112, 4 * 2 * 112]
    else:
        job, sizes = packets(4), [4 * 320, 4 * 336, 4 * 16]
    wanted = expected(job, operation, keys if isinstance(job, SealJob) else {})
    with HostService((operation,), engine=device) as service:
        engine = service.client()
        session = engine.open(operation)
        if isinstance(job, SealJob):
            for slot, spec in keys.items():
                session.install_key(slot, spec)
        until(lambda: service.server.report()["pinned"] == 1)
        run(engine, session, job, PATIENCE)
    assert difference(job, wanted) == ""
    assert copied == sizes
