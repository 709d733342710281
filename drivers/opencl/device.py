"""A program on an OpenCL device, and lanes of it: host memory, memory of the device, and a queue each.

Where the device shares the host's memory, a lane is one memory for both, without copies (page-aligned: an unaligned one
crashes PoCL). Else the host's side is pinned by the driver and copied, so that lanes overlap.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.errors import DriverError
from drivers.lanes import Batch, Launch, Room, Run, Way
from drivers.opencl.binaries import build_program
from drivers.opencl.find import OpenclPlace

GROUP = 64
"""Work items of a group; no kernel cares."""

_Bytes = NDArray[np.uint8]
_Words = NDArray[np.uint32]


class OpenclProgram:
    """Kernels on a device, and the table that they all read."""

    def __init__(self, place: OpenclPlace, text: str, kernels: Sequence[str], binaries: Path | None = None) -> None:
        import pyopencl

        self.cl: Any = pyopencl
        self.place = place
        with _told(place, "opening it"):
            self.context = pyopencl.Context([place.handle])
            self.queue = pyopencl.CommandQueue(self.context)
            self._programs = dict.fromkeys(kernels, build_program(self.context, place, text, kernels, binaries))
            self.table = pyopencl.Buffer(self.context, pyopencl.mem_flags.READ_ONLY, size=4096)
        self.words = 1024
        self._binaries = binaries
        self._lanes: list[OpenclLane] = []
        self.shared = bool(place.handle.host_unified_memory)

    def add(self, text: str, kernels: Sequence[str]) -> None:
        """Build a further program, from its binary where there is one; lanes can launch its kernels from then on."""
        with _told(self.place, f"building {', '.join(kernels)}"):
            program = build_program(self.context, self.place, text, kernels, self._binaries)
        self._programs |= dict.fromkeys(kernels, program)

    def kernel(self, name: str) -> Any:
        """Return a kernel for somebody who keeps his arguments in it."""
        return self.cl.Kernel(self._programs[name], name)

    def lane(self, room: Room, *, shared: bool | None = None) -> OpenclLane:
        """Return a lane; ``shared`` = one memory for both sides, by default where the device has no other."""
        with _told(self.place, "reserving memory for a lane"):
            lane = OpenclLane(self, room, shared=self.shared if shared is None else shared)
        self._lanes.append(lane)
        return lane

    def write_table(self, first: int, words: _Words) -> None:
        """Write words of the table, from ``first`` on; it grows to hold them."""
        with _told(self.place, "writing to its memory"):
            if first + len(words) > self.words:
                self._grow(first + len(words))
            self.cl.enqueue_copy(self.queue, self.table, words, dst_offset=4 * first, is_blocking=True)

    def close(self) -> None:
        """Fill the table with zeros and release it."""
        with _told(self.place, "closing it"):
            self._fill(self.table, 0, 4 * self.words)
            self.queue.finish()
            self.table.release()

    def _grow(self, words: int) -> None:
        size = max(words, 2 * self.words)
        larger = self.cl.Buffer(self.context, self.cl.mem_flags.READ_ONLY, size=4 * size)
        for lane in self._lanes:  # a batch on its way reads the old table
            lane.finish()
        self.cl.enqueue_copy(self.queue, larger, self.table, byte_count=4 * self.words)
        self._fill(larger, 4 * self.words, 4 * (size - self.words))
        self._fill(self.table, 0, 4 * self.words)
        self.queue.finish()
        self.table.release()
        self.table, self.words = larger, size

    def _fill(self, buffer: Any, offset: int, size: int) -> None:
        self.cl.enqueue_fill_buffer(self.queue, buffer, np.zeros(1, np.uint32), offset, size)


class CopyingProgram(OpenclProgram):
    """The same on a device with memory of its own: its lanes copy from and to any memory of the host themselves.

    Nothing is registered for that. A buffer over the host's memory (``CL_MEM_USE_HOST_PTR``) would be, but a driver may
    keep what it has read of it, and need not see what another process writes there.
    """

    def __init__(self, place: OpenclPlace, text: str, kernels: Sequence[str], binaries: Path | None = None) -> None:
        super().__init__(place, text, kernels, binaries)
        self.shared = False

    def pin(self, address: int, size: int) -> str:
        """Do nothing; return that nothing is in the way."""
        return ""

    def unpin(self, address: int) -> None:
        """Nothing is held."""


def open_program(place: OpenclPlace, text: str, kernels: Sequence[str], binaries: Path | None = None) -> OpenclProgram:
    """Return a program on a device, as its memory wants it. Raises DriverError."""
    kind = OpenclProgram if place.handle.host_unified_memory else CopyingProgram
    return kind(place, text, kernels, binaries)


class OpenclLane:
    """A lane.

    Attributes
    ----------
    source, target, work
        Host memory.
    """

    def __init__(self, program: OpenclProgram, room: Room, *, shared: bool) -> None:
        cl = program.cl
        self._program = program
        self._shared = shared
        self._queue = cl.CommandQueue(program.context)
        self._kernels: dict[str, Any] = {}
        self._event: Any = None
        self._copies: list[Any] = []
        self._wanted = 0
        sizes = (room.source, room.target, 4 * room.work)
        self._arenas = [Arena(1, -(-size // 4096) * 4096) for size in sizes]
        self.source: _Bytes = self._arenas[0].memory[: room.source]
        self.target: _Bytes = self._arenas[1].memory[: room.target]
        self.work: _Words = self._arenas[2].memory[: 4 * room.work].view(np.uint32)
        flags = cl.mem_flags
        if shared:
            use = flags.READ_WRITE | flags.USE_HOST_PTR
            self._buffers = [cl.Buffer(program.context, use, hostbuf=arena.memory) for arena in self._arenas]
        else:
            self._buffers = [cl.Buffer(program.context, flags.READ_WRITE, size=size) for size in sizes]
        self._scratch = cl.Buffer(program.context, flags.READ_WRITE, size=4 * room.scratch)

    def begin(self, batch: Batch) -> None:
        """Copy in, launch, copy out; nothing of it is waited for."""
        cl, program = self._program.cl, self._program
        self._wanted = batch.target
        with _told(program.place, "beginning a batch"):
            if not self._shared:
                self._copy_in(batch)
            for launch in batch.launches:
                if launch.items:
                    self._launch(self._queue, launch)
            if not self._shared:
                self._copy_out(batch)
            self._event = cl.enqueue_marker(self._queue)
            self._queue.flush()

    def done(self) -> bool:
        """Whether the batch is complete; raises DriverError when a command of it failed."""
        status = self._program.cl.command_execution_status
        with _told(self._program.place, "asking for a batch"):
            state = self._event.get_info(self._program.cl.event_info.COMMAND_EXECUTION_STATUS)
        if state < 0:
            place = self._program.place
            raise DriverError(f"OpenCL device {place}: a batch failed (status {state}); see the driver's log")
        if state != status.COMPLETE:
            return False
        self._copies.clear()
        if self._shared and self._wanted:  # what makes the device's writes visible, and costs nothing where they are
            with _told(self._program.place, "reading its results"):
                self._see()
        return True

    def finish(self) -> None:
        """Wait for what runs; for ever, where the device hangs: OpenCL knows no other way, and pyopencl none at all."""
        self._queue.finish()

    def compute_seconds(self, batch: Batch, times: int) -> float:
        """Compute again what a batch that is done has left in the device's memory, without copies, ``times`` times.

        Returns the seconds of one, by the device's clock.
        """
        with _told(self._program.place, "timing a batch"):
            queue = self._profiled()
            launches = [launch for launch in batch.launches if launch.items]
            events = [self._launch(queue, launch) for _ in range(times) for launch in launches]
            return _seconds(queue, events) / times

    def copy_seconds(self, way: Way, size: int, times: int) -> float:
        """Return the seconds of one of ``times`` copies of ``size`` bytes, by the device's clock.

        A device that shares the host's memory copies nothing in or out: 0.
        """
        if self._shared and way is not Way.WITHIN:
            return 0.0
        source, target, _ = self._buffers
        copy, more = self._program.cl.enqueue_copy, {"is_blocking": False}
        with _told(self._program.place, "timing a copy"):
            queue = self._profiled()
            if way is Way.WITHIN:
                events = [copy(queue, target, source, byte_count=size) for _ in range(times)]
            elif way is Way.IN:
                events = [copy(queue, source, self.source[:size], **more) for _ in range(times)]
            else:
                events = [copy(queue, self.target[:size], target, **more) for _ in range(times)]
            return _seconds(queue, events) / times

    def close(self) -> None:
        """Wait for what runs, wipe, and release."""
        cl = self._program.cl
        with _told(self._program.place, "closing a lane"):
            self._queue.finish()
            for buffer in (*self._buffers, self._scratch):  # what keys and packets have left
                cl.enqueue_fill_buffer(self._queue, buffer, np.zeros(1, np.uint32), 0, buffer.size)
            self._queue.finish()
            for buffer in (*self._buffers, self._scratch):
                buffer.release()
        for arena in self._arenas:
            arena.empty()
            arena.close()

    def _see(self) -> None:
        cl = self._program.cl
        mapped, _ = cl.enqueue_map_buffer(
            self._queue, self._buffers[1], cl.map_flags.READ, 0, (self._wanted,), np.uint8, is_blocking=True
        )
        mapped.base.release(self._queue)

    def _copy_in(self, batch: Batch) -> None:
        source, _, work = self._buffers
        place = 0
        for memory in [_memory_of(run) for run in batch.inward] or [self.source[: batch.source]]:
            self._copy(source, memory, dst_offset=place)
            place += len(memory)
        self._copy(work, self.work[: batch.work])

    def _copy_out(self, batch: Batch) -> None:
        place = 0
        for memory in [_memory_of(run) for run in batch.outward] or [self.target[: batch.target]]:
            self._copy(memory, self._buffers[1], src_offset=place)
            place += len(memory)

    def _copy(self, to: Any, source: Any, **offset: int) -> None:
        """Begin a copy. Its event is kept until the batch is done: pyopencl waits for one that nobody keeps."""
        if len(to if isinstance(to, np.ndarray) else source):
            self._copies.append(self._program.cl.enqueue_copy(self._queue, to, source, is_blocking=False, **offset))

    def _profiled(self) -> Any:
        """Return a queue whose commands can be timed; nothing else runs in this lane."""
        self.finish()
        profiling = self._program.cl.command_queue_properties.PROFILING_ENABLE
        return self._program.cl.CommandQueue(self._program.context, properties=profiling)

    def _launch(self, queue: Any, launch: Launch) -> Any:
        kernel = self._kernels.get(launch.kernel) or self._kernel(launch.kernel)
        kernel.set_args(*self._buffers, self._scratch, self._program.table)
        size = -(-launch.items // GROUP) * GROUP
        return self._program.cl.enqueue_nd_range_kernel(queue, kernel, (size,), (GROUP,))

    def _kernel(self, name: str) -> Any:
        """Return a kernel of this lane's own: its arguments are kept in it."""
        kernel = self._kernels[name] = self._program.kernel(name)
        return kernel


def _memory_of(run: Run) -> _Bytes:
    """Return the memory that a batch names."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * run.size).from_address(run.address))


def _seconds(queue: Any, events: Sequence[Any]) -> float:
    """Return what commands took together."""
    queue.finish()
    return float(sum(event.profile.end - event.profile.start for event in events)) / 1e9


@contextlib.contextmanager
def _told(place: OpenclPlace, doing: str) -> Iterator[None]:
    """Turn pyopencl's errors into a DriverError that says what was done."""
    import pyopencl

    try:
        yield
    except (pyopencl.Error, MemoryError) as error:
        step = "see the driver's log; `vantun accel probe` tries it again"
        raise DriverError(f"OpenCL device {place}: {doing} failed: {error}; {step}") from None
