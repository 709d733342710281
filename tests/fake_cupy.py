"""A stand-in of the parts of cupy that drivers/cuda uses: kernels as C++, memory that knows its bounds, faults.

What is put into a stream runs later: one command for each question about an event, or all when somebody waits. So code
that reads results too early finds none here.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

from accel.calls import address_of
from accel.device import choice, cuda
from accel.device.strips import common_shapes
from tests.host_device import compile_host_side, compile_kernels

MEMORY, NO_DEVICE, NOT_READY, LAUNCH_FAILURE = 2, 100, 600, 719
_THREADS = 128
_ALL = 1 << 30
"""Bytes of the device's memory."""


def stand_in(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    """Put it in cupy's place; of the kernels with compiled-in rows only the smallest: C++ takes a minute for all."""
    compile_host_side()
    fake, few = FakeCupy(), common_shapes(4)[:1]
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(cuda, "common_shapes", lambda: few)
    monkeypatch.setattr(choice, "MOST_SPANS", 8)
    return fake


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"cudaError {status}")


class CUDADriverError(RuntimeError):
    pass


class CompileException(Exception):  # noqa: N818 - cupy's name
    pass


class FakeCupy:
    """What ``import cupy`` gives.

    Attributes
    ----------
    devices
        How many there are.
    broken
        A cudaError that every later call raises; 0 = none.
    hung
        Whether the device does nothing of what it is given.
    no_compiler
        What cupy says of NVRTC when it cannot load it; empty = it can.
    budget
        Allocations that still succeed.
    largest_pin
        Bytes of memory of the host that can be registered at once.
    copied
        Address at the host, and bytes, of every copy from pinned memory and to it.
    launched, recorded
        Kernels that ran; graphs that were recorded.
    ticks
        The device's clock: a millisecond for each kernel, copy and fill.
    freed
        Memory that was given back, as it was left.
    device, contexts
        The one that is current, and those that were; being that opens a context.
    """

    def __init__(self) -> None:
        self.devices = 1
        self.broken = 0
        self.hung = False
        self.no_compiler = ""
        self.budget = self.largest_pin = 1 << 30
        self.copied: list[tuple[int, int]] = []
        self.launched = 0
        self.ticks = 0
        self.recorded = 0
        self.memory: dict[int, Any] = {}
        self.freed: list[Any] = []
        self.pinned: dict[int, int] = {}
        self.current: Stream | None = None
        self.device = 0
        self.contexts: set[int] = set()
        self.cuda = SimpleNamespace(
            runtime=_Runtime(self),
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            compiler=SimpleNamespace(CompileException=CompileException),
            Device=lambda index: _Device(self, index),
            Stream=lambda non_blocking: Stream(self),
            Event=lambda disable_timing: _Event(self),
            get_elapsed_time=lambda start, end: end.ran - start.ran,
        )

    def RawModule(self, code: str, options: Sequence[str], backend: str) -> SimpleNamespace:  # noqa: N802 - cupy's name
        self.check()
        assert backend == "nvrtc"
        if self.no_compiler:
            raise RuntimeError(self.no_compiler)
        assert "--std=c++17" in options
        library = compile_kernels(code, "BYTE_PERMUTE")
        trapped = ctypes.c_int.in_dll(library, "trapped")
        return SimpleNamespace(get_function=lambda name: _Kernel(self, getattr(library, name), trapped))

    def check(self) -> None:
        if self.broken:
            raise CUDARuntimeError(self.broken)

    def holds(self, address: int, size: int) -> bool:
        """Whether a range lies in memory of the device, or in pinned memory."""
        ranges = [(start, len(memory)) for start, memory in self.memory.items()] + list(self.pinned.items())
        return any(start <= address and address + size <= start + length for start, length in ranges)


class _Runtime:
    CUDARuntimeError = CUDARuntimeError
    memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 1, 2, 3  # noqa: N815 - cupy's names

    def __init__(self, cupy: FakeCupy) -> None:
        self._cupy = cupy

    def getDeviceCount(self) -> int:  # noqa: N802
        self._cupy.check()
        if not self._cupy.devices:
            raise CUDARuntimeError(NO_DEVICE)
        return self._cupy.devices

    def getDeviceProperties(self, index: int) -> dict[str, Any]:  # noqa: N802
        numbers = {"pciDomainID": 0, "pciBusID": 0x65, "pciDeviceID": index}
        shape = {"major": 9, "minor": 0, "totalGlobalMem": _ALL, "multiProcessorCount": 132}
        return {"name": b"VANTUN-FAKE GPU", **shape, **numbers}

    def malloc(self, size: int) -> int:
        self._cupy.check()
        if not self._cupy.budget or size > _ALL:
            raise CUDARuntimeError(MEMORY)
        self._cupy.budget -= 1
        memory = np.full(size + 64, 0xEE, np.uint8)
        start = -address_of(memory) % 64
        view = memory[start : start + size]
        self._cupy.memory[address_of(view)] = view
        return address_of(view)

    def free(self, address: int) -> None:
        self._cupy.check()
        self._cupy.freed.append(self._cupy.memory.pop(address))

    def hostRegister(self, address: int, size: int, flags: int) -> None:  # noqa: N802
        self._cupy.check()
        assert address % 4096 == 0
        if size > self._cupy.largest_pin:
            raise CUDARuntimeError(MEMORY)
        self._cupy.pinned[address] = size

    def hostUnregister(self, address: int) -> None:  # noqa: N802
        self._cupy.check()
        del self._cupy.pinned[address]

    def memcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> None:  # noqa: N802
        self._cupy.check()
        if kind == self.memcpyHostToDevice and not self._cupy.holds(source, size):  # pageable: copied at once
            kept = ctypes.string_at(source, size)
            assert self._cupy.holds(to, size)
            Stream.by_number[stream].put(lambda: ctypes.memmove(to, kept, size))
            return
        assert self._cupy.holds(to, size)
        assert self._cupy.holds(source, size)
        if kind != self.memcpyDeviceToDevice:
            self._cupy.copied.append((source if kind == self.memcpyHostToDevice else to, size))
        Stream.by_number[stream].put(lambda: ctypes.memmove(to, source, size))

    def memsetAsync(self, to: int, value: int, size: int, stream: int) -> None:  # noqa: N802
        self._cupy.check()
        assert self._cupy.holds(to, size)
        Stream.by_number[stream].put(lambda: ctypes.memset(to, value, size))

    def eventQuery(self, event: int) -> int:  # noqa: N802
        """Return a status, and raise nothing, as cupy does."""
        return _Event.by_number[event].query()


class _Device:
    """What ``with`` does to the current device, as cupy's: CUDA 12 opens a context of each that becomes current."""

    def __init__(self, cupy: FakeCupy, index: int) -> None:
        self._cupy = cupy
        self._index = index
        self._before: list[int] = []

    def use(self) -> None:
        self._cupy.device = self._index
        self._cupy.contexts.add(self._index)

    def __enter__(self) -> None:
        self._before.append(self._cupy.device)
        if self._cupy.device != self._index:
            self.use()

    def __exit__(self, *_: object) -> None:
        self._cupy.device = self._before.pop()
        self._cupy.contexts.add(self._cupy.device)


class _Kernel:
    def __init__(self, cupy: FakeCupy, function: Any, trapped: ctypes.c_int) -> None:
        self._cupy = cupy
        self._function = function
        self._trapped = trapped

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: tuple[int, ...]) -> None:
        self._cupy.check()
        assert block == (_THREADS,)
        assert all(address in self._cupy.memory for address in arguments)
        assert self._cupy.current is not None
        pointers = [ctypes.c_void_p(address) for address in arguments]

        def run() -> None:
            self._cupy.check()
            self._cupy.launched += 1
            self._function(*pointers)
            if self._trapped.value:
                self._cupy.broken = LAUNCH_FAILURE

        self._cupy.current.put(run)


class Stream:
    by_number: dict[int, Stream] = {}  # noqa: RUF012 - as CUDA's handles, for the whole process

    def __init__(self, cupy: FakeCupy) -> None:
        cupy.check()
        self.ptr = id(self)
        self.commands: list[Callable[[], object]] = []
        self.cupy = self._cupy = cupy
        self._recording: list[Callable[[], object]] | None = None
        self.by_number[self.ptr] = self

    def put(self, command: Callable[[], object]) -> None:
        (self.commands if self._recording is None else self._recording).append(command)

    def step(self) -> None:
        if self.commands and not self.cupy.hung:
            self.cupy.ticks += 1
            self.commands.pop(0)()

    def synchronize(self) -> None:
        self._cupy.check()
        assert not self._cupy.hung, "who waits for a device that hangs waits for ever"
        while self.commands:
            self.step()

    def begin_capture(self) -> None:
        self._recording = []

    def end_capture(self) -> SimpleNamespace:
        recorded, self._recording = self._recording, None
        assert recorded
        self._cupy.recorded += 1
        return SimpleNamespace(launch=lambda stream: [stream.put(command) for command in recorded])

    def __enter__(self) -> None:
        self._cupy.current = self

    def __exit__(self, *_: object) -> None:
        self._cupy.current = None


class _Event:
    by_number: WeakValueDictionary[int, _Event] = WeakValueDictionary()  # noqa: RUF012 - as a stream's

    def __init__(self, cupy: FakeCupy) -> None:
        self.ptr = id(self)
        self.by_number[self.ptr] = self
        self._cupy = cupy
        self._stream: Stream | None = None
        self._passed = True
        self.ran = 0.0

    def record(self, stream: Stream) -> None:
        self._cupy.check()
        self._stream, self._passed = stream, False
        stream.put(self._pass)

    def _pass(self) -> None:
        self._passed = True
        self._cupy.ticks -= 1  # which is no work
        self.ran = float(self._cupy.ticks)

    def query(self) -> int:
        if self._cupy.broken:
            return self._cupy.broken
        if not self._passed and self._stream is not None:
            try:
                self._stream.step()
            except CUDARuntimeError as error:
                return error.status
        return 0 if self._passed else NOT_READY
