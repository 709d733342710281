"""The addresses of peers in rows of their own, as packet batches refer to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.batch import SOCKADDR_SIZE
from drivers.errors import DriverError
from drivers.linux.address import pack, unpack


class AddressTable:
    """At most ``capacity`` addresses, each in a row of its own until it is released.

    Attributes
    ----------
    rows
        [shape=(capacity, SOCKADDR_SIZE), dtype=uint8] for ``PacketBatch.address``; allocated once, so its address may
        stand in message headers.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self.rows: NDArray[np.uint8] = np.zeros((capacity, SOCKADDR_SIZE), np.uint8)
        self._row_of: dict[tuple[str, int], int] = {}
        self._address_of: dict[int, tuple[str, int]] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._row_of)

    def row(self, host: str, port: int) -> int:
        """Return the row of an address, adding it if it is new.

        Raises
        ------
        DriverError
            When the address is no IP literal, or the table is full.
        """
        row = self._row_of.get((host, port))
        if row is not None:
            return row
        packed = pack(host, port)
        canonical = unpack(packed)  # "::1" and "0:0:0:0:0:0:0:1" are one peer
        row = self._row_of.get(canonical)
        if row is not None:
            return row
        if not self._free:
            raise DriverError(f"no room for {host}:{port} among {len(self.rows)} peers; release one first")
        row = self._free.pop()
        self.rows[row] = np.frombuffer(packed, np.uint8)
        self._row_of[canonical] = row
        self._address_of[row] = canonical
        return row

    def find(self, host: str, port: int) -> int | None:
        """Return the row of an address (in the form :func:`unpack` gives), or None."""
        return self._row_of.get((host, port))

    def address(self, row: int) -> tuple[str, int]:
        """Return ``(host, port)`` of a row; raises KeyError for a free one."""
        return self._address_of[row]

    def release(self, row: int) -> None:
        """Free a row: no packet that is still to be sent may point to it. Raises KeyError for a free one."""
        del self._row_of[self._address_of.pop(row)]
        self.rows[row] = 0
        self._free.append(row)
