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
    NONCE_LENGTH,
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
from accel.kernels.protection import (
    SAMPLE_LENGTH,
    Slots,
    apply_masks,
    make_heads,
    open_heads,
    seal_heads,
    take_samples,
)

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


def _slots(count: int) -> Slots:
    return Slots(iv=np.zeros((count, NONCE_LENGTH), np.uint8), known=np.zeros(count, np.uint8))


class CryptographySession:
    """Keys by slot. Python cannot wipe the copies inside the library; dropping the objects frees them."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.keys: dict[int, _Key] = {}
        self.slots = _slots(_GROWTH)

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        if slot < 0:
            raise ValueError(f"key slots are numbered from 0, this one is {slot}")
        while slot >= len(self.slots.known):
            old, self.slots = self.slots, _slots(2 * len(self.slots.known))
            for before, after in zip(old, self.slots, strict=True):
                after[: len(before)] = before
                before[:] = 0
        self.keys[slot] = _prepare(spec)
        self.slots.iv[slot] = np.frombuffer(spec.iv, np.uint8)
        self.slots.known[slot] = 1

    def remove_key(self, slot: int) -> None:
        """Forget the keys of a slot."""
        if self.keys.pop(slot, None) is not None:
            self.slots.iv[slot] = 0
            self.slots.known[slot] = 0

    def close(self) -> None:
        """Forget all keys."""
        for slot in list(self.keys):
            self.remove_key(slot)

    def masks(
        self, memory: NDArray[np.uint8], offset: NDArray[np.int64], length: NDArray[np.int32], slot: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Return header-protection masks [n, 16], of which five bytes count; rows of unknown slots hold anything."""
        samples = np.empty((len(offset), SAMPLE_LENGTH), np.uint8)
        take_samples(memory, offset, length, samples)
        if slot[0] == slot[-1] and (slot == slot[0]).all():
            return self._mask_rows(int(slot[0]), samples)
        masks = np.empty_like(samples)
        for value in set(slot.tolist()):
            rows = np.flatnonzero(slot == value)
            masks[rows] = self._mask_rows(value, samples[rows])
        return masks

    def _mask_rows(self, slot: int, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return masks in memory that may be written: a kernel is compiled once more for an array that may not."""
        key = self.keys.get(slot)
        if key is None:
            return samples
        if key.ecb is not None:
            room = np.empty(samples.size + SAMPLE_LENGTH - 1, np.uint8)  # update_into asks for a block less one more
            key.ecb.update_into(samples, room)
            return room[: samples.size].reshape(samples.shape)
        masks = np.empty_like(samples)
        for row, sample in enumerate(samples):
            stream = Cipher(ChaCha20(key.header_key, sample.tobytes()), None).encryptor()
            masks[row] = np.frombuffer(stream.update(bytes(SAMPLE_LENGTH)), np.uint8)
        return masks


class CryptographyAead(Synchronous):
    """Seal and open with the ``cryptography`` wheel."""

    name = "cryptography"
    operations = frozenset({Operation.AEAD_SEAL, Operation.AEAD_OPEN})
    provenance = Provenance.CPU
    maturity = Maturity.TESTED_ON_HARDWARE

    def open(self, operation: Operation) -> EngineSession:
        """Return a session without keys."""
        if operation not in self.operations:
            raise ValueError(f"engine cryptography cannot do {operation.value}")
        return CryptographySession(operation)

    def submit(self, session: EngineSession, job: Job) -> Ticket:
        """Do the job; every row has its status on return."""
        assert isinstance(session, CryptographySession)
        if isinstance(job, SealJob):
            _seal(session, job)
        else:
            assert isinstance(job, OpenJob)
            _open(session, job)
        return FINISHED


def _seal(session: CryptographySession, job: SealJob) -> None:
    count = len(job.status)
    if not count:
        return
    heads = make_heads(count)
    seal_heads(job, session.slots, heads)
    nonces = heads.nonce.tobytes()
    source, target = job.source.data, job.target.data
    columns = (job.source_offset.tolist(), job.target_offset.tolist(), job.length.tolist(), heads.key.tolist())
    keys = session.keys
    nonce = 0
    job.status[:] = Status.DONE
    for i, (start, end, size, slot) in enumerate(zip(*columns, strict=True)):
        if slot < 0:
            job.status[i] = Status.REJECTED
            target[end : end + size + TAG_LENGTH] = bytes(size + TAG_LENGTH)
        else:
            body = start + HEADER_LENGTH
            header = source[start:body]
            target[end : end + HEADER_LENGTH] = header
            out = target[end + HEADER_LENGTH : end + size + TAG_LENGTH]
            keys[slot].aead.encrypt_into(nonces[nonce : nonce + NONCE_LENGTH], source[body : start + size], header, out)
        nonce += NONCE_LENGTH
    masks = session.masks(job.target, job.target_offset, job.length + np.int32(TAG_LENGTH), job.slot)
    apply_masks(job, masks, heads.key)


def _open(session: CryptographySession, job: OpenJob) -> None:
    count = len(job.status)
    if not count:
        return
    heads = make_heads(count)
    open_heads(job, session.masks(job.source, job.source_offset, job.length, job.slot), session.slots, heads)
    nonces, headers = heads.nonce.tobytes(), heads.header.tobytes()
    source, target = job.source.data, job.target.data
    columns = (job.source_offset.tolist(), job.target_offset.tolist(), job.length.tolist(), heads.key.tolist())
    keys = session.keys
    status = np.full(count, Status.REJECTED, np.int8)
    nonce = place = 0
    for i, (start, end, size, slot) in enumerate(zip(*columns, strict=True)):
        if slot >= 0:
            header = headers[place : place + HEADER_LENGTH]
            body = source[start + HEADER_LENGTH : start + size]
            out = target[end + HEADER_LENGTH : end + size - TAG_LENGTH]
            try:
                keys[slot].aead.decrypt_into(nonces[nonce : nonce + NONCE_LENGTH], body, header, out)
                target[end : end + HEADER_LENGTH] = header
                status[i] = Status.DONE
            except InvalidTag:
                slot = -1  # anybody can send such a packet
        if slot < 0 and size > TAG_LENGTH:
            target[end : end + size - TAG_LENGTH] = bytes(size - TAG_LENGTH)
        nonce += NONCE_LENGTH
        place += HEADER_LENGTH
    job.status[:] = status
    done = status == Status.DONE
    job.number[done] = heads.number[done]
