"""CRC-32C (Castagnoli; RFC 3720, appendix B.4): the reference, and what the data path calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import before_compiling, kernel

if TYPE_CHECKING:

    def _of_memory(address: int, length: int) -> int: ...


@before_compiling
def _teach_names() -> None:
    """Define the function that only compiled code can call; the library gets one for each CPU level."""
    import llvmlite.binding as llvm
    from numba import types

    from accel.ir.crc import SYMBOL, jit_address

    llvm.add_symbol(SYMBOL, jit_address())
    globals().update(_of_memory=types.ExternalFunction(SYMBOL, types.uint32(types.intp, types.intp)))


@kernel
def unit_crc(memory: NDArray[np.uint8], offset: int, length: int) -> int:
    """Return the CRC-32C of ``memory[offset : offset + length]``, as fast as the processor can; see accel/ir/crc.py.

    ``memory`` lies in one piece.
    """
    return _of_memory(memory.ctypes.data + offset, length)


_REFLECTED = 0x82F63B78


def _tables() -> NDArray[np.uint32]:
    table = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_REFLECTED if crc & 1 else 0)
        table[0, byte] = crc
    for step in range(1, 8):
        before = table[step - 1]
        table[step] = (before >> 8) ^ table[0][before & 0xFF]
    return table


_TABLE = _tables()


@kernel
def crc32c(memory: NDArray[np.uint8], offset: int, length: int) -> np.uint32:
    """Return the CRC-32C of ``memory[offset : offset + length]`` (uint32): slicing-by-8, Kounavis and Berry 2005."""
    crc = np.uint32(0xFFFFFFFF)
    position = offset
    end = offset + length
    byte = np.uint32(0xFF)
    while end - position >= 8:
        low = crc ^ (
            np.uint32(memory[position])
            | (np.uint32(memory[position + 1]) << np.uint32(8))
            | (np.uint32(memory[position + 2]) << np.uint32(16))
            | (np.uint32(memory[position + 3]) << np.uint32(24))
        )
        crc = (
            _TABLE[7, low & byte]
            ^ _TABLE[6, (low >> np.uint32(8)) & byte]
            ^ _TABLE[5, (low >> np.uint32(16)) & byte]
            ^ _TABLE[4, low >> np.uint32(24)]
            ^ _TABLE[3, memory[position + 4]]
            ^ _TABLE[2, memory[position + 5]]
            ^ _TABLE[1, memory[position + 6]]
            ^ _TABLE[0, memory[position + 7]]
        )
        position += 8
    while position < end:
        crc = _TABLE[0, (crc ^ np.uint32(memory[position])) & byte] ^ (crc >> np.uint32(8))
        position += 1
    return crc ^ np.uint32(0xFFFFFFFF)
