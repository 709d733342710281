"""Memory for packets: allocated once, aligned, fenced.

Raw addresses of arena rows stand in iovecs and descriptors for as long as a socket or device is open, so an arena never
moves and never grows. It is one anonymous mapping::

    | guard page (PROT_NONE) | rows x stride bytes, 4096-byte aligned ... slack | guard page (PROT_NONE) |

Kernels without bounds checks run over these rows; one that runs away dies at once with SIGSEGV instead of corrupting
a neighbour. Pages cost nothing until they are first written.
"""

from __future__ import annotations

import ctypes
import mmap
from types import TracebackType
from typing import TYPE_CHECKING

from drivers.errors import DriverError, SystemCallError
from drivers.library import Library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNMENT = 4096
"""Bytes: devices with DMA want page-aligned memory, and no row 0 shares a cache line with anything else."""
LINE = 64
"""Bytes of a cache line."""

_PROT_NONE = 0
_MAP_NORESERVE = 0x4000
"""Not in Python's mmap; the value of x86, arm64 and RISC-V."""
_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.so"], "run on Linux with glibc or musl")


def row_stride(length: int) -> int:
    """Return the smallest odd multiple of 64 that is at least ``length`` (and at least 64).

    An odd number of cache lines is never a power of two (but for 64 itself, where rows are dense), so the first lines
    of consecutive rows fall into different cache sets. With 2048-byte rows, 64 headers would fight for 2 sets of an L1.
    """
    lines = max(1, -(-length // LINE))
    return (lines | 1) * LINE


class Arena:
    """``rows`` rows of ``stride`` bytes between two guard pages; a context manager.

    The end of the data is followed by up to one page of slack (the data begins on a page, so its end cannot always
    meet the guard); the slack belongs to nobody.

    Closing gives up the arena's own hold only. The mapping goes when the last view of it goes, so a view that outlives
    :meth:`close` stays valid memory: it is a leak that can be found, never a crash. Raw addresses (:attr:`address`)
    hold nothing; whoever stores them must also hold the arena.

    Attributes
    ----------
    memory
        [shape=(rows * stride,), dtype=uint8]
    rows, stride
        As given.
    address
        Address of the first byte.

    Raises
    ------
    DriverError
        When the size makes no sense.
    SystemCallError
        When the kernel gives no memory.
    """

    def __init__(self, rows: int, stride: int) -> None:
        if rows < 1 or stride < 1:
            raise DriverError(f"an arena of {rows} rows of {stride} bytes makes no sense; give at least 1 of each")
        self.rows = rows
        self.stride = stride
        mapping, memory = _map_fenced(rows * stride)
        self._mapping: mmap.mmap | None = mapping
        self._memory: NDArray[np.uint8] | None = memory
        self.address = int(memory.ctypes.data)

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The flat memory, [shape=(rows * stride,), dtype=uint8]; raises DriverError once closed."""
        if self._memory is None:
            raise DriverError(f"this arena of {self.rows} rows of {self.stride} bytes is closed; use it before close()")
        return self._memory

    def row(self, index: int) -> NDArray[np.uint8]:
        """Return a view of row ``index``, [shape=(stride,), dtype=uint8]; raises IndexError outside 0..rows-1."""
        if not 0 <= index < self.rows:
            raise IndexError(f"row {index} of an arena with {self.rows} rows")
        return self.memory[index * self.stride : (index + 1) * self.stride]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._memory is None

    def empty(self) -> None:
        """Fill the memory with zeros, and give its pages back to the kernel; the arena stays in use.

        Closing cannot promise that: some last view of a large arena may stay for long.
        """
        if self._mapping is not None:
            guard = max(mmap.PAGESIZE, ALIGNMENT)
            self._mapping.madvise(mmap.MADV_DONTNEED, guard, len(self._mapping) - 2 * guard)

    def close(self) -> None:
        """Give up the memory; it is unmapped when no view of it is left. May be called twice."""
        self._memory = self._mapping = None

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Arena(rows={self.rows}, stride={self.stride}{', closed' if self.closed else ''})"


def _map_fenced(size: int) -> tuple[mmap.mmap, NDArray[np.uint8]]:
    guard = max(mmap.PAGESIZE, ALIGNMENT)
    span = -(-size // guard) * guard
    doing = f"mapping {size} bytes of packet memory"
    try:
        # MAP_PRIVATE: Python's default for anonymous memory is MAP_SHARED, which is a tmpfs file in disguise.
        # MAP_NORESERVE: tables have room for the largest worker; a small machine must not be asked for all of it.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        mapping = mmap.mmap(-1, guard + span + guard, flags=flags)
    except OSError as error:
        raise SystemCallError(doing, error.errno or 0, "lower `limits.memory` or free memory") from None
    import numpy as np  # here: whoever only asks for a stride does without

    whole = np.frombuffer(mapping, np.uint8)  # exports the mapping: it lives until the last view is gone
    start = int(whole.ctypes.data)
    protect = _C.function("mprotect", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for fence in (start, start + guard + span):
        if protect(fence, guard, _PROT_NONE) != 0:
            step = "raise the number of mappings: sysctl -w vm.max_map_count=262144"
            raise SystemCallError(doing, ctypes.get_errno(), step)
    return mapping, whole[guard : guard + size]
