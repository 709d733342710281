"""Devices that these tests run on: real ones where they are, and stand-ins, so that the tests themselves do not rot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from accel.device.cuda import cuda_engine
from accel.device.engine import DeviceEngine
from accel.device.opencl import opencl_engine
from accel.engine import Operation
from tests.fake_cupy import stand_in
from tests.pocl import works
from tests.present import skip_unless_there

ALL = frozenset(Operation)
WHOLE, SHORT = 1_000_000, 800


@dataclass(frozen=True)
class Machine:
    """A device.

    Attributes
    ----------
    engine
        Makes an engine of it.
    count
        Random packets, and blocks, of a test.
    """

    name: str
    engine: Callable[[], DeviceEngine]
    count: int


def on_hardware(name: str) -> ParameterSet:
    """Return the parameter of a real device."""
    marks = [getattr(pytest.mark, f"hw_{name}"), skip_unless_there(name), pytest.mark.timeout(3600)]
    return pytest.param(name, marks=marks, id=name)


NO_COMPILER = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++")
STAND_IN = pytest.param("stand-in", marks=[NO_COMPILER, pytest.mark.slow], id="stand-in")
CUDA = [on_hardware("cuda"), STAND_IN]
"""A GPU, and C++ behind a stand-in of cupy."""
DEVICES = [*CUDA, on_hardware("opencl"), pytest.param("pocl", marks=[works(), pytest.mark.slow], id="pocl")]


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the device that a test names by ``indirect``."""
    name = str(request.param)
    if name == "stand-in":
        stand_in(monkeypatch)
    if name in ("cuda", "stand-in"):
        return Machine(name, lambda: cuda_engine(ALL), WHOLE if name == "cuda" else SHORT)
    emulated = name == "pocl"
    return Machine(name, lambda: opencl_engine(ALL, emulated=emulated), SHORT if emulated else WHOLE)
