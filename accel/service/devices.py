"""Engines whose device can be behind a service: how to make them for the n-th device, and how many there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from accel.engine import Engine, Operation


class Served(NamedTuple):
    """An engine of the catalogue whose device is shared.

    Attributes
    ----------
    make
        Return the engine for some operations, on the device of a number; it opens nothing.
    devices
        Return how many devices there are. Raises DriverError.
    """

    make: Callable[[frozenset[Operation], int], Engine]
    devices: Callable[[], int]


def _cuda(operations: frozenset[Operation], index: int) -> Engine:
    from accel.device.cuda import cuda_engine

    return cuda_engine(operations, index)


def _cuda_devices() -> int:
    from drivers.cuda.find import find_devices

    return len(find_devices())


def _opencl(operations: frozenset[Operation], index: int, *, emulated: bool) -> Engine:
    from accel.device.opencl import opencl_engine

    return opencl_engine(operations, index, emulated=emulated)


def _opencl_devices(*, emulated: bool) -> int:
    from drivers.opencl.find import devices_of_kind

    return len(devices_of_kind(emulated=emulated))


SERVED = {
    "cuda": Served(_cuda, _cuda_devices),
    "opencl": Served(partial(_opencl, emulated=False), partial(_opencl_devices, emulated=False)),
    "pocl": Served(partial(_opencl, emulated=True), partial(_opencl_devices, emulated=True)),
}
"""By name of the engine."""
