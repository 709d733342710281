"""Records: what the record area of a data shard carries (docs/protocol.md, "Records").

STREAM records carry a flow's bytes at an absolute offset; the others are the control channel's. A record of type END,
or the end of the area, ends the list.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from vantun.wire.integers import int64
from vantun.wire.varint import get_varint, put_varint, varint_size

END = 0x00
OPEN = 0x01
ACCEPT = 0x02
FIN = 0x03
RESET = 0x04
STOP = 0x05
CREDIT = 0x06
PATH = 0x07
ABANDON = 0x08
STREAM = 0x10
STREAM_LENGTH = 0x11
"""STREAM with an explicit length; plain STREAM runs to the end of the area."""
DATAGRAM = 0x20

UNIT_HEAD = 2
"""Bytes of the length field at the start of a unit."""
UNIT_TAIL = 4
"""Bytes of the CRC-32C behind the record area."""
MAX_TARGET = 260
"""Bytes of an OPEN target, ``host:port``: 253 of a DNS name, colon, five digits, rounded up."""


@njit(cache=True)
def stream_head_size(flow: int, offset: int) -> int:
    """Return the bytes of a STREAM record before its data."""
    return 1 + varint_size(flow) + varint_size(offset)


@njit(cache=True)
def put_stream_head(memory: NDArray[np.uint8], position: int, flow: int, offset: int) -> int:
    """Write the head of a STREAM record that runs to the end of the area; return where its data starts."""
    memory[position] = np.uint8(STREAM)
    position = put_varint(memory, position + 1, flow)
    return put_varint(memory, position, offset)


@njit(cache=True)
def put_pair(memory: NDArray[np.uint8], position: int, kind: int, first: int, second: int) -> int:
    """Write a record of two integers (FIN, RESET, STOP, CREDIT, PATH, ABANDON)."""
    memory[position] = np.uint8(kind)
    position = put_varint(memory, position + 1, first)
    return put_varint(memory, position, second)


@njit(cache=True)
def get_record(memory: NDArray[np.uint8], position: int, end: int, out: NDArray[np.int64]) -> int:
    """Read the record at ``position`` of the area that ends at ``end``; return the position behind it, or -1.

    ``out`` [shape=(5,), dtype=int64] receives (type, first integer, second integer, start of bytes, number of bytes):
    OPEN (flow, 0, target), STREAM (flow, offset, bytes), DATAGRAM (flow, 0, bytes), ACCEPT (flow), the rest two
    integers. END consumes the rest of the area.
    """
    if position < 0 or position >= end:
        return -1
    kind = int64(memory[position])
    out[0] = kind
    out[1] = 0
    out[2] = 0
    out[3] = 0
    out[4] = 0
    position += 1
    if kind == END:
        return end
    out[1], position = get_varint(memory, position, end)
    if kind == ACCEPT:
        return position
    if kind in (OPEN, DATAGRAM):
        size, position = get_varint(memory, position, end)
        if position < 0 or size > end - position or (kind == OPEN and size > MAX_TARGET):
            return -1
        out[3] = position
        out[4] = size
        return position + size
    out[2], position = get_varint(memory, position, end)
    if position < 0:
        return -1
    if kind in (STREAM, STREAM_LENGTH):
        size = end - position
        if kind == STREAM_LENGTH:
            size, position = get_varint(memory, position, end)
            if position < 0 or size > end - position:
                return -1
        out[3] = position
        out[4] = size
        return position + size
    if kind < FIN or kind > ABANDON:
        return -1
    return position
