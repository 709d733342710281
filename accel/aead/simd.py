"""Engine ``simd``: all three suites by kernels of our own, one native call for a whole job of any keys.

The expanded keys of all slots lie in one table (accel/ir/aead_layout.py), which the kernels index by slot.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Collection
from functools import partial

import numpy as np
from numpy.typing import NDArray

from accel.calls import address_of, aligned
from accel.engine import EngineSession, Job, KeySpec, Maturity, Operation, Provenance, SpanJob, Suite, Ticket
from accel.finished import FINISHED, Synchronous
from accel.ir.aead_layout import CONTEXT_WORDS, HEADER_KEY, INSTALL_WORDS, ISAS, IV, KEY, RECORD
from accel.job_block import JobBlocks
from accel.native import address_of_function, function
from drivers.cpu import read_cpu

_SLOTS = 64
"""Slots of a new table; it doubles."""
_SUITES = {suite: number for number, suite in enumerate(Suite, 1)}


def choose_isa(flags: Collection[str]) -> str:
    """Return the best variant that a CPU can run; every CPU can run ``plain``."""
    return next(isa for isa, needs in ISAS.items() if needs <= set(flags))


class KeyTable:
    """Records of expanded keys by slot; whatever was in a slot is wiped with it."""

    def __init__(self) -> None:
        self._install = function("aead", "install")
        self._scrub = function("aead", "scrub")
        self.records = _make_records(_SLOTS)

    def put(self, slot: int, spec: KeySpec) -> None:
        """Expand keys into a slot; an address of the table that was taken before is no longer good."""
        if slot < 0:
            raise ValueError(f"key slots are numbered from 0, this one is {slot}")
        while slot >= len(self.records):
            old, self.records = self.records, _make_records(2 * len(self.records))
            self.records[: len(old)] = old
            old[:] = 0
        record = self.records[slot]
        record[:] = 0
        for place, octets in ((IV, spec.iv), (KEY, spec.key), (HEADER_KEY, spec.header_key)):
            record[place : place + len(octets)] = np.frombuffer(octets, np.uint8)
        context = (ctypes.c_int64 * INSTALL_WORDS)(address_of(record), _SUITES[spec.suite])
        self._install(ctypes.addressof(context))

    def drop(self, slot: int) -> None:
        """Wipe a slot, if there is such a one, and what kernels left of it on the stack of this thread."""
        if 0 <= slot < len(self.records):
            self.records[slot] = 0
            self._scrub(0)

    def wipe(self) -> None:
        """Wipe all slots, and what kernels left of them on the stack of this thread."""
        self.records[:] = 0
        self._scrub(0)


def _make_records(count: int) -> NDArray[np.uint8]:
    return aligned(count * RECORD).reshape(count, RECORD)


class SimdSession:
    """Keys, and the context of the kernel: job, table, slots in it."""

    def __init__(self, operation: Operation, kernel: Callable[[int], int]) -> None:
        self.operation = operation
        self.table = KeyTable()
        self.context = (ctypes.c_int64 * CONTEXT_WORDS)()
        self.run = partial(kernel, ctypes.addressof(self.context))
        self.native = address_of_function(kernel), ctypes.addressof(self.context)
        self.job: Job | None = None
        """The last job; its block is in the context, and asking for it again would cost 0.1 us."""
        self._block: NDArray[np.int64] | None = None
        self._point()
        self._finalizer = weakref.finalize(self, KeyTable.wipe, self.table)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        self.table.put(slot, spec)
        self._point()

    def remove_key(self, slot: int) -> None:
        """Wipe the keys of a slot."""
        self.table.drop(slot)

    def close(self) -> None:
        """Wipe all keys."""
        self.table.wipe()

    def take(self, job: Job, blocks: JobBlocks) -> None:
        """Make ``job`` the one that the next run does."""
        assert not isinstance(job, SpanJob)
        self._block = blocks.block(job)
        self.context[0] = address_of(self._block)
        self.job = job

    def _point(self) -> None:
        self.context[1] = address_of(self.table.records)
        self.context[2] = len(self.table.records)


class SimdAead(Synchronous):
    """Seal and open with kernels for this CPU.

    Parameters
    ----------
    isa
        One of :data:`accel.ir.aead_layout.ISAS`, for comparisons; by itself the best that the CPU has.
    """

    name = "simd"
    operations = frozenset({Operation.AEAD_SEAL, Operation.AEAD_OPEN})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self, isa: str = "") -> None:
        if isa and isa not in ISAS:
            raise ValueError(f"engine simd of AEAD has no variant {isa!r}; there are {', '.join(ISAS)}")
        self._isa = isa
        self._blocks = JobBlocks()

    def open(self, operation: Operation) -> EngineSession:
        """Load the kernels; return a session without keys."""
        if operation not in self.operations:
            raise ValueError(f"engine simd of AEAD cannot do {operation.value}")
        isa = self._isa or choose_isa(read_cpu().flags)
        return SimdSession(
            operation, function("aead", f"{'seal' if operation is Operation.AEAD_SEAL else 'open'}_{isa}")
        )

    def lend(self, session: EngineSession) -> tuple[int, int]:
        """See :class:`accel.lease.Lender`."""
        assert isinstance(session, SimdSession)
        return session.native

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        assert isinstance(session, SimdSession)
        if job is not session.job:
            session.take(job, self._blocks)
        session.run()
        return FINISHED
