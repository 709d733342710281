"""Frames of a data packet: what stands behind the header, under the AEAD (docs/protocol.md, "Frames").

A shard frame (DATA or PARITY) is always the first frame of its packet, so that its unit has the same place in every
row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.wire.integers import int64
from vantun.wire.varint import get_varint, put_varint

PADDING = 0x00
PROBE = 0x01
PROBE_RESPONSE = 0x02
RECEIPT = 0x03
CLOSE = 0x04
RESTART = 0x05
RESTARTED = 0x06
DATA = 0x08
PARITY = 0x09

SHARD_HEADER = 8
"""``type | channel | seq (4, big-endian) | span | row``. DATA: seq is the shard's own number, span the number of data
shards of its block if it is known by now (else 0), row 0. PARITY: seq is the first shard of the span."""
PROBE_DATA = 8
MAX_RANGES = 256
"""Ranges in one RECEIPT: bounds the work of a receiver; older losses were reported before."""
CHANNEL_BITS = 4
"""Low bits of a channel byte that name the channel; above them stand the low bits of the session's epoch."""
CHANNEL_MASK = (1 << CHANNEL_BITS) - 1
MAX_CHANNELS = 16
"""Channel credits in one RECEIPT."""


@kernel
def put_shard_header(
    memory: NDArray[np.uint8], position: int, kind: int, channel: int, seq: int, span: int, row: int
) -> None:
    """Write a shard header (SHARD_HEADER bytes) at ``position``; ``seq`` is cut to 32 bits."""
    memory[position] = np.uint8(kind)
    memory[position + 1] = np.uint8(channel)
    for i in range(4):
        memory[position + 2 + i] = np.uint8((seq >> (8 * (3 - i))) & 0xFF)
    memory[position + 6] = np.uint8(span)
    memory[position + 7] = np.uint8(row)


@kernel
def get_uint32(memory: NDArray[np.uint8], position: int) -> int:
    """Return the big-endian uint32 at ``position``."""
    value = 0
    for i in range(4):
        value = (value << 8) | int64(memory[position + i])
    return value


@kernel
def put_receipt_head(memory: NDArray[np.uint8], position: int, path: int, largest: int, delay: int) -> int:
    """Write a RECEIPT up to its counts of ECN marks; ``delay`` in microseconds."""
    memory[position] = np.uint8(RECEIPT)
    position = put_varint(memory, position + 1, path)
    position = put_varint(memory, position, largest)
    return put_varint(memory, position, delay)


@kernel
def put_ranges(memory: NDArray[np.uint8], position: int, ranges: NDArray[np.int64], count: int) -> int:
    """Write ``count`` ranges, newest first.

    ``ranges`` is [shape=(n, 2), dtype=int64] inclusive (low, high), ascending and disjoint; the last ``count`` rows
    are written. Each range is ``length - 1``; between two ranges stands ``gap - 1``, the numbers missing between them
    minus one (as ACK ranges, RFC 9000, section 19.3.1).
    """
    position = put_varint(memory, position, count)
    last = len(ranges) - 1
    for i in range(count):
        low, high = ranges[last - i, 0], ranges[last - i, 1]
        if i > 0:
            position = put_varint(memory, position, ranges[last - i + 1, 0] - high - 2)
        position = put_varint(memory, position, high - low)
    return position


@kernel
def get_ranges(
    memory: NDArray[np.uint8], position: int, end: int, largest: int, out: NDArray[np.int64]
) -> tuple[int, int]:
    """Read ranges into ``out`` [shape=(MAX_RANGES, 2)] (low, high), newest first; return (count, position | -1)."""
    count, position = get_varint(memory, position, end)
    if position < 0 or count < 1 or count > MAX_RANGES:
        return 0, -1
    high = largest
    for i in range(count):
        if i > 0:
            gap, position = get_varint(memory, position, end)
            high = out[i - 1, 0] - gap - 2
        length, position = get_varint(memory, position, end)
        low = high - length
        if position < 0 or low < 0:
            return 0, -1
        out[i, 0] = low
        out[i, 1] = high
    return count, position
