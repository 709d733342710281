"""Batches of datagrams made by hand, for the kernels of UDP flows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.arena import Arena
from drivers.batch import PacketBatch, packet_batch
from drivers.linux.address import pack
from vantun.dataplane.udp_bodies import DROPS, Bodies

Datagram = tuple[bytes, tuple[str, int]]


def batch_of(datagrams: list[Datagram]) -> PacketBatch:
    """Return received datagrams, each from its source, the last of them at the end of readable memory."""
    total = sum(len(data) for data, _ in datagrams)
    arena = Arena(1, max(4096, -(-total // 4096) * 4096))
    rows = np.zeros((max(1, len(datagrams)), 28), np.uint8)
    batch = packet_batch(arena.memory, max(1, len(datagrams)), rows)
    at = len(arena.memory) - total
    for i, (data, source) in enumerate(datagrams):
        batch.memory[at : at + len(data)] = np.frombuffer(data, np.uint8)
        batch.offset[i], batch.length[i], batch.peer[i] = at, len(data), i
        rows[i] = np.frombuffer(pack(*source), np.uint8)
        at += len(data)
    return batch


def bodies_for(count: int, size: int = 1 << 20) -> Bodies:
    """Return room for bodies."""
    columns = [np.zeros(max(1, count), np.int64) for _ in range(3)]
    return Bodies(np.zeros(size, np.uint8), columns[0], columns[1], columns[2])


def listed(memory: NDArray[np.uint8], bodies: Bodies, count: int) -> list[bytes]:
    """Return the bodies as bytes."""
    ranges = zip(bodies.start[:count].tolist(), bodies.length[:count].tolist(), strict=True)
    return [memory[start : start + length].tobytes() for start, length in ranges]


def packets(batch: PacketBatch, count: int) -> list[bytes]:
    """Return the packets of a batch as bytes."""
    ranges = zip(batch.offset[:count].tolist(), batch.length[:count].tolist(), strict=True)
    return [batch.memory[start : start + length].tobytes() for start, length in ranges]


def no_drops() -> NDArray[np.int64]:
    """Return counters at zero."""
    return np.zeros(len(DROPS), np.int64)


def counted(drops: NDArray[np.int64]) -> dict[str, int]:
    """Return the counters that are not zero, by name."""
    return {name: int(value) for name, value in zip(DROPS, drops, strict=True) if value}
