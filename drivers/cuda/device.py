"""A program on a CUDA device, and lanes of it: pinned host memory, memory of the device, and a stream each.

Nothing is allocated for a batch. The kernels of a batch are recorded once for each size of grid (powers of two) as a
CUDA graph and repeated: how many items there are stands in the lane's work, so a grid that is too large only returns.
Copies are as long as the batch and stay outside of the graph.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.cuda.find import INSTALL, CudaPlace, load_cupy, next_step
from drivers.errors import DriverError
from drivers.lanes import Batch, Launch, Room, Way

BLOCK = 128
"""Threads of a block."""
OPTIONS = ("--std=c++17", "--diag-suppress=177")
"""For NVRTC; 177 = a function that one of the programs does not use."""
GRAPHS = 64
"""That a lane keeps, the newest; sizes of grid are powers of two, but each kernel of a batch has its own."""
NOT_READY = 600
"""cudaErrorNotReady: what was asked for is on its way."""
LOOKS = 10_000
"""At a device, for a second at least, until it counts as one that hangs. No clock: this process may be stopped, too."""
_SOON, _PAUSE = 100, 1e-4
_PAGE = 4096

_Bytes = NDArray[np.uint8]
_Words = NDArray[np.uint32]
_Grids = tuple[tuple[str, int], ...]


class CudaProgram:
    """Kernels on a device, and the table that they all read."""

    def __init__(self, place: CudaPlace, text: str, kernels: Sequence[str]) -> None:
        self.cupy = load_cupy()
        self.place = place
        self.device = self.cupy.cuda.Device(place.index)
        self._lanes: list[CudaLane] = []
        with self.told("opening it"):
            self.device.use()  # else each ``with self.device`` would go back to device 0, which opens a context there
        with self.told("compiling the kernels"), self.device:
            self.kernels = self._compile(text, kernels)
            self.words = 1024
            self.table = self.cupy.cuda.runtime.malloc(4 * self.words)
            self._stream = self.cupy.cuda.Stream(non_blocking=True)

    def add(self, text: str, kernels: Sequence[str]) -> None:
        """Compile a further program, whose kernels lanes can launch from then on; cupy keeps what it has compiled."""
        with self.told(f"compiling {', '.join(kernels)}"), self.device:
            self.kernels |= self._compile(text, kernels)

    def lane(self, room: Room) -> CudaLane:
        """Return a lane; raises DriverError when the host or the device has no memory for it."""
        with self.told("reserving memory for a lane"), self.device:
            lane = CudaLane(self, room)
        self._lanes.append(lane)
        return lane

    def write_table(self, first: int, words: _Words) -> None:
        """Write words of the table, from ``first`` on; it grows to hold them."""
        runtime = self.cupy.cuda.runtime
        with self.told("writing to its memory"), self.device:
            if first + len(words) > self.words:
                self._grow(first + len(words))
            source = np.ascontiguousarray(words)
            kind = runtime.memcpyHostToDevice
            runtime.memcpyAsync(self.table + 4 * first, source.ctypes.data, source.nbytes, kind, self._stream.ptr)
            self.wait(self._stream)

    def pin(self, address: int, size: int) -> str:
        """Register whole pages of the host, which lanes then copy from and to directly; return why not, "" = done.

        They must not go before :meth:`unpin`.
        """
        try:
            with self.told("registering memory"), self.device:
                self.cupy.cuda.runtime.hostRegister(address, size, 0)
        except DriverError as error:
            return str(error)
        return ""

    def unpin(self, address: int) -> None:
        """Take memory back that was registered; nothing of it may be on its way."""
        with self.told("giving back memory"), self.device:
            self.cupy.cuda.runtime.hostUnregister(address)

    def close(self) -> None:
        """Fill the table with zeros and release it."""
        runtime = self.cupy.cuda.runtime
        with self.told("closing it"), self.device:
            runtime.memsetAsync(self.table, 0, 4 * self.words, self._stream.ptr)
            self.wait(self._stream)
            runtime.free(self.table)

    def wait(self, stream: Any) -> None:
        """Wait for what a stream was given; raises DriverError when the device has failed, or hangs.

        CUDA's own waiting would never come back from one that hangs.
        """
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        for look in range(LOOKS):
            if self.passed(event):
                return
            if look >= _SOON:
                time.sleep(_PAUSE)
        raise DriverError(
            f"{self.place}: it hangs: it has not done what it was given {LOOKS * _PAUSE:g} s ago; reset it"
        )

    def passed(self, event: Any) -> bool:
        """Whether an event was reached; cupy's ``Event.done`` takes every error for "not yet", for ever."""
        runtime = self.cupy.cuda.runtime
        status = int(runtime.eventQuery(event.ptr))
        if status not in (0, NOT_READY):
            raise runtime.CUDARuntimeError(status)
        return status == 0

    def _compile(self, text: str, kernels: Sequence[str]) -> dict[str, Any]:
        try:
            module = self.cupy.RawModule(code=text, options=OPTIONS, backend="nvrtc")
            return {name: module.get_function(name) for name in kernels}
        except self._errors:
            raise
        except (RuntimeError, AssertionError, OSError) as error:  # whatever cupy says where there is no NVRTC
            said = str(error).strip().partition("\n")[0]
            raise DriverError(f"{self.place}: NVRTC compiles nothing: {said}; {INSTALL}") from None

    def _grow(self, words: int) -> None:
        runtime, stream = self.cupy.cuda.runtime, self._stream.ptr
        size = max(words, 2 * self.words)
        larger = runtime.malloc(4 * size)
        for lane in self._lanes:  # a batch on its way reads the old table
            self.wait(lane.stream)
        runtime.memsetAsync(larger, 0, 4 * size, stream)
        runtime.memcpyAsync(larger, self.table, 4 * self.words, runtime.memcpyDeviceToDevice, stream)
        runtime.memsetAsync(self.table, 0, 4 * self.words, stream)
        self.wait(self._stream)
        runtime.free(self.table)
        self.table, self.words = larger, size

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        """What cupy raises when CUDA, its driver or its compiler refuses something."""
        cuda = self.cupy.cuda
        return cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.compiler.CompileException

    @contextlib.contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Turn CUDA's errors into a DriverError that says what was done, and what to do."""
        try:
            yield
        except self._errors as error:
            raise DriverError(f"{self.place}: {doing} failed: {error}; {next_step(error)}") from None


class CudaLane:
    """A lane.

    Attributes
    ----------
    source, target, work
        Host memory, pinned.
    stream
        Its commands.
    """

    def __init__(self, program: CudaProgram, room: Room) -> None:
        cuda = program.cupy.cuda
        self._program = program
        self._graphs: dict[tuple[int, _Grids], Any] = {}
        self._arenas: list[Arena] = []
        self._memory: list[int] = []
        self.stream = cuda.Stream(non_blocking=True)
        self._event = cuda.Event(disable_timing=True)
        sizes = (room.source, room.target, 4 * room.work)
        self._sizes = (*sizes, 4 * room.scratch)
        try:
            for size in sizes:
                arena = Arena(1, -(-size // _PAGE) * _PAGE)
                cuda.runtime.hostRegister(arena.address, arena.stride, 0)
                self._arenas.append(arena)
            for size in self._sizes:
                self._memory.append(cuda.runtime.malloc(size))
        except BaseException:
            self._release()
            raise
        self.source: _Bytes = self._arenas[0].memory[: room.source]
        self.target: _Bytes = self._arenas[1].memory[: room.target]
        self.work: _Words = self._arenas[2].memory[: 4 * room.work].view(np.uint32)

    def begin(self, batch: Batch) -> None:
        """Copy in, launch, copy out; nothing of it is waited for."""
        program, runtime, stream = self._program, self._program.cupy.cuda.runtime, self.stream
        source, target, work, _ = self._memory
        here = [arena.address for arena in self._arenas]
        inward = batch.inward or ((here[0], batch.source),)
        outward = batch.outward or ((here[1], batch.target),)
        with program.told("beginning a batch"), program.device:
            for address, size in inward:
                if size:
                    runtime.memcpyAsync(source, address, size, runtime.memcpyHostToDevice, stream.ptr)
                    source += size
            runtime.memcpyAsync(work, here[2], 4 * batch.work, runtime.memcpyHostToDevice, stream.ptr)
            graph = self._graph(batch)
            if graph is not None:
                graph.launch(stream)
            for address, size in outward:
                if size:
                    runtime.memcpyAsync(address, target, size, runtime.memcpyDeviceToHost, stream.ptr)
                    target += size
            self._event.record(stream)

    def done(self) -> bool:
        """Whether the batch is complete; raises DriverError when the device has failed."""
        with self._program.told("waiting for a batch"), self._program.device:
            return self._program.passed(self._event)

    def compute_seconds(self, batch: Batch, times: int) -> float:
        """Compute again what a batch that is done has left in the device's memory, without copies, ``times`` times.

        Returns the seconds of one, by the device's clock.
        """
        with self._program.told("timing a batch"), self._program.device:
            graph = self._graph(batch)
            return 0.0 if graph is None else self._seconds(lambda: graph.launch(self.stream), times)

    def copy_seconds(self, way: Way, size: int, times: int) -> float:
        """Return the seconds of one of ``times`` copies of ``size`` bytes, by the device's clock."""
        runtime = self._program.cupy.cuda.runtime
        here = [arena.address for arena in self._arenas]
        to, source, kind = {
            Way.IN: (self._memory[0], here[0], runtime.memcpyHostToDevice),
            Way.OUT: (here[1], self._memory[1], runtime.memcpyDeviceToHost),
            Way.WITHIN: (self._memory[1], self._memory[0], runtime.memcpyDeviceToDevice),
        }[way]
        with self._program.told("timing a copy"), self._program.device:
            return self._seconds(lambda: runtime.memcpyAsync(to, source, size, kind, self.stream.ptr), times)

    def close(self) -> None:
        """Wait for what runs, wipe, and release; what the device does not answer for is left to the driver."""
        runtime = self._program.cupy.cuda.runtime
        with self._program.told("closing a lane"), self._program.device:
            for memory, size in zip(self._memory, self._sizes, strict=True):  # what keys and packets have left
                runtime.memsetAsync(memory, 0, size, self.stream.ptr)
            self._program.wait(self.stream)
            self._release()  # which waits for the whole device, and would for ever where that hangs

    def _graph(self, batch: Batch) -> Any | None:
        """Return the recorded launches of a batch; None when it has none."""
        grids = tuple((launch.kernel, _blocks(launch)) for launch in batch.launches if launch.items)
        if not grids:
            return None
        return self._graphs.get((self._program.table, grids)) or self._record(grids)

    def _seconds(self, command: Callable[[], object], times: int) -> float:
        cuda, stream = self._program.cupy.cuda, self.stream
        start, end = cuda.Event(disable_timing=False), cuda.Event(disable_timing=False)
        command()
        start.record(stream)
        for _ in range(times):
            command()
        end.record(stream)
        stream.synchronize()
        return float(cuda.get_elapsed_time(start, end)) / 1e3 / times

    def _record(self, grids: _Grids) -> Any:
        """Record launches, as they are with the table where it is now."""
        program, stream = self._program, self.stream
        arguments = (*self._memory, program.table)
        with stream:
            stream.begin_capture()
            for kernel, blocks in grids:
                program.kernels[kernel]((blocks,), (BLOCK,), arguments)
            graph = stream.end_capture()
        kept = [(key, each) for key, each in self._graphs.items() if key[0] == program.table]
        self._graphs = dict([*kept, ((program.table, grids), graph)][-GRAPHS:])
        return graph

    def _release(self) -> None:
        runtime = self._program.cupy.cuda.runtime
        for memory in self._memory:
            runtime.free(memory)
        for arena in self._arenas:
            runtime.hostUnregister(arena.address)
            arena.empty()
            arena.close()
        self._memory, self._arenas, self._graphs = [], [], {}


def _blocks(launch: Launch) -> int:
    return 1 << ((launch.items + BLOCK - 1) // BLOCK - 1).bit_length()
