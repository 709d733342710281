"""Engine ``cryptography``: the wheel's AEADs, one call per packet under one call per batch; always there.

Header protection (RFC 9001, section 5.4) is done for the whole batch: one AES-ECB call per key, masks applied by numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

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
from accel.kernels.protection import SAMPLE_LENGTH, apply_masks, open_heads, seal_heads, take_samples

_SHORTEST = HEADER_LENGTH + 4 + TAG_LENGTH
_GROWTH = 64


@dataclass
class _Key:
    aead: AESGCM | ChaCha20Poly1305
    header_key: bytes
    ecb: Any
    """An AES-ECB encryptor, which keeps no state between blocks; None for ChaCha20."""


def _prepare(spec: KeySpec) -> _Key:
    if spec.suite is Suite.CHACHA20_POLY1305:
        return _Key(ChaCha20Poly1305(spec.key), spec.header_key, None)
    return _Key(AESGCM(spec.key), spec.header_key, Cipher(AES(spec.header_key), ECB()).encryptor())


class _Session:
    """Keys by slot. Python cannot wipe the copies inside the library; dropping the objects frees them."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.keys: dict[int, _Key] = {}
        self.ivs: NDArray[np.uint8] = np.zeros((_GROWTH, 12), np.uint8)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        while slot + 1 >= len(self.ivs):  # the slot of the other key phase is read, too
            self.ivs = np.concatenate((self.ivs, np.zeros_like(self.ivs)))
        self.keys[slot] = _prepare(spec)
        self.ivs[slot] = np.frombuffer(spec.iv, np.uint8)

    def remove_key(self, slot: int) -> None:
        """Forget the keys of a slot."""
        if self.keys.pop(slot, None) is not None:
            self.ivs[slot] = 0

    def close(self) -> None:
        """Forget all keys."""
        for slot in list(self.keys):
            self.remove_key(slot)

    def masks(self, memory: NDArray[np.uint8], offset: NDArray[np.int64], slot: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return header-protection masks [n, 16] (five bytes count); rows of unknown slots get zeros."""
        count = len(offset)
        samples = np.empty((count, SAMPLE_LENGTH), np.uint8)
        take_samples(memory, offset, samples)
        if slot[0] == slot[-1] and (slot == slot[0]).all():
            return self._mask_rows(int(slot[0]), samples)
        masks = np.zeros((count, SAMPLE_LENGTH), np.uint8)
        for value in set(slot.tolist()):
            rows = np.flatnonzero(slot == value)
            masks[rows] = self._mask_rows(value, samples[rows])
        return masks

    def _mask_rows(self, slot: int, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        key = self.keys.get(slot)
        if key is None:
            return np.zeros_like(samples)
        if key.ecb is not None:
            return np.frombuffer(key.ecb.update(samples), np.uint8).reshape(-1, SAMPLE_LENGTH)
        masks = np.zeros_like(samples)
        for row, sample in enumerate(samples):
            stream = Cipher(ChaCha20(key.header_key, sample.tobytes()), None).encryptor()
            masks[row] = np.frombuffer(stream.update(bytes(SAMPLE_LENGTH)), np.uint8)
        return masks


class CryptographyAead(Synchronous):
    """Seal and open with the ``cryptography`` wheel."""

    name = "cryptography"
    operations = frozenset({Operation.AEAD_SEAL, Operation.AEAD_OPEN})
    provenance = Provenance.CPU
    maturity = Maturity.PRODUCTION

    def open(self, operation: Operation) -> EngineSession:
        """Return a session without keys."""
        if operation not in self.operations:
            raise ValueError(f"engine cryptography cannot do {operation.value}")
        return _Session(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        assert isinstance(session, _Session)
        if isinstance(job, SealJob):
            _seal(session, job)
        else:
            assert isinstance(job, OpenJob)
            _open(session, job)
        return FINISHED


def _seal(session: _Session, job: SealJob) -> None:
    count = len(job.status)
    if not count:
        return
    key_of = np.empty(count, np.int32)
    nonces = np.empty((count, 12), np.uint8)
    seal_heads(job.source, job.source_offset, job.slot, job.number, session.ivs, key_of, nonces)
    nonce = nonces.tobytes()
    source, target = memoryview(job.source), memoryview(job.target)
    columns = (job.source_offset.tolist(), job.target_offset.tolist(), job.length.tolist(), key_of.tolist())
    keys = session.keys
    at = 0
    job.status[:] = Status.DONE
    for i, (start, end, size, slot) in enumerate(zip(*columns, strict=True)):
        key = keys.get(slot)
        if key is None:
            job.status[i] = Status.REJECTED
            target[end : end + size + TAG_LENGTH] = bytes(size + TAG_LENGTH)
        else:
            body = start + HEADER_LENGTH
            header = source[start:body]
            target[end : end + HEADER_LENGTH] = header
            out = target[end + HEADER_LENGTH : end + size + TAG_LENGTH]
            key.aead.encrypt_into(nonce[at : at + 12], source[body : start + size], header, out)
        at += 12
    apply_masks(job.target, job.target_offset, session.masks(job.target, job.target_offset, job.slot))


def _open(session: _Session, job: OpenJob) -> None:
    job.status[:] = Status.REJECTED
    rows = np.flatnonzero(job.length >= _SHORTEST)
    if len(rows):
        everything = len(rows) == len(job.status)
        _open_rows(session, job, rows, slice(None) if everything else rows)
    for i in np.flatnonzero(job.status == Status.REJECTED).tolist():
        end = int(job.target_offset[i])
        job.target[end : end + max(0, int(job.length[i]) - TAG_LENGTH)] = 0


def _open_rows(session: _Session, job: OpenJob, rows: NDArray[np.intp], pick: slice | NDArray[np.intp]) -> None:
    """Open the rows that are long enough; ``pick`` selects them from the columns of the job."""
    count = len(rows)
    offset = job.source_offset[pick]
    slot = job.slot[pick]
    number = job.number[pick].copy()
    key_of = np.empty(count, np.int32)
    nonces = np.empty((count, 12), np.uint8)
    headers = np.empty((count, HEADER_LENGTH), np.uint8)
    masks = session.masks(job.source, offset, slot)
    open_heads(job.source, offset, slot, number, masks, session.ivs, key_of, nonces, headers)
    nonce, plain = nonces.tobytes(), headers.tobytes()
    source, target = memoryview(job.source), memoryview(job.target)
    columns = (offset.tolist(), job.target_offset[pick].tolist(), job.length[pick].tolist(), key_of.tolist())
    keys = session.keys
    status = np.full(count, Status.REJECTED, np.int8)
    for i, (start, end, size, value) in enumerate(zip(*columns, strict=True)):
        key = keys.get(value)
        if key is None:
            continue
        header = plain[HEADER_LENGTH * i : HEADER_LENGTH * (i + 1)]
        out = target[end + HEADER_LENGTH : end + size - TAG_LENGTH]
        try:
            key.aead.decrypt_into(nonce[12 * i : 12 * i + 12], source[start + HEADER_LENGTH : start + size], header, out)
        except InvalidTag:
            continue  # the row stays REJECTED; anybody can send such a packet
        target[end : end + HEADER_LENGTH] = header
        status[i] = Status.DONE
    done = status == Status.DONE
    job.status[pick] = status
    job.number[rows[done]] = number[done]
