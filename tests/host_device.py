"""A stand-in of a GPU's driver: the kernels compiled as C++ and run by this processor, with faults on demand.

It proves that the kernels compute what they should and that engines survive what drivers do; no speed, no race.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from accel.calls import address_of, aligned
from accel.device.engine import ROOM, DeviceEngine
from accel.device.port import Bytes, Words
from accel.device.rehearsal import rehearse_device
from accel.engine import Maturity, Operation, Provenance
from drivers.errors import DriverError
from drivers.lanes import Batch, Room

ALL = frozenset(Operation)
_SHIM = """
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned chosen = s >> (4 * i) & 15, byte = both >> (8 * (chosen & 7)) & 255;
        if (chosen & 8) byte = byte & 128 ? 255 : 0;
        out |= byte << (8 * i);
    }
    return out;
}
extern "C" { int trapped = 0; }
static inline void __trap(void) { trapped = 1; }
"""
"""CUDA's byte permutation and trap (CUDA C++ Programming Guide); who launches looks at ``trapped``."""


class Fault(Enum):
    """What the stand-in does from now on."""

    NONE = "none"
    MEMORY = "out of memory"
    """Gives no lane."""
    LAUNCH = "launch failed"
    """A launch fails, and every call after it, as after cudaErrorLaunchFailure."""
    GONE = "device removed"
    """Every call fails."""
    HANG = "hangs"
    """What is begun never ends."""


@cache
def compile_host_side() -> None:
    """Compile what lays batches out, or load it: no job of a test waits for that."""
    rehearse_device()


@cache
def compile_kernels(text: str, *defines: str) -> ctypes.CDLL:
    """Return a library of the kernels; REVERSED runs work items backwards, BYTE_PERMUTE takes CUDA's field product."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(_SHIM + text)
        flags = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror"]
        quiet = ["-Wno-unused-function", "-Wno-unused-parameter"]
        line = ["c++", *flags, *quiet, *(f"-D{each}" for each in defines)]
        line += ["-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(line, check=True, capture_output=True, text=True)
        return ctypes.CDLL(str(library))


class HostDevice:
    """The stand-in.

    Attributes
    ----------
    fault
        Set by tests.
    polls
        Questions that a lane answers with "not yet".
    launched
        How often each kernel was.
    """

    def __init__(self, program: str, kernels: Sequence[str], *defines: str, polls: int = 1) -> None:
        compile_host_side()
        self.fault = Fault.NONE
        self.polls = polls
        self.table = np.zeros(1 << 20, np.uint32)
        self.lanes: list[HostLane] = []
        self.closed = False
        self.launched: Counter[str] = Counter()
        self._defines = defines
        self._kernels: dict[str, Any] = {}
        self.add(program, kernels)

    def add(self, text: str, kernels: Sequence[str]) -> None:
        library = compile_kernels(text, *self._defines)
        self._kernels |= {name: getattr(library, name) for name in kernels}

    def lane(self, room: Room) -> HostLane:
        self.answer()
        if self.fault is Fault.MEMORY:
            raise DriverError("VANTUN-FAKE device: no memory for a lane; use fewer lanes")
        self.lanes.append(HostLane(self, room))
        return self.lanes[-1]

    def write_table(self, first: int, words: Words) -> None:
        self.answer()
        while first + len(words) > len(self.table):
            self.table = np.append(self.table, np.zeros_like(self.table))
        self.table[first : first + len(words)] = words

    def close(self) -> None:
        self.table[:] = 0
        self.closed = True

    def answer(self) -> None:
        """Raise if the device is gone."""
        if self.fault is Fault.GONE:
            raise DriverError("VANTUN-FAKE device: it was removed; put it back")

    def run(self, name: str, lane: HostLane) -> None:
        """Launch a kernel."""
        arrays = lane.device_source, lane.device_target, lane.device_work, lane.scratch, self.table
        self.launched[name] += 1
        self._kernels[name](*(ctypes.c_void_p(address_of(array)) for array in arrays))


class HostLane:
    """A lane; what the kernels see is a copy, as on a device with memory of its own, and is filled with rubbish."""

    def __init__(self, device: HostDevice, room: Room) -> None:
        self.source: Bytes = aligned(room.source)
        self.target: Bytes = aligned(room.target)
        self.work: Words = aligned(4 * room.work).view(np.uint32)
        self.device_source, self.device_target = aligned(room.source), aligned(room.target)
        self.device_work = aligned(4 * room.work).view(np.uint32)
        self.scratch = aligned(4 * room.scratch).view(np.uint32)
        self.begun = 0
        self.closed = False
        self._device = device
        self._wanted = 0
        self._left = 0
        self._failed = False

    def begin(self, batch: Batch) -> None:
        self._device.answer()
        self.begun += 1
        self._wanted, self._left = batch.target, self._device.polls
        if self._device.fault is Fault.LAUNCH:
            self._failed = True
            return
        for array in (self.device_source, self.device_target, self.device_work.view(np.uint8)):
            array[:] = 0xEE
        self.device_source[: batch.source] = self.source[: batch.source]
        self.device_work[: batch.work] = self.work[: batch.work]
        for launch in batch.launches:
            if launch.items:
                self._device.run(launch.kernel, self)

    def done(self) -> bool:
        self._device.answer()
        if self._failed:
            raise DriverError("VANTUN-FAKE device: a launch failed; restart it")
        if self._device.fault is Fault.HANG or self._left:
            self._left -= 1
            return False
        self.target[: self._wanted] = self.device_target[: self._wanted]
        return True

    def close(self) -> None:
        self.closed = True


def host_engine(*defines: str, room: Room = ROOM, operations: frozenset[Operation] = ALL) -> DeviceEngine:
    """Return an engine over the stand-in."""

    def open_device(program: str, kernels: Sequence[str]) -> HostDevice:
        return HostDevice(program, kernels, *defines)

    return DeviceEngine("host", operations, open_device, Provenance.FAKE, Maturity.UNTESTED, room=room)
