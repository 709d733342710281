"""How a client's jobs lie in the slots of its ring, and how results come back to the job's own memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from accel.engine import Job, OpenJob, Operation, SealJob, SpanJob
from accel.service.columns import Places, Slot
from accel.service.packet_rows import choose_packets, pack_packets, unpack_packets
from accel.service.ring import DATA, growth, shortest
from accel.service.span_rows import choose_spans, pack_spans, unpack_spans


class Packed(NamedTuple):
    """Rows that lie in a slot.

    Attributes
    ----------
    rows, parities
        How many, and how many parity units they have.
    after
        The row of the job to go on with.
    """

    rows: int
    parities: int
    after: int


class Packer(ABC):
    """Packs the jobs of one operation; each method is one call of compiled code."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    @abstractmethod
    def choose(self, job: Job) -> int:
        """Have the rows that are worth asking for be PENDING; the others have their final statuses. Return how many."""

    @abstractmethod
    def write(self, job: Job, begin: int, slot: Slot, rows: Places) -> Packed:
        """Copy pending rows from ``begin`` on into a slot, as many as it holds; ``rows`` receives which."""

    @abstractmethod
    def read(self, job: Job, slot: Slot, rows: Places, count: int) -> None:
        """Copy the results of the first ``count`` of ``rows`` out of a slot, with their statuses."""


class PacketPacker(Packer):
    """Seals and opens."""

    def choose(self, job: Job) -> int:
        """Ask for packets that are long enough and fit a slot; of what is too short the targets are zeroed."""
        columns = _columns(job)
        pending: int = choose_packets(columns, growth(self.operation), shortest(self.operation), DATA)
        return pending

    def write(self, job: Job, begin: int, slot: Slot, rows: Places) -> Packed:
        """Copy packets."""
        return Packed(*pack_packets(_columns(job), growth(self.operation), begin, slot, rows))

    def read(self, job: Job, slot: Slot, rows: Places, count: int) -> None:
        """Copy packets to the job's targets; what was rejected is zeroed."""
        unpack_packets(_columns(job), growth(self.operation), slot, rows, count)


class SpanPacker(Packer):
    """Encodes and decodes."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation)
        self._decode = int(operation is Operation.FEC_DECODE)

    def choose(self, job: Job) -> int:
        """Ask for spans that can be computed and fit a slot."""
        assert isinstance(job, SpanJob)
        pending: int = choose_spans(job, self._decode, DATA)
        return pending

    def write(self, job: Job, begin: int, slot: Slot, rows: Places) -> Packed:
        """Copy data units, and to decode the parity units, too, but not what is lost."""
        assert isinstance(job, SpanJob)
        return Packed(*pack_spans(job, self._decode, begin, slot, rows))

    def read(self, job: Job, slot: Slot, rows: Places, count: int) -> None:
        """Copy parity, or rebuilt units, to the job's memory; of spans that were not done, nothing."""
        assert isinstance(job, SpanJob)
        unpack_spans(job, self._decode, slot, rows, count)


def _columns(job: Job) -> SealJob:
    """Return the columns of a job of packets as the one type that kernels are compiled for."""
    assert isinstance(job, (SealJob, OpenJob))
    return job if isinstance(job, SealJob) else SealJob(*job)


def packer(operation: Operation) -> Packer:
    """Return who packs the jobs of an operation."""
    kind = PacketPacker if operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN) else SpanPacker
    return kind(operation)
