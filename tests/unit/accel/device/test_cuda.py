"""The CUDA driver and engine over a stand-in of cupy: order of commands, graphs, memory, errors."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from accel.device.compiled_code1 import compiled_text
from accel.device.cuda import cuda_engine
from accel.device.program import FEC, KERNELS, program
from accel.device.span_rows import HEADER
from accel.device.strips import common_shapes
from accel.engine import Operation
from accel.selftest import self_test
from accel.trials import SpanRow, run, span_job
from drivers.cuda.device import CudaProgram
from drivers.cuda.find import find_devices
from drivers.errors import DriverError, UnavailableError
from drivers.lanes import Batch, Launch, Room, Way
from tests.fake_cupy import LAUNCH_FAILURE, MEMORY, NO_DEVICE, FakeCupy, stand_in

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")

ALL = frozenset(Operation)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return stand_in(monkeypatch)


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_self_test(cupy: FakeCupy, operation: Operation) -> None:
    verdict = self_test(cuda_engine(ALL), operation)
    assert verdict.passed, verdict.reason
    assert not cupy.memory  # closed: everything was given back
    assert not cupy.pinned
    assert not any(memory.any() for memory in cupy.freed)  # and holds nothing of keys and packets


def test_launches_are_recorded_once_for_each_size_of_grid(cupy: FakeCupy) -> None:
    engine = cuda_engine(ALL)
    session = engine.open(Operation.FEC_ENCODE)
    recorded = cupy.recorded
    for _ in range(9):
        for count in (3, 4):
            run(engine, session, span_job([SpanRow((bytes(64),) * 4, 0, (0, 1))] * count))
    assert cupy.recorded - recorded <= 3 * 2  # three lanes, two sizes at most
    assert cupy.launched >= 36


def test_a_lane_keeps_so_many_graphs_and_no_more(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.cuda.device.GRAPHS", 2)
    device = CudaProgram(find_devices()[0], program(FEC), KERNELS[FEC])
    lane = device.lane(Room(source=64, target=64, work=64, scratch=64))
    lane.work[:] = 0

    def recorded(items: int) -> int:
        before = cupy.recorded
        lane.begin(Batch((Launch("code1_combine", items),), 0, 0, HEADER))
        while not lane.done():
            pass
        return cupy.recorded - before

    assert [recorded(items) for items in (1, 200, 1, 200)] == [1, 1, 0, 0]
    assert [recorded(items) for items in (400, 200, 400, 1)] == [1, 0, 0, 1]  # the oldest went
    lane.close()
    device.close()


def test_a_program_that_is_added_is_launched_by_a_lane_that_was_there(cupy: FakeCupy) -> None:
    device = CudaProgram(find_devices()[0], program(FEC), KERNELS[FEC])
    lane = device.lane(Room(source=64, target=64, work=64, scratch=64))
    lane.work[:] = 0
    (kernel,) = common_shapes(4)[0].kernels
    device.add(compiled_text(kernel), (kernel.name,))
    before = cupy.launched
    lane.begin(Batch((Launch("code1_combine", 1), Launch(kernel.name, 1)), 0, 0, HEADER))
    while not lane.done():
        pass
    assert cupy.launched - before == 2
    cupy.broken = MEMORY
    with pytest.raises(DriverError, match=f"compiling code1_rows_0_4 failed: cudaError {MEMORY}; end other users"):
        device.add(compiled_text(kernel), (kernel.name,))
    cupy.broken = 0
    lane.close()
    device.close()


def test_a_table_that_has_moved_is_recorded_anew(cupy: FakeCupy) -> None:
    assert self_test(cuda_engine(ALL), Operation.AEAD_SEAL).passed  # its slots begin at 0 and go on to 105
    assert cupy.launched


def test_what_is_said_without_a_device(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    cupy.devices = 0
    with pytest.raises(UnavailableError, match=f"CUDA has no device .cudaError {NO_DEVICE}.*nvidia-smi"):
        find_devices()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(UnavailableError, match=r"cupy cannot be imported .*vantun\[cuda\]"):
        find_devices()


def test_devices_are_counted(cupy: FakeCupy) -> None:
    cupy.devices = 2
    assert [str(place) for place in find_devices()] == [
        f"VANTUN-FAKE GPU (sm_90, CUDA device {index}, PCI 0000:65:0{index})" for index in range(2)
    ]
    with pytest.raises(DriverError, match="no CUDA device 5; there are 2"):
        cuda_engine(ALL, 5).open(Operation.FEC_ENCODE)


def test_out_of_memory_gives_back_what_it_had(cupy: FakeCupy) -> None:
    cupy.budget = 3
    with pytest.raises(DriverError, match=f"reserving memory for a lane failed: cudaError {MEMORY}; end other users"):
        cuda_engine(ALL).open(Operation.FEC_ENCODE)
    assert not cupy.pinned


def test_a_lost_context_is_told(cupy: FakeCupy) -> None:
    engine = cuda_engine(ALL)
    session = engine.open(Operation.FEC_ENCODE)
    job = span_job([SpanRow((bytes(64),) * 4, 0, (0, 1))])
    assert engine.submit(session, job) is not None
    cupy.broken = LAUNCH_FAILURE
    with pytest.raises(DriverError, match="context is lost; restart the worker"):
        engine.poll()
    session.close()  # which the device does not answer, either
    assert np.array_equal(job.status, [0])


def test_a_device_that_hangs_is_given_up(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for it: neither keys, nor who closes it; what it may still write to stays as it is."""
    monkeypatch.setattr("drivers.cuda.device.LOOKS", 120)
    engine = cuda_engine(ALL)
    session = engine.open(Operation.FEC_ENCODE)
    job = span_job([SpanRow((bytes(64),) * 4, 0, (0, 1))])
    cupy.hung = True
    ticket = engine.submit(session, job)
    assert ticket is not None
    assert engine.poll() == 0
    pinned = dict(cupy.pinned)
    device = CudaProgram(find_devices()[0], program(FEC), KERNELS[FEC])
    with pytest.raises(DriverError, match="it hangs: it has not done what it was given"):
        device.write_table(0, np.zeros(1, np.uint32))
    with pytest.raises(DriverError, match="it hangs"):
        session.close()
    with pytest.raises(DriverError, match="it hangs"):
        device.close()
    assert cupy.pinned == pinned
    assert not cupy.freed


def test_a_device_has_a_context_of_its_own_only(cupy: FakeCupy) -> None:
    cupy.devices = 2
    session = cuda_engine(ALL, 1).open(Operation.FEC_ENCODE)
    session.close()
    assert cupy.contexts == {1}


def test_without_its_compiler_it_says_what_to_install(cupy: FakeCupy) -> None:
    cupy.no_compiler = 'Failure finding "libnvrtc.so": No such file\nmore of it'
    expected = r'NVRTC compiles nothing: Failure finding "libnvrtc\.so": No such file; install .*vantun\[cuda\]'
    with pytest.raises(DriverError, match=expected):
        cuda_engine(ALL).open(Operation.FEC_ENCODE)


def test_what_the_device_takes_is_timed_without_copies_of_the_batch(cupy: FakeCupy) -> None:
    place = find_devices()[0]
    device = CudaProgram(place, program(FEC), KERNELS[FEC])
    lane = device.lane(Room(source=4096, target=4096, work=64, scratch=64))
    lane.work[:8] = 0
    batch = Batch(tuple(Launch(kernel, 1) for kernel in KERNELS[FEC]), 64, 64, 8)
    lane.begin(batch)
    while not lane.done():
        pass
    assert lane.compute_seconds(batch, 5) == pytest.approx(len(KERNELS[FEC]) * 1e-3)
    assert lane.compute_seconds(batch._replace(launches=()), 5) == 0
    lane.source[:64], lane.target[:64] = 7, 0
    for way in Way:
        assert lane.copy_seconds(way, 64, 3) == pytest.approx(1e-3)
    assert (lane.target[:64] != 7).all()  # out came before within
    lane.copy_seconds(Way.OUT, 64, 1)
    assert (lane.target[:64] == 7).all()
    lane.close()
    device.close()
