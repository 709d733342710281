"""How submissions become one job of the device: looked at as a copy, then laid behind each other in columns.

Nothing is allocated for a job: columns are made once, have room for as much as one submission may be, and are used
again when the job is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import Job, OpenJob, Operation, SealJob, SpanJob
from accel.gf256 import COLUMNS
from accel.service import packet_rows, span_rows
from accel.service.columns import Bytes, Own, PacketColumns, SpanColumns
from accel.service.ring import (
    DATA,
    HOW_MANY,
    MOST_PARITIES,
    MOST_ROWS,
    PARITIES,
    Ring,
    UnbelievableError,
    growth,
    shortest,
)

_LIES_OF_SPANS = {
    span_rows.BAD_K: "data units of a span: {}",
    span_rows.BAD_M: "parity units of a span: {}",
    span_rows.BAD_LENGTH: "length of a unit: {}",
    span_rows.BAD_PARITIES: "{} parity units, of which the spans have another number",
    span_rows.MUCH_DATA: "{} bytes of data units",
    span_rows.MUCH_PARITY: "{} bytes of parity units",
}
_LIES_OF_PACKETS = {packet_rows.BAD_LENGTH: "length of a packet: {}", packet_rows.MUCH: "{} bytes of packets"}


class Heard(NamedTuple):
    """How much a submission is: rows, parity units, and about the bytes that it takes of a lane of the device."""

    rows: int
    parities: int
    size: int


class Tray(ABC):
    """A job of the device that is being laid; ``memory`` is that in which all clients' memories lie.

    Attributes
    ----------
    rows
        That it has.
    """

    def __init__(self, operation: Operation, memory: Bytes) -> None:
        self.operation = operation
        self.memory = memory
        self.rows = 0

    @abstractmethod
    def clear(self) -> None:
        """Begin with nothing."""

    @abstractmethod
    def add(self, own: Own, heard: Heard, place: int, pages: NDArray[np.int32] | None) -> None:
        """Lay a submission that was looked at, whose slot's source is at ``place``, by a client with such key pages."""

    @abstractmethod
    def job(self) -> Job:
        """Return what was laid as a job."""


class SpanTray(Tray):
    """Spans."""

    def __init__(self, operation: Operation, memory: Bytes) -> None:
        super().__init__(operation, memory)
        starts = np.zeros((2, MOST_ROWS), np.int32)
        self._units = self._parities = 0
        self._columns = SpanColumns(
            words=np.zeros((4, MOST_ROWS), np.int32),
            data=np.zeros(MOST_ROWS * COLUMNS, np.int64),
            parity=np.zeros(MOST_PARITIES, np.int64),
            row=np.zeros(MOST_PARITIES, np.uint8),
            lost=np.zeros(MOST_PARITIES, np.uint8),
            data_start=starts[0],
            parity_start=starts[1],
            status=np.zeros(MOST_ROWS, np.int8),
        )

    def clear(self) -> None:
        """Begin with nothing."""
        self.rows = self._units = self._parities = 0

    def add(self, own: Own, heard: Heard, place: int, pages: NDArray[np.int32] | None) -> None:
        """Lay a submission; spans have no keys."""
        at = self.rows, self._units, self._parities
        self._units += span_rows.lay_spans(own, heard.rows, self._columns, at, place, place + DATA)
        self.rows += heard.rows
        self._parities += heard.parities

    def job(self) -> SpanJob:
        """Return what was laid."""
        c, n = self._columns, self.rows
        k, m, column, length = c.words[:, :n]
        units, parities = self._units, self._parities
        return SpanJob(
            memory=self.memory,
            data=c.data[:units],
            parity=c.parity[:parities],
            row=c.row[:parities],
            lost=c.lost[:parities],
            data_start=c.data_start[:n],
            parity_start=c.parity_start[:n],
            k=k,
            m=m,
            column=column,
            length=length,
            status=c.status[:n],
        )


class PacketTray(Tray):
    """Packets."""

    def __init__(self, operation: Operation, memory: Bytes) -> None:
        super().__init__(operation, memory)
        long, small = np.zeros((3, MOST_ROWS), np.int64), np.zeros((2, MOST_ROWS), np.int32)
        self._columns = PacketColumns(long[0], small[0], long[1], small[1], long[2], np.zeros(MOST_ROWS, np.int8))

    def clear(self) -> None:
        """Begin with nothing."""
        self.rows = 0

    def add(self, own: Own, heard: Heard, place: int, pages: NDArray[np.int32] | None) -> None:
        """Lay a submission of a client with keys."""
        assert pages is not None
        at = self.rows, place, place + DATA
        packet_rows.lay_packets(own, heard.rows, growth(self.operation), pages, self._columns, at)
        self.rows += heard.rows

    def job(self) -> SealJob | OpenJob:
        """Return what was laid."""
        kind = SealJob if self.operation is Operation.AEAD_SEAL else OpenJob
        c, n = self._columns, self.rows
        return kind(
            source=self.memory,
            source_offset=c.source_offset[:n],
            length=c.length[:n],
            target=self.memory,
            target_offset=c.target_offset[:n],
            slot=c.slot[:n],
            number=c.number[:n],
            status=c.status[:n],
        )


def has_keys(operation: Operation) -> bool:
    """Return whether an operation is one on packets."""
    return operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN)


def tray_of(operation: Operation, memory: Bytes) -> Tray:
    """Return a tray for jobs of an operation."""
    return (PacketTray if has_keys(operation) else SpanTray)(operation, memory)


def look(ring: Ring, slot: int, operation: Operation, own: Own) -> Heard:
    """Copy the columns of a submission, and bound the copy: whatever the client writes meanwhile, that stays.

    Raises
    ------
    UnbelievableError
        When something is out of bounds.
    """
    line, columns = ring.client[slot].copy(), ring.slots[slot]
    rows, parities = int(line[HOW_MANY]), int(line[PARITIES])
    if not 1 <= rows <= MOST_ROWS:
        raise UnbelievableError(f"{rows} rows")
    if has_keys(operation):
        own.words[:2, :rows] = columns.words[:2, :rows]
        own.number[:rows] = columns.number[:rows]
        found, value, size = packet_rows.look_at_packets(own, rows, growth(operation), shortest(operation), DATA)
        if found != packet_rows.GOOD:
            raise UnbelievableError(_LIES_OF_PACKETS[found].format(value))
        return Heard(rows, 0, size)
    if not 0 <= parities <= MOST_PARITIES:
        raise UnbelievableError(f"{parities} parity units")
    own.words[:, :rows] = columns.words[:, :rows]
    own.row[:parities], own.lost[:parities] = columns.row[:parities], columns.lost[:parities]
    found, value, size = span_rows.look_at_spans(own, rows, parities, DATA)
    if found != span_rows.GOOD:
        raise UnbelievableError(_LIES_OF_SPANS[found].format(value))
    return Heard(rows, parities, size)
