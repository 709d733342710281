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

_SAMPLE = HEADER_LENGTH
"""Where the sample starts: 4 bytes behind the start of the packet number, which is 4 bytes long."""
_SAMPLE_LENGTH = 16
_NUMBER = 9
_PHASE = 0x04
_SHORTEST = HEADER_LENGTH + 4 + TAG_LENGTH
_WINDOW = 1 << 32


@dataclass
class _Key:
    aead: AESGCM | ChaCha20Poly1305
    iv: NDArray[np.uint8]
    header_key: bytes
    ecb: Any
    """An AES-ECB encryptor, which keeps no state between blocks; None for ChaCha20."""


def _prepare(spec: KeySpec) -> _Key:
    iv = np.frombuffer(spec.iv, np.uint8).copy()
    if spec.suite is Suite.CHACHA20_POLY1305:
        return _Key(ChaCha20Poly1305(spec.key), iv, spec.header_key, None)
    return _Key(AESGCM(spec.key), iv, spec.header_key, Cipher(AES(spec.header_key), ECB()).encryptor())


class _Session:
    """Keys by slot. Python cannot wipe the copies inside the library; dropping the objects frees them."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.keys: dict[int, _Key] = {}

    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""
        self.keys[slot] = _prepare(spec)

    def remove_key(self, slot: int) -> None:
        """Forget the keys of a slot."""
        key = self.keys.pop(slot, None)
        if key is not None:
            key.iv[:] = 0

    def close(self) -> None:
        """Forget all keys."""
        for slot in list(self.keys):
            self.remove_key(slot)


def _masks(keys: dict[int, _Key], slot: NDArray[np.int32], samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the header-protection masks [n, 5] of samples [n, 16]; rows of unknown slots get zeros."""
    masks = np.zeros((len(slot), 5), np.uint8)
    for value in np.unique(slot).tolist():
        key = keys.get(value)
        if key is None:
            continue
        rows = np.flatnonzero(slot == value)
        if key.ecb is not None:
            block = np.frombuffer(key.ecb.update(samples[rows].tobytes()), np.uint8)
            masks[rows] = block.reshape(-1, _SAMPLE_LENGTH)[:, :5]
            continue
        for row in rows.tolist():
            stream = Cipher(ChaCha20(key.header_key, samples[row].tobytes()), None).encryptor()
            masks[row] = np.frombuffer(stream.update(bytes(5)), np.uint8)
    return masks


def _nonces(keys: dict[int, _Key], slot: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return IV xor packet number [n, 12] (RFC 9001, section 5.3); rows of unknown slots get zeros."""
    nonces = np.zeros((len(slot), 12), np.uint8)
    nonces[:, 4:] = number.astype(">u8").view(np.uint8).reshape(-1, 8)
    for value in np.unique(slot).tolist():
        key = keys.get(value)
        if key is not None:
            nonces[slot == value] ^= key.iv
    return nonces


def _expand(low: NDArray[np.int64], largest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return full packet numbers (RFC 9000, appendix A.3)."""
    expected = largest + 1
    number = (expected & ~np.int64(_WINDOW - 1)) | low
    number = np.where((number <= expected - _WINDOW // 2) & (number < (1 << 62) - _WINDOW), number + _WINDOW, number)
    return np.where((number > expected + _WINDOW // 2) & (number >= _WINDOW), number - _WINDOW, number)


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
            _seal(session.keys, job)
        else:
            assert isinstance(job, OpenJob)
            _open(session.keys, job)
        return FINISHED


def _seal(keys: dict[int, _Key], job: SealJob) -> None:
    first = job.source[job.source_offset]
    slot = job.slot + ((first & _PHASE) >> 2).astype(np.int64)
    nonces = _nonces(keys, slot, job.number).tobytes()
    source, target = memoryview(job.source), memoryview(job.target)
    starts, ends = job.source_offset.tolist(), job.target_offset.tolist()
    for i, (size, value) in enumerate(zip(job.length.tolist(), slot.tolist(), strict=True)):
        key = keys.get(value)
        if key is None:
            job.status[i] = Status.REJECTED
            continue
        start, end = starts[i], ends[i]
        header = source[start : start + HEADER_LENGTH]
        target[end : end + HEADER_LENGTH] = header
        key.aead.encrypt_into(
            nonces[12 * i : 12 * i + 12],
            source[start + HEADER_LENGTH : start + size],
            header,
            target[end + HEADER_LENGTH : end + size + TAG_LENGTH],
        )
        job.status[i] = Status.DONE
    good = job.status == Status.DONE
    offset = job.target_offset[good]
    masks = _masks(keys, job.slot[good], job.target[offset[:, None] + np.arange(_SAMPLE, _SAMPLE + _SAMPLE_LENGTH)])
    job.target[offset] ^= masks[:, 0] & 0x1F
    job.target[offset[:, None] + np.arange(_NUMBER, HEADER_LENGTH)] ^= masks[:, 1:]


def _open(keys: dict[int, _Key], job: OpenJob) -> None:
    job.status[:] = Status.REJECTED
    rows = np.flatnonzero(job.length >= _SHORTEST)
    offset = job.source_offset[rows]
    sample = job.source[offset[:, None] + np.arange(_SAMPLE, _SAMPLE + _SAMPLE_LENGTH)]
    masks = _masks(keys, job.slot[rows], sample)
    headers = job.source[offset[:, None] + np.arange(HEADER_LENGTH)]
    headers[:, 0] ^= masks[:, 0] & 0x1F
    headers[:, _NUMBER:] ^= masks[:, 1:]
    low = np.ascontiguousarray(headers[:, _NUMBER:]).view(">u4").reshape(-1).astype(np.int64)
    number = _expand(low, job.number[rows])
    slot = job.slot[rows] + ((headers[:, 0] & _PHASE) >> 2).astype(np.int64)
    nonces = _nonces(keys, slot, number).tobytes()
    plain = headers.tobytes()
    source, target = memoryview(job.source), memoryview(job.target)
    status = np.full(len(rows), Status.REJECTED, np.int8)
    columns = (offset.tolist(), job.target_offset[rows].tolist(), job.length[rows].tolist(), slot.tolist())
    for i, (start, end, size, value) in enumerate(zip(*columns, strict=True)):
        key = keys.get(value)
        if key is None:
            continue
        header = plain[HEADER_LENGTH * i : HEADER_LENGTH * (i + 1)]
        try:
            key.aead.decrypt_into(
                nonces[12 * i : 12 * i + 12],
                source[start + HEADER_LENGTH : start + size],
                header,
                target[end + HEADER_LENGTH : end + size - TAG_LENGTH],
            )
        except InvalidTag:
            continue  # the row stays REJECTED; anybody can send such a packet
        target[end : end + HEADER_LENGTH] = header
        status[i] = Status.DONE
    job.status[rows] = status
    job.number[rows[status == Status.DONE]] = number[status == Status.DONE]
    for i in np.flatnonzero(job.status == Status.REJECTED).tolist():
        end = int(job.target_offset[i])
        job.target[end : end + max(0, int(job.length[i]) - TAG_LENGTH)] = 0
