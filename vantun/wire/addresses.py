"""Addresses in the packets of UDP associations, in the form of SOCKS5 (RFC 1928, section 5).

``type (1) | address | port (2, big-endian)`` with type 1 = IPv4 (4 bytes), 3 = name (1 byte of length, then the name),
4 = IPv6 (16 bytes). The slow definition of the same is :mod:`vantun.udp_address`. A *row* is a socket address of the
kernel, 28 bytes, as :mod:`drivers.linux.address` describes it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.wire.integers import int64

IPV4, NAME, IPV6 = 1, 3, 4
IPV4_SIZE, IPV6_SIZE = 7, 19
MAX_ADDRESS = 259
"""Bytes of the longest: a name of 255."""
ROW = 28
_INET, _INET6 = 2, 10


@kernel
def address_size(memory: NDArray[np.uint8], start: int, end: int) -> int:
    """Return the bytes of the address at ``start``, or -1 if none ends before ``end``."""
    if start < 0 or end > len(memory) or end - start < 2:
        return -1
    kind = int64(memory[start])
    size = -1
    if kind == IPV4:
        size = IPV4_SIZE
    elif kind == IPV6:
        size = IPV6_SIZE
    elif kind == NAME and memory[start + 1] > 0:
        size = 4 + int64(memory[start + 1])
    return size if size <= end - start else -1


@kernel
def is_mapped(rows: NDArray[np.uint8], row: int) -> bool:
    """Tell whether an IPv6 row holds an IPv4 address (``::ffff:a.b.c.d``)."""
    for i in range(10):
        if rows[row, 8 + i]:
            return False
    return bool(rows[row, 18] == 0xFF and rows[row, 19] == 0xFF)


@kernel
def put_row(memory: NDArray[np.uint8], start: int, rows: NDArray[np.uint8], row: int) -> int:
    """Write the address of a row; return its bytes, or -1 when it is of another family or ``memory`` is too short."""
    family = int64(rows[row, 0]) | int64(rows[row, 1]) << 8
    if family == _INET:
        kind, source, size = IPV4, 4, 4
    elif family == _INET6 and is_mapped(rows, row):
        kind, source, size = IPV4, 20, 4
    elif family == _INET6:
        kind, source, size = IPV6, 8, 16
    else:
        return -1
    if start < 0 or start + size + 3 > len(memory):
        return -1
    memory[start] = np.uint8(kind)
    for i in range(size):
        memory[start + 1 + i] = rows[row, source + i]
    memory[start + 1 + size] = rows[row, 2]
    memory[start + 2 + size] = rows[row, 3]
    return size + 3


@kernel
def get_row(memory: NDArray[np.uint8], start: int, rows: NDArray[np.uint8], row: int) -> bool:
    """Write the address at ``start``, which :func:`address_size` has measured, to a row; False if it is a name."""
    kind = int64(memory[start])
    if kind == NAME:
        return False
    for i in range(ROW):
        rows[row, i] = 0
    size, target = (4, 4) if kind == IPV4 else (16, 8)
    rows[row, 0] = np.uint8(_INET if kind == IPV4 else _INET6)
    for i in range(size):
        rows[row, target + i] = memory[start + 1 + i]
    rows[row, 2] = memory[start + 1 + size]
    rows[row, 3] = memory[start + 2 + size]
    return True
