"""Addresses of one association or listening socket, found by their bytes: a hash table for kernels, kept by Python.

Python adds and removes (per new address), kernels look up (per packet). The hash starts from a secret, so that nobody
outside can aim at one bucket; equal hashes of different addresses are told apart by the bytes, and the newer one wins.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.index import find, insert, remove
from vantun.wire.integers import int64, uint64

FREE, PENDING, ALLOWED, REFUSED = range(4)
_FIRST_ROWS = 64
_GROWTH = 4


class Table(NamedTuple):
    """What kernels see. N rows, H >= 4 N buckets."""

    key: NDArray[np.uint64]
    """[H] hash of the address."""
    value: NDArray[np.int32]
    """[H] row, -1 = empty bucket."""
    name: NDArray[np.uint8]
    """[N, width] the address as bytes."""
    size: NDArray[np.int32]
    """[N] bytes of ``name``."""
    state: NDArray[np.int8]
    """[N] FREE, PENDING (asked for), ALLOWED, REFUSED."""
    used: NDArray[np.float64]
    """[N] when it was last looked up, seconds."""
    expires: NDArray[np.float64]
    """[N] until when the state holds, seconds."""
    number: NDArray[np.int32]
    """[N] free for the owner: flow index, or a count."""
    address: NDArray[np.uint8]
    """[N, 28] socket address to send to."""
    scratch: NDArray[np.uint8]
    """[width + 28] for kernels that build a key."""
    seed: NDArray[np.uint64]
    """[1]"""


@kernel
def hash_bytes(seed: NDArray[np.uint64], memory: NDArray[np.uint8], start: int, size: int) -> int:
    """Return the hash of ``size`` bytes: FNV-1a from a secret start; the index mixes its bits again."""
    h = seed[0]
    for i in range(size):
        h = (h ^ uint64(memory[start + i])) * uint64(0x100000001B3)
    return h  # type: ignore[no-any-return] # numpy's uint64, an int for the type checker


@kernel
def find_row(table: Table, memory: NDArray[np.uint8], start: int, size: int) -> int:
    """Return the row of the address in ``memory[start : start + size]``, or -1."""
    row = find(table.key, table.value, hash_bytes(table.seed, memory, start, size))
    if row < 0 or int64(table.size[row]) != size:
        return -1
    for i in range(size):
        if table.name[row, i] != memory[start + i]:
            return -1
    return row


@kernel
def _enter(table: Table, row: int) -> None:
    """Add a filled row to the index, in place of one with the same hash."""
    insert(table.key, table.value, hash_bytes(table.seed, table.name[row], 0, int64(table.size[row])), row)


@kernel
def _leave(table: Table, row: int) -> None:
    h = hash_bytes(table.seed, table.name[row], 0, int64(table.size[row]))
    if find(table.key, table.value, h) == row:
        remove(table.key, table.value, h)


class UdpTable:
    """At most ``most`` addresses of at most ``width`` bytes; grows as it is used.

    Attributes
    ----------
    table
        For kernels; another one after :meth:`add` has grown it.
    """

    def __init__(self, most: int, width: int) -> None:
        self.most = most
        self._width = width
        self._free: list[int] = []
        self._count = 0
        self.table = self._make(min(_FIRST_ROWS, most), np.array([secrets.randbits(64)], np.uint64))
        self._free = list(range(len(self.table.size) - 1, -1, -1))

    def __len__(self) -> int:
        return self._count

    def _make(self, rows: int, seed: NDArray[np.uint64]) -> Table:
        buckets = 1 << (4 * rows - 1).bit_length()
        return Table(
            key=np.zeros(buckets, np.uint64),
            value=np.full(buckets, -1, np.int32),
            name=np.zeros((rows, self._width), np.uint8),
            size=np.zeros(rows, np.int32),
            state=np.zeros(rows, np.int8),
            used=np.zeros(rows, np.float64),
            expires=np.zeros(rows, np.float64),
            number=np.zeros(rows, np.int32),
            address=np.zeros((rows, 28), np.uint8),
            scratch=np.zeros(self._width + 28, np.uint8),
            seed=seed,
        )

    def _grow(self) -> None:
        old = self.table
        rows = len(old.size)
        new = self._make(min(rows * _GROWTH, self.most), old.seed)
        for column in ("name", "size", "state", "used", "expires", "number", "address"):
            getattr(new, column)[:rows] = getattr(old, column)
        self.table = new
        self._free = list(range(len(new.size) - 1, rows - 1, -1))
        for row in np.flatnonzero(new.state[:rows] != FREE).tolist():
            _enter(new, row)

    @property
    def full(self) -> bool:
        """Whether :meth:`add` has no room; make some with :meth:`remove`."""
        return self._count >= self.most

    def find(self, name: bytes) -> int:
        """Return the row of an address, or -1."""
        if not name or len(name) > self._width:
            return -1
        return int(find_row(self.table, np.frombuffer(name, np.uint8).copy(), 0, len(name)))

    def add(self, name: bytes, state: int, now: float) -> int:
        """Add an address that is not there, in ``state``; return its row. The caller has seen that there is room."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        table = self.table
        table.name[row, : len(name)] = np.frombuffer(name, np.uint8)
        table.size[row] = len(name)
        table.state[row] = state
        table.used[row] = now
        table.expires[row] = np.inf
        table.number[row] = 0
        table.address[row] = 0
        self._count += 1
        _enter(table, row)
        return row

    def remove(self, row: int) -> None:
        """Forget the address in ``row``."""
        if self.table.state[row] == FREE:
            return
        _leave(self.table, row)
        self.table.state[row] = FREE
        self.table.address[row] = 0
        self._free.append(row)
        self._count -= 1

    def name(self, row: int) -> bytes:
        """Return the address in ``row``."""
        return self.table.name[row, : int(self.table.size[row])].tobytes()

    def oldest(self) -> int:
        """Return the row that was not used for the longest time, or -1 when there is none."""
        if not self._count:
            return -1
        return int(np.argmin(np.where(self.table.state == FREE, np.inf, self.table.used)))

    def rows(self) -> list[int]:
        """Return every row in use."""
        return [int(row) for row in np.flatnonzero(self.table.state != FREE)]
