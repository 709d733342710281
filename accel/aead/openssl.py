"""Engine ``openssl``: the EVP interface of the system's libcrypto, which takes one packet in five calls."""

from __future__ import annotations

import weakref

import numpy as np
from numpy.typing import NDArray

from accel.aead import by_calls
from accel.aead.by_calls import CallSession, Texts, Words
from accel.aead.slots import SlotTable
from accel.calls import Records, address_of, make_records, results, write_call
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
    Status,
    Suite,
    Ticket,
)
from accel.finished import FINISHED, Synchronous
from accel.kernels.protection import SAMPLE_LENGTH, take_samples
from drivers.libcrypto import GET_TAG, LIBCRYPTO, SET_TAG, Libcrypto
from drivers.library import Library

_CIPHERS = {
    Suite.AES_128_GCM: ("AES-128-GCM", "AES-128-ECB"),
    Suite.AES_256_GCM: ("AES-256-GCM", "AES-256-ECB"),
    Suite.CHACHA20_POLY1305: ("ChaCha20-Poly1305", "ChaCha20"),
}
_CALLS = 5
"""Calls per packet: nonce, associated data, text, end, tag."""
_MASK = 5
"""Bytes of a mask that count."""


class _Session(CallSession):
    """Contexts of the library by slot; it wipes them when they are freed."""

    def __init__(self, operation: Operation, library: Libcrypto) -> None:
        super().__init__(operation, "aead", "header", "stream")
        self.library = library
        self.written = np.zeros(1, np.int64)
        """Receives how much a call wrote; nobody asks."""
        self.scratch = np.zeros(SAMPLE_LENGTH, np.uint8)
        """Zeros; the end of a text writes nothing to it."""
        self._finalizer = weakref.finalize(self, _free_all, self.table, library)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        self.table.grow(slot)
        aead, header = _CIPHERS[spec.suite]
        new = self.library.make_context(aead, spec.key, encrypt=self.operation is Operation.AEAD_SEAL)
        mask = self.library.make_context(header, spec.header_key, encrypt=True)
        self.remove_key(slot)
        self.table.put(slot, spec, aead=new, header=mask, stream=int(spec.suite is Suite.CHACHA20_POLY1305))

    def remove_key(self, slot: int) -> None:
        """Wipe the keys of a slot."""
        _free(self.table, slot, self.library)

    def close(self) -> None:
        """Wipe all keys."""
        _free_all(self.table, self.library)

    def seal_texts(self, job: SealJob, texts: Texts) -> NDArray[np.int8]:
        """Write ciphertexts and tags."""
        lib, context, written = self.library, self.table.columns["aead"][texts.key], address_of(self.written)
        records = make_records(_CALLS * len(texts.row))
        write_call(records[0::_CALLS], lib.encrypt_init, context, 0, 0, 0, texts.nonce)
        write_call(records[1::_CALLS], lib.encrypt_update, context, 0, written, texts.header, HEADER_LENGTH)
        write_call(records[2::_CALLS], lib.encrypt_update, context, texts.target, written, texts.source, texts.size)
        write_call(records[3::_CALLS], lib.encrypt_final, context, address_of(self.scratch), written)
        write_call(records[4::_CALLS], lib.control, context, GET_TAG, TAG_LENGTH, texts.tag)
        self._run(records)
        good = (results(records).reshape(-1, _CALLS) == 1).all(1)
        return np.where(good, Status.DONE, Status.FAULT).astype(np.int8)

    def open_texts(self, job: OpenJob, texts: Texts) -> NDArray[np.int8]:
        """Write plaintexts; a wrong tag shows in the last call."""
        lib, context, written = self.library, self.table.columns["aead"][texts.key], address_of(self.written)
        records = make_records(_CALLS * len(texts.row))
        write_call(records[0::_CALLS], lib.decrypt_init, context, 0, 0, 0, texts.nonce)
        write_call(records[1::_CALLS], lib.decrypt_update, context, 0, written, texts.header, HEADER_LENGTH)
        write_call(records[2::_CALLS], lib.decrypt_update, context, texts.target, written, texts.source, texts.size)
        write_call(records[3::_CALLS], lib.control, context, SET_TAG, TAG_LENGTH, texts.tag)
        write_call(records[4::_CALLS], lib.decrypt_final, context, address_of(self.scratch), written)
        self._run(records)
        good = results(records).reshape(-1, _CALLS) == 1
        verdict = np.where(good[:, -1], Status.DONE, Status.REJECTED)
        return np.where(good[:, :-1].all(1), verdict, Status.FAULT).astype(np.int8)

    def _run(self, records: Records) -> None:
        self.caller.run(records)
        if not (results(records) == 1).all():
            self.library.clear_errors()

    def masks(
        self, memory: NDArray[np.uint8], offset: Words, length: NDArray[np.int32], slot: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """See CallSession."""
        samples = np.empty((len(offset), SAMPLE_LENGTH), np.uint8)
        take_samples(memory, offset, length, samples)
        masks = np.zeros_like(samples)
        known = (slot >= 0) & (slot < len(self.table.slots.known))
        where = np.where(known, slot, 0)
        context = np.where(known, self.table.columns["header"][where], 0)
        stream = self.table.columns["stream"][where] != 0
        blocks, streams = np.flatnonzero((context != 0) & ~stream), np.flatnonzero((context != 0) & stream)
        if len(blocks):
            self._mask_blocks(blocks, context, samples, masks)
        if len(streams):
            self._mask_streams(streams, context, samples, masks)
        return masks

    def _mask_blocks(self, rows: Words, context: Words, samples: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """AES-ECB of the samples (RFC 9001, section 5.4.3); a batch of one key takes one call."""
        together = len(rows) == len(context) and bool((context == context[0]).all())
        place = rows[:1] * SAMPLE_LENGTH if together else rows * SAMPLE_LENGTH
        records = make_records(len(place))
        write_call(
            records,
            self.library.encrypt_update,
            context[rows[: len(place)]],
            address_of(masks) + place,
            address_of(self.written),
            address_of(samples) + place,
            samples.size if together else SAMPLE_LENGTH,
        )
        self._run(records)

    def _mask_streams(self, rows: Words, context: Words, samples: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        """ChaCha20 of zeros; the sample is counter and nonce in the order of EVP's IV (RFC 9001, section 5.4.4)."""
        records = make_records(2 * len(rows))
        place = rows * SAMPLE_LENGTH
        lib, contexts, written = self.library, context[rows], address_of(self.written)
        write_call(records[::2], lib.encrypt_init, contexts, 0, 0, 0, address_of(samples) + place)
        zeros = address_of(self.scratch)
        write_call(records[1::2], lib.encrypt_update, contexts, address_of(masks) + place, written, zeros, _MASK)
        self._run(records)


def _free(table: SlotTable, slot: int, library: Libcrypto) -> None:
    held = table.drop(slot)
    if held is not None:
        library.free_context(held["aead"])
        library.free_context(held["header"])


def _free_all(table: SlotTable, library: Libcrypto) -> None:
    for slot in table.filled():
        _free(table, slot, library)


class OpensslAead(Synchronous):
    """Seal and open with the system's OpenSSL 3."""

    name = "openssl"
    operations = frozenset({Operation.AEAD_SEAL, Operation.AEAD_OPEN})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def __init__(self, library: Library = LIBCRYPTO) -> None:
        self._library = library
        self._loaded: Libcrypto | None = None

    def open(self, operation: Operation) -> EngineSession:
        """Load the library; return a session without keys."""
        if operation not in self.operations:
            raise ValueError(f"engine openssl cannot do {operation.value}")
        if self._loaded is None:
            self._loaded = Libcrypto(self._library)
        return _Session(operation, self._loaded)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        assert isinstance(session, _Session)
        if len(job.status):
            if isinstance(job, SealJob):
                by_calls.seal(session, job)
            else:
                assert isinstance(job, OpenJob)
                by_calls.open_(session, job)
        return FINISHED
