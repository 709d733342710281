"""Engine ``ipsec-mb``: AES-GCM by Intel IPsec-MB, one call per packet.

The library exports neither AES-ECB nor the start of ChaCha20-Poly1305, so header protection and rows of ChaCha20 are
done by the ``cryptography`` wheel.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from accel.aead import by_calls
from accel.aead.by_calls import CallSession, Texts, Words
from accel.aead.cryptography import CryptographyAead, CryptographySession
from accel.calls import address_of, aligned, make_records, write_call
from accel.engine import (
    HEADER_LENGTH,
    TAG_LENGTH,
    EngineSession,
    Job,
    KeySpec,
    Maturity,
    OpenJob,
    Operation,
    Provenance,
    SealJob,
    SpanJob,
    Status,
    Suite,
    Ticket,
)
from accel.finished import FINISHED, Synchronous
from drivers.cpu import read_cpu
from drivers.ipsec_mb import (
    ALIGNMENT,
    CONTEXT_BYTES,
    IPSEC_MB,
    KEY_BYTES,
    GcmFunctions,
    choose_isa,
    gcm_functions,
)
from drivers.library import Library

_BITS = {Suite.AES_128_GCM: 128, Suite.AES_256_GCM: 256}
_Keys = dict[int, NDArray[np.uint8]]
_Job = TypeVar("_Job", bound=SealJob | OpenJob)


class _Session(CallSession):
    """Expanded keys by slot, in memory of ours; the wheel holds all keys, too."""

    def __init__(self, operation: Operation, functions: Mapping[int, GcmFunctions]) -> None:
        super().__init__(operation, "data", "bits")
        wheel = CryptographyAead().open(operation)
        assert isinstance(wheel, CryptographySession)
        self.wheel = wheel
        self.functions = functions
        self.keys: _Keys = {}
        self.context = aligned(CONTEXT_BYTES, ALIGNMENT)
        """What the library keeps while it works on a packet."""
        self._finalizer = weakref.finalize(self, _wipe_all, self.keys)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        self.table.grow(slot)
        self.remove_key(slot)
        bits = _BITS.get(spec.suite, 0)
        data = aligned(KEY_BYTES if bits else 0, ALIGNMENT)
        if bits:
            key = np.frombuffer(bytearray(spec.key), np.uint8)
            records = make_records(1)
            write_call(records, self.functions[bits].prepare, address_of(key), address_of(data))
            self.caller.run(records)
            key[:] = 0
        self.keys[slot] = data
        self.table.put(slot, spec, data=address_of(data), bits=bits)
        self.wheel.install_key(slot, spec)

    def remove_key(self, slot: int) -> None:
        """Wipe the keys of a slot."""
        self.table.drop(slot)
        self.wheel.remove_key(slot)
        data = self.keys.pop(slot, None)
        if data is not None:
            data[:] = 0

    def close(self) -> None:
        """Wipe all keys."""
        for slot in list(self.keys):
            self.remove_key(slot)
        self.context[:] = 0

    def foreign(self, slot: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which rows have a key, of either phase, that the library cannot use."""
        foreign = np.zeros(len(slot), np.bool_)
        known = self.table.slots.known
        for phase in range(2):
            key = slot.astype(np.int64) + phase
            inside = (key >= 0) & (key < len(known))
            key = np.where(inside, key, 0)
            foreign |= inside & (known[key] != 0) & (self.table.columns["bits"][key] == 0)
        return foreign

    def masks(
        self, memory: NDArray[np.uint8], offset: Words, length: NDArray[np.int32], slot: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """See CallSession."""
        return self.wheel.masks(memory, offset, length, slot)

    def seal_texts(self, job: SealJob, texts: Texts) -> NDArray[np.int8]:
        """Write ciphertexts and tags."""
        for functions, some, _ in self._by_size(texts):
            self._call(functions.encrypt, some, some.tag)
        return np.full(len(texts.row), Status.DONE, np.int8)

    def open_texts(self, job: OpenJob, texts: Texts) -> NDArray[np.int8]:
        """Write plaintexts; the tags are compared without a branch on where they differ."""
        status = np.full(len(texts.row), Status.DONE, np.int8)
        for functions, some, chosen in self._by_size(texts):
            computed = np.zeros((len(some.row), TAG_LENGTH), np.uint8)
            self._call(functions.decrypt, some, address_of(computed) + np.arange(len(some.row)) * TAG_LENGTH)
            place = (job.source_offset[some.row] + job.length[some.row] - TAG_LENGTH)[:, None] + np.arange(TAG_LENGTH)
            wrong = np.bitwise_or.reduce(computed ^ job.source[place], axis=1) != 0
            status[chosen] = np.where(wrong, Status.REJECTED, Status.DONE)
        return status

    def _by_size(self, texts: Texts) -> Iterator[tuple[GcmFunctions, Texts, NDArray[np.bool_]]]:
        """Yield the functions of each key size with its rows."""
        bits = self.table.columns["bits"][texts.key]
        for size, functions in self.functions.items():
            chosen = bits == size
            if chosen.any():
                yield functions, texts if chosen.all() else texts.only(chosen), chosen

    def _call(self, function: int, texts: Texts, tag: Words) -> None:
        data, context = self.table.columns["data"][texts.key], address_of(self.context)
        records = make_records(len(texts.row))
        target, source, size, nonce, header = texts.target, texts.source, texts.size, texts.nonce, texts.header
        write_call(
            records, function, data, context, target, source, size, nonce, header, HEADER_LENGTH, tag, TAG_LENGTH
        )
        self.caller.run(records)


def _wipe_all(keys: _Keys) -> None:
    for data in keys.values():
        data[:] = 0


class IpsecMbAead(Synchronous):
    """Seal and open with Intel IPsec-MB.

    Parameters
    ----------
    isa
        One of :data:`drivers.ipsec_mb.ISAS`, for comparisons; by itself the best that the CPU has.
    """

    name = "ipsec-mb"
    operations = frozenset({Operation.AEAD_SEAL, Operation.AEAD_OPEN})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self, isa: str = "", library: Library = IPSEC_MB) -> None:
        self._isa = isa
        self._library = library
        self._wheel = CryptographyAead()

    def open(self, operation: Operation) -> EngineSession:
        """Load the library; return a session without keys."""
        if operation not in self.operations:
            raise ValueError(f"engine ipsec-mb cannot do {operation.value}")
        isa = self._isa or choose_isa(read_cpu().flags)
        return _Session(operation, {bits: gcm_functions(bits, isa, self._library) for bits in _BITS.values()})

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        assert isinstance(session, _Session)
        assert not isinstance(job, SpanJob)
        foreign = session.foreign(job.slot)
        if not foreign.any():
            _serve(session, job)
        else:
            theirs = _part(job, foreign)
            self._wheel.submit(session.wheel, theirs)
            _give_back(job, theirs, foreign)
            ours = _part(job, ~foreign)
            _serve(session, ours)
            _give_back(job, ours, ~foreign)
        return FINISHED


def _serve(session: _Session, job: SealJob | OpenJob) -> None:
    if not len(job.status):
        return
    if isinstance(job, SealJob):
        by_calls.seal(session, job)
    else:
        by_calls.open_(session, job)


def _part(job: _Job, rows: NDArray[np.bool_]) -> _Job:
    """Return a job of some rows, in the same memory."""
    columns = ("source_offset", "length", "target_offset", "slot", "number", "status")
    return cast(_Job, job._replace(**{name: getattr(job, name)[rows] for name in columns}))


def _give_back(job: SealJob | OpenJob, part: SealJob | OpenJob, rows: NDArray[np.bool_]) -> None:
    job.status[rows] = part.status
    job.number[rows] = part.number
