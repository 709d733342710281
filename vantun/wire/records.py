"""Records: what the record area of a data shard carries (docs/protocol.md, "Records").

STREAM records carry a flow's bytes at an absolute offset, PACKETS records those of a packet flow; the others are the
control channel's. A record of type END, or the end of the area, ends the list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
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
PACKETS = 0x20
PACKETS_LENGTH = 0x21
"""PACKETS with an explicit length; plain PACKETS runs to the end of the area."""

RECORD_FIELDS = 6
"""Integers that get_record() writes."""

UNIT_HEAD = 2
"""Bytes of the length field at the start of a unit."""
UNIT_TAIL = 4
"""Bytes of the CRC-32C behind the record area."""
MAX_TARGET = 260
"""Bytes of an OPEN target, ``host:port``: 253 of a DNS name, colon, five digits, rounded up."""


@kernel
def stream_head_size(flow: int, offset: int) -> int:
    """Return the bytes of a STREAM record before its data."""
    return 1 + varint_size(flow) + varint_size(offset)


@kernel
def put_stream_head(memory: NDArray[np.uint8], position: int, flow: int, offset: int) -> int:
    """Write the head of a STREAM record that runs to the end of the area; return where its data starts."""
    memory[position] = np.uint8(STREAM)
    position = put_varint(memory, position + 1, flow)
    return put_varint(memory, position, offset)


@kernel
def put_packets_head(memory: NDArray[np.uint8], position: int, flow: int, offset: int, first: int) -> int:
    """Write the head of a PACKETS_LENGTH record without bytes; return where its data starts.

    ``first`` and the length, which :func:`set_packets_length` sets, have two bytes each: both are below 16,384.
    """
    memory[position] = np.uint8(PACKETS_LENGTH)
    position = put_varint(memory, position + 1, flow)
    position = put_varint(memory, position, offset)
    _put_two(memory, position, first)
    _put_two(memory, position + 2, 0)
    return position + 4


@kernel
def set_packets_length(memory: NDArray[np.uint8], data: int, length: int) -> None:
    """Set the length of the record that put_packets_head() wrote, whose data starts at ``data``."""
    _put_two(memory, data - 2, length)


@kernel
def _put_two(memory: NDArray[np.uint8], position: int, value: int) -> None:
    """Write a varint of two bytes."""
    memory[position] = np.uint8(0x40 | (value >> 8))
    memory[position + 1] = np.uint8(value & 0xFF)


@kernel
def put_pair(memory: NDArray[np.uint8], position: int, kind: int, first: int, second: int) -> int:
    """Write a record of two integers (FIN, RESET, STOP, CREDIT, PATH, ABANDON)."""
    memory[position] = np.uint8(kind)
    position = put_varint(memory, position + 1, first)
    return put_varint(memory, position, second)


@kernel
def get_record(memory: NDArray[np.uint8], position: int, end: int, out: NDArray[np.int64]) -> int:
    """Read the record at ``position`` of the area that ends at ``end``; return the position behind it, or -1.

    ``out`` [shape=(RECORD_FIELDS,), dtype=int64] receives (type, first integer, second integer, start of bytes, number
    of bytes, first packet): OPEN (flow, 0, target), STREAM (flow, offset, bytes), PACKETS (flow, offset, bytes, where
    in them the first packet starts), ACCEPT (flow), the rest two integers. END consumes the rest of the area.
    """
    if position < 0 or position >= end:
        return -1
    kind = int64(memory[position])
    out[0] = kind
    out[1:RECORD_FIELDS] = 0
    position += 1
    if kind == END:
        return end
    out[1], position = get_varint(memory, position, end)
    if kind == ACCEPT:
        return position
    if kind == OPEN:
        size, position = get_varint(memory, position, end)
        if position < 0 or size > end - position or size > MAX_TARGET:
            return -1
        out[3] = position
        out[4] = size
        return position + size
    out[2], position = get_varint(memory, position, end)
    if position < 0:
        return -1
    if kind in (STREAM, STREAM_LENGTH, PACKETS, PACKETS_LENGTH):
        if kind in (PACKETS, PACKETS_LENGTH):
            out[5], position = get_varint(memory, position, end)
            if position < 0:
                return -1
        size = end - position
        if kind in (STREAM_LENGTH, PACKETS_LENGTH):
            size, position = get_varint(memory, position, end)
            if position < 0 or size > end - position:
                return -1
        if out[5] > size:
            return -1
        out[3] = position
        out[4] = size
        return position + size
    if kind < FIN or kind > ABANDON:
        return -1
    return position
