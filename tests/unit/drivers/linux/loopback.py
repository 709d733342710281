"""Sockets, batches and round trips on the loopback interface, for the tests of this folder."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch, packet_batch
from drivers.linux.address import unpack
from drivers.linux.address_table import AddressTable
from drivers.linux.udp import UdpSocket

PATIENCE_MS = 2000
"""How long a packet on loopback may take before a test fails; never waited for in a test that passes."""


def ipv6_missing() -> str | None:
    """Return why IPv6 cannot be tested here, or None."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        return f"IPv6 loopback (::1) cannot be bound: {error}"
    return None


@dataclass
class Parcel:
    """A batch to be sent, and what must arrive."""

    batch: PacketBatch
    count: int
    contents: list[bytes]
    peers: list[int]


def parcel(packets: Sequence[tuple[int, int]], table: AddressTable, gaps: Sequence[int] = ()) -> Parcel:
    """Return a batch of ``(length, peer row)`` packets; ``gaps[i]`` bytes lie before packet ``i`` (missing = 0)."""
    before: NDArray[np.int64] = np.zeros(len(packets), np.int64)
    before[: len(gaps)] = gaps[: len(packets)]
    lengths = np.array([length for length, _ in packets], np.int64)
    ends = np.cumsum(lengths + before)
    memory = np.random.default_rng(len(packets)).integers(0, 256, int(ends[-1]) if len(packets) else 1, np.uint8)
    batch = packet_batch(memory, len(packets), table.rows)
    batch.offset[:] = ends - lengths
    batch.length[:] = lengths
    batch.peer[:] = [peer for _, peer in packets]
    contents = [bytes(memory[start : start + size]) for start, size in zip(batch.offset, batch.length, strict=True)]
    return Parcel(batch, len(packets), contents, [peer for _, peer in packets])


def row_of(table: AddressTable, target: UdpSocket) -> int:
    """Return the row of a socket's own address."""
    host, port = target.socket.getsockname()[:2]
    return table.row(host, port)


def drain(source: UdpSocket, expected: int) -> list[tuple[bytes, tuple[str, int]]]:
    """Receive until ``expected`` packets are there; return each with its sender, in order of arrival."""
    waiting = select.poll()
    waiting.register(source.fileno(), select.POLLIN)
    batch = source.receive_batch()
    arrived: list[tuple[bytes, tuple[str, int]]] = []
    while len(arrived) < expected:
        assert waiting.poll(PATIENCE_MS), f"{len(arrived)} of {expected} packets arrived: {source.counters}"
        for index in range(source.receive(batch)):
            start, length = int(batch.offset[index]), int(batch.length[index])
            sender = unpack(batch.address[int(batch.peer[index])])
            arrived.append((bytes(batch.memory[start : start + length]), sender))
    return arrived
