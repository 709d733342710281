"""What befalls a GPU: a kernel that traps, no memory left, an index that is not there. Nothing of it costs a packet."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from accel.aead.simd import SimdAead
from accel.device.cuda import cuda_engine
from accel.device.engine import ROOM, DeviceEngine
from accel.device.port import Device
from accel.engine import Maturity, Operation, Provenance
from accel.selftest import self_test
from drivers.cuda.device import CudaProgram
from drivers.cuda.find import find_devices
from drivers.errors import DriverError
from drivers.lanes import Room
from tests.hw.conftest import ALL, CUDA, Machine
from tests.hw.lost_context import FATAL

ROOT = Path(__file__).resolve().parents[2]
_LIMIT = 240.0
"""Seconds for a child process: to import cupy, compile and fail."""
each_gpu = pytest.mark.parametrize("machine", CUDA, indirect=True)


@each_gpu
def test_a_kernel_that_traps_costs_no_packet(machine: Machine) -> None:
    line = [sys.executable, "-m", "tests.hw.lost_context", machine.name]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=_LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["differences"] == [""] * 6
    assert told["engines"] == ["cuda"] * 2 + [SimdAead.name] * 4, FATAL
    assert any("context is lost; restart the worker" in reason for reason in told["reasons"])
    assert "context is lost; restart the worker" in told["again"]


def hungry(room: Room) -> DeviceEngine:
    """Return the engine with lanes of another size."""

    def open_device(text: str, kernels: Sequence[str]) -> Device:
        return CudaProgram(find_devices()[0], text, kernels)

    return DeviceEngine("cuda", ALL, open_device, Provenance.SILICON, Maturity.UNTESTED, room=room)


@each_gpu
def test_without_memory_it_does_not_open_and_others_do(machine: Machine) -> None:
    more_than_all = find_devices()[0].memory // 4 + 1
    engine = hungry(Room(ROOM.source, ROOM.target, ROOM.work, more_than_all))
    for _ in range(2):
        with pytest.raises(DriverError, match=r"reserving memory for a lane failed: .*; end other users of the GPU"):
            engine.open(Operation.FEC_ENCODE)
    verdict = self_test(machine.engine(), Operation.FEC_ENCODE, _LIMIT)
    assert verdict.passed, verdict.reason


@each_gpu
def test_a_device_that_is_not_there_is_named(machine: Machine) -> None:
    count = len(find_devices())
    with pytest.raises(DriverError, match=f"there is no CUDA device {count}; there are {count}: see nvidia-smi"):
        cuda_engine(ALL, count).open(Operation.FEC_ENCODE)


@each_gpu
@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_self_test(machine: Machine, operation: Operation) -> None:
    verdict = self_test(machine.engine(), operation, _LIMIT)
    assert verdict.passed, verdict.reason
