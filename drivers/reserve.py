"""A range of addresses into which files of shared memory are mapped one beside the other.

What lies in one range is one array, so a descriptor of work reaches all of it by offsets: nothing has to be copied
together.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DriverError, SystemCallError
from drivers.library import Library

_PROT_NONE, _PROT_READ_WRITE = 0, 3
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x01, 0x02, 0x10, 0x20, 0x4000
"""Values of x86, arm64 and RISC-V."""
_C = Library("the C library", ["libc.so.6", "libc.musl-x86_64.so.1", "libc.so"], "run on Linux with glibc or musl")


class Reserve:
    """``places`` places of ``size`` bytes, a multiple of the page; nothing is in them until something is mapped.

    To read or write a place that is empty ends the process.

    Attributes
    ----------
    memory
        [uint8 (places * size,)]
    """

    def __init__(self, places: int, size: int) -> None:
        """Reserve addresses; raises SystemCallError when the kernel gives none."""
        self._size = size
        self._all = places * size
        self._address = _map(0, self._all, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1)
        self._free = list(range(places))[::-1]
        room = (ctypes.c_uint8 * self._all).from_address(self._address)
        self.memory: NDArray[np.uint8] = np.ctypeslib.as_array(room)

    def map(self, descriptor: int) -> int:
        """Map a file of ``size`` bytes, and return where it begins. Raises DriverError when every place is taken."""
        if not self._free:
            raise DriverError("every place for shared memory is taken; close something first")
        start = self._free[-1] * self._size
        _map(self._address + start, self._size, _PROT_READ_WRITE, _MAP_SHARED | _MAP_FIXED, descriptor)
        self._free.pop()
        return start

    def unmap(self, start: int) -> None:
        """Empty the place that begins at ``start``."""
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED
        _map(self._address + start, self._size, _PROT_NONE, flags, -1)
        self._free.append(start // self._size)

    def close(self) -> None:
        """Give every address back; no view may be used any more. May be called twice."""
        if self._address:
            unmap = _C.function("munmap", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
            unmap(self._address, self._all)
            self._address = 0
            self.memory = np.zeros(0, np.uint8)


def _map(address: int, size: int, protection: int, flags: int, descriptor: int) -> int:
    numbers = ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    call = _C.function("mmap", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, *numbers)
    found = call(address, size, protection, flags, descriptor, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        step = "free memory, or raise the limit on address space"
        raise SystemCallError(f"mapping {size} bytes of shared memory", ctypes.get_errno(), step)
    return int(found)
