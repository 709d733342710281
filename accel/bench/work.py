"""Work to measure engines by: batches of spans with losses, batches of packets, and a copy of as many bytes.

Units and packets begin at multiples of 64 bytes, as in the arenas of the pipeline.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of, aligned
from accel.engine import (
    HEADER_LENGTH,
    SHORTEST_OPEN,
    TAG_LENGTH,
    EngineSession,
    KeySpec,
    OpenJob,
    SealJob,
    SpanJob,
    Suite,
)
from accel.gf256 import COLUMNS, ROWS

_LINE = 64
_FIRST_BYTE = 0x43
"""Of a short header: fixed bit, four bytes of packet number, key phase 0."""
LONGEST = 1 << 16
"""Bytes of a unit or packet at most."""


def stride(size: int) -> int:
    """Return the distance of rows of ``size`` bytes."""
    return -(-size // _LINE) * _LINE


def make_spans(shape: tuple[int, int], size: int, blocks: int, seed: int = 1, *, cached: bool = False) -> SpanJob:
    """Return ``blocks`` spans of random data units and parity units that are still zero.

    Parameters
    ----------
    shape
        (k, m) of code 1.
    size
        Bytes of a unit.
    cached
        Let all spans share the units of one, so that everything stays in the first-level cache.

    Raises
    ------
    ValueError
        When code 1 has no such shape, or nothing is left to do.
    """
    k, m = shape
    if not 1 <= k <= COLUMNS or not 1 <= m <= ROWS:
        raise ValueError(f"code 1 has k from 1 to {COLUMNS} and m from 1 to {ROWS}, given are k={k}, m={m}")
    if not 1 <= size <= LONGEST or blocks < 1:
        raise ValueError(f"sizes are from 1 to {LONGEST} bytes and batches from 1 row, given are {size} and {blocks}")
    rng = np.random.default_rng(seed)
    each, units = stride(size), k + m
    held = 1 if cached else blocks
    memory = aligned(held * units * each)
    rows = memory.reshape(held, units, each)
    rows[:, :k, :size] = rng.integers(0, 256, (held, k, size), np.uint8)
    block = np.zeros(blocks, np.int64) if cached else np.arange(blocks, dtype=np.int64)
    offsets = (block[:, None] * units + np.arange(units)) * each
    return SpanJob(
        memory=memory,
        data=np.ascontiguousarray(offsets[:, :k]).reshape(-1),
        parity=np.ascontiguousarray(offsets[:, k:]).reshape(-1),
        row=np.tile(np.arange(m, dtype=np.uint8), blocks),
        lost=np.zeros(blocks * m, np.uint8),
        data_start=np.arange(blocks, dtype=np.int32) * np.int32(k),
        parity_start=np.arange(blocks, dtype=np.int32) * np.int32(m),
        k=np.full(blocks, k, np.int32),
        m=np.full(blocks, m, np.int32),
        column=np.zeros(blocks, np.int32),
        length=np.full(blocks, size, np.int32),
        status=np.zeros(blocks, np.int8),
    )


def lose(job: SpanJob, seed: int) -> SpanJob:
    """Return the job with ``m`` lost units in every span, a pattern of its own in each; memory is shared.

    Raises
    ------
    ValueError
        When a span has more parity units than data units, so that fewer can be lost.
    """
    if (job.m > job.k).any():
        raise ValueError(f"decode loses m of k units, given are k={int(job.k.min())}, m={int(job.m.max())}")
    rng = np.random.default_rng(seed)
    lost = [np.sort(rng.permutation(k)[:m]) for k, m in zip(job.k.tolist(), job.m.tolist(), strict=True)]
    return job._replace(lost=np.concatenate(lost).astype(np.uint8), status=np.zeros_like(job.status))


def make_key(suite: Suite, seed: int = 3) -> KeySpec:
    """Return keys that are no secret."""
    rng = np.random.default_rng(seed)
    return KeySpec(suite, rng.bytes(suite.key_length), rng.bytes(12), rng.bytes(suite.key_length))


def make_packets(size: int, count: int, keys: int = 1, seed: int = 2) -> SealJob:
    """Return packets to be sealed; row ``i`` has number ``i`` and slot ``2 * (i % keys)``.

    Parameters
    ----------
    size
        Bytes of a sealed packet: header, payload and tag.

    Raises
    ------
    ValueError
        When a packet has no room for a payload, or there is none.
    """
    if not SHORTEST_OPEN <= size <= LONGEST or count < 1:
        limits = f"packets are from {SHORTEST_OPEN} to {LONGEST} bytes and batches from 1 row"
        raise ValueError(f"{limits}, given are {size} and {count}")
    each = stride(size)
    source = aligned(count * each)
    source[:] = np.random.default_rng(seed).integers(0, 256, count * each, np.uint8)
    offset = np.arange(count, dtype=np.int64) * each
    number = np.arange(count, dtype=np.int64)
    source[offset] = _FIRST_BYTE
    for byte in range(4):
        source[offset + 9 + byte] = number >> (24 - 8 * byte) & 0xFF
    return SealJob(
        source=source,
        source_offset=offset,
        length=np.full(count, size - TAG_LENGTH, np.int32),
        target=aligned(count * each),
        target_offset=offset.copy(),
        slot=(2 * (np.arange(count) % keys)).astype(np.int32),
        number=number,
        status=np.zeros(count, np.int8),
    )


def to_open(sealed: SealJob) -> OpenJob:
    """Return the job that opens what a finished job sealed; it can be done any number of times."""
    return OpenJob(
        source=sealed.target,
        source_offset=sealed.target_offset,
        length=sealed.length + np.int32(TAG_LENGTH),
        target=aligned(sealed.target.size),
        target_offset=sealed.source_offset.copy(),
        slot=sealed.slot.copy(),
        number=sealed.number - 1,
        status=np.zeros_like(sealed.status),
    )


def install_keys(session: EngineSession, suite: Suite, keys: int = 1) -> None:
    """Install the keys of the rows of :func:`make_packets`; both phases."""
    for slot in range(2 * keys):
        session.install_key(slot, make_key(suite, 3 + slot))


def rows_of(job: SealJob | OpenJob, size: int) -> NDArray[np.uint8]:
    """Return copies [n, size] of what a job wrote."""
    written: NDArray[np.uint8] = job.target[job.target_offset[:, None] + np.arange(size)]
    return written


def copier(size: int) -> Callable[[], object]:
    """Return a copy of ``size`` bytes by the C library's ``memcpy``: the limit of what passes over data once."""
    source, target = aligned(size), aligned(size)
    source[:] = 1
    to, come_from = ctypes.c_void_p(address_of(target)), ctypes.c_void_p(address_of(source))
    copy = ctypes.memmove

    def run(_held: tuple[object, ...] = (source, target)) -> object:
        return copy(to, come_from, size)

    return run


__all__ = [
    "HEADER_LENGTH",
    "LONGEST",
    "copier",
    "install_keys",
    "lose",
    "make_key",
    "make_packets",
    "make_spans",
    "rows_of",
    "stride",
    "to_open",
]
