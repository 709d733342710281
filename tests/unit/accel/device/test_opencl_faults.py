"""What befalls an OpenCL device, PoCL with faults on demand: no memory, a command that fails, a device that is gone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest

from accel.device.engine import DeviceEngine
from accel.engine import Maturity, Operation, Provenance, SpanJob
from accel.fec.simd import SimdFec
from accel.serving import Serving
from accel.trials import SpanRow, difference, run, span_job
from drivers.errors import DriverError, UnavailableError
from drivers.opencl.device import CopyingProgram, OpenclProgram
from drivers.opencl.find import choose_device
from tests.spans_of_reference import encoded

cl = pytest.importorskip("pyopencl", reason="pyopencl: pip install 'vantun[opencl]'")

PATIENCE = 60.0
"""Seconds for the first job: PoCL compiles when it sees one."""
LOST = -9999
"""What NVIDIA's driver says of a command when a context is lost."""


class Faulty:
    """pyopencl, some of whose functions fail.

    Attributes
    ----------
    buffers
        How many more can be made.
    lost
        Whether every command fails.
    gone
        Whether every call about commands fails.
    """

    def __init__(self) -> None:
        self.buffers = 1 << 30
        self.lost = self.gone = False

    def __getattr__(self, name: str) -> object:
        if self.gone and name.startswith("enqueue"):
            raise cl.Error(f"cl{name} failed: DEVICE_NOT_AVAILABLE")
        return getattr(cl, name)

    def Buffer(self, *arguments: object, **options: object) -> object:  # noqa: N802 - pyopencl's name
        if not self.buffers:
            raise cl.Error("clCreateBuffer failed: MEM_OBJECT_ALLOCATION_FAILURE")
        self.buffers -= 1
        return cl.Buffer(*arguments, **options)

    def enqueue_marker(self, queue: object) -> object:
        if self.gone:
            raise cl.Error("clEnqueueMarker failed: DEVICE_NOT_AVAILABLE")
        return self if self.lost else cl.enqueue_marker(queue)

    def get_info(self, what: object) -> int:
        """Answer for an event: its command has failed."""
        return LOST


class Bench:
    """An engine over the device, as one with memory of its own or one that shares the host's."""

    def __init__(self, kind: type[OpenclProgram]) -> None:
        try:
            self._place = choose_device(emulated=True)
        except UnavailableError as error:
            pytest.skip(f"PoCL: {error}")
        self.faulty = Faulty()
        self._kind = kind
        everything = frozenset(Operation)
        self.engine = DeviceEngine("pocl", everything, self._open, Provenance.EMULATOR, Maturity.UNTESTED)

    def _open(self, text: str, kernels: Sequence[str]) -> OpenclProgram:
        device = self._kind(self._place, text, kernels)
        device.cl = self.faulty
        return device


@pytest.fixture(params=[OpenclProgram, CopyingProgram], ids=["shared", "copying"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def spans(seed: int) -> SpanJob:
    generator = np.random.default_rng(seed)
    return span_job([SpanRow(tuple(generator.bytes(100) for _ in range(5)), 3, (0, 1)) for _ in range(9)])


@pytest.mark.parametrize("buffers", [0, 3, 9])
def test_without_memory_it_does_not_open_and_does_later(bench: Bench, buffers: int) -> None:
    """For none, for some of the first lane, for two of three."""
    bench.faulty.buffers = buffers
    with pytest.raises(DriverError, match=r"reserving memory for a lane failed: .*ALLOCATION_FAILURE; see the driver"):
        bench.engine.open(Operation.FEC_ENCODE)
    bench.faulty.buffers = 1 << 30
    bench.engine.open(Operation.FEC_ENCODE).close()


@pytest.mark.parametrize(("fault", "told"), [("lost", r"a batch failed \(status -9999\)"), ("gone", "NOT_AVAILABLE")])
def test_a_device_that_fails_under_load_loses_nothing(bench: Bench, fault: str, told: str) -> None:
    session = bench.engine.open(Operation.FEC_ENCODE)
    run(bench.engine, session, spans(7), PATIENCE)  # which compiles
    serving = Serving(bench.engine, session, [SimdFec()], clock=lambda: 0, seed=1)  # no batch is late
    for turn in range(5):
        setattr(bench.faulty, fault, turn >= 2)
        job = spans(turn)
        wanted = encoded(job)
        serving.run(job)
        assert difference(job, wanted) == ""
        assert (serving.engine is bench.engine) == (turn < 2)
    with pytest.raises(DriverError, match="open it again"):
        bench.engine.submit(session, spans(9))
    reasons = [change.reason for change in serving.session.rungs[0].life.history]
    assert any(re.search(f"OpenCL device .*{told}", reason) for reason in reasons), reasons
    setattr(bench.faulty, fault, False)
    session.close()
