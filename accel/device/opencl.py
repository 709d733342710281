"""OpenCL behind the port of device engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accel.device.engine import DeviceEngine
from accel.device.port import Device
from accel.device.strips import BY_HORNER, common_shapes
from accel.engine import Maturity, Operation, Provenance
from drivers.cache import cache_base, own_folder
from drivers.opencl.device import open_program
from drivers.opencl.find import choose_device

EMULATED_COLUMNS = 16
"""Largest k of PoCL's kernel with rows compiled in: it compiles the whole of them for a minute, and is for trying."""


def _binaries() -> Path | None:
    """Return the folder of compiled programs, None where there is none that only this user may write."""
    try:
        folder = cache_base() / "opencl"
    except RuntimeError:
        return None
    return folder if own_folder(folder) else None


def opencl_engine(operations: frozenset[Operation], index: int = 0, *, emulated: bool) -> DeviceEngine:
    """Return the engine ``opencl`` for some operations, or ``pocl``, whose device is the processor in disguise.

    ``index`` is the number of the device among those of its kind.
    """

    def open_device(text: str, kernels: Sequence[str]) -> Device:
        return open_program(choose_device(index, emulated=emulated), text, kernels, _binaries())

    name, provenance = ("pocl", Provenance.EMULATOR) if emulated else ("opencl", Provenance.SILICON)
    engine = DeviceEngine(name, operations, open_device, provenance, Maturity.PROTOCOL_TESTED)
    shapes = common_shapes(EMULATED_COLUMNS, horner=True)[:1] if emulated else common_shapes(horner=True)
    engine.shapes = (*BY_HORNER, *shapes)
    return engine
