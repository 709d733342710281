"""CUDA behind the port of device engines."""

from __future__ import annotations

from collections.abc import Sequence

from accel.device.engine import DeviceEngine
from accel.device.port import Device
from accel.device.strips import common_shapes
from accel.engine import Maturity, Operation, Provenance
from drivers.cuda.device import CudaProgram
from drivers.cuda.find import find_devices
from drivers.errors import DriverError


def cuda_engine(operations: frozenset[Operation], index: int = 0) -> DeviceEngine:
    """Return the engine ``cuda`` for some operations, on device ``index``."""

    def open_device(text: str, kernels: Sequence[str]) -> Device:
        places = find_devices()
        if index >= len(places):
            raise DriverError(f"there is no CUDA device {index}; there are {len(places)}: see nvidia-smi")
        return CudaProgram(places[index], text, kernels)

    engine = DeviceEngine("cuda", operations, open_device, Provenance.SILICON, Maturity.PROTOCOL_TESTED)
    engine.shapes = common_shapes()
    return engine
