"""What the AEAD engines that call a C library have in common: heads, masks and verdicts by batch, texts by C calls.

The calls are written down by numpy and made by one compiled loop (accel/calls.py), so Python costs per batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.aead.slots import SlotTable
from accel.calls import Caller, address_of
from accel.engine import HEADER_LENGTH, NONCE_LENGTH, TAG_LENGTH, KeySpec, OpenJob, Operation, SealJob, Status
from accel.kernels.protection import Heads, apply_masks, make_heads, open_heads, seal_heads

Words = NDArray[np.int64]
_HEADER = np.arange(HEADER_LENGTH)


class Texts(NamedTuple):
    """What the library works on; a column has one element for each row that can be served; addresses are absolute.

    Attributes
    ----------
    row, key
        The row's place in the job; the slot of its key.
    nonce, header, source, target
        Addresses; the texts begin behind the header.
    size
        Bytes of the plaintext.
    tag
        Address of the tag, which is written when sealing and read when opening.
    """

    row: Words
    key: Words
    nonce: Words
    header: Words
    source: Words
    target: Words
    size: Words
    tag: Words

    def only(self, chosen: NDArray[np.bool_]) -> Texts:
        """Return some of the rows."""
        return Texts(*(column[chosen] for column in self))


class CallSession(ABC):
    """A session whose keys lie in a :class:`SlotTable`; a row's status is DONE, REJECTED (bad tag) or FAULT."""

    def __init__(self, operation: Operation, *columns: str) -> None:
        self.operation = operation
        self.caller = Caller()
        self.table = SlotTable(*columns)

    @abstractmethod
    def install_key(self, slot: int, spec: KeySpec) -> None:
        """Expand and keep the keys of a slot."""

    @abstractmethod
    def remove_key(self, slot: int) -> None:
        """Wipe the keys of a slot."""

    @abstractmethod
    def close(self) -> None:
        """Wipe all keys."""

    @abstractmethod
    def masks(
        self, memory: NDArray[np.uint8], offset: Words, length: NDArray[np.int32], slot: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Return header-protection masks [n, 16], of which five bytes count; rows of unknown slots hold anything."""

    @abstractmethod
    def seal_texts(self, job: SealJob, texts: Texts) -> NDArray[np.int8]:
        """Write ciphertexts and tags."""

    @abstractmethod
    def open_texts(self, job: OpenJob, texts: Texts) -> NDArray[np.int8]:
        """Write plaintexts; of a row that is not DONE the caller wipes what was written."""


def seal(session: CallSession, job: SealJob) -> None:
    """Do a job."""
    heads = make_heads(len(job.status))
    seal_heads(job, session.table.slots, heads)
    row = np.flatnonzero(heads.key >= 0)
    job.status[:] = Status.REJECTED
    if len(row):
        key = heads.key[row].astype(np.int64)
        header = address_of(job.source) + job.source_offset[row]
        target = address_of(job.target) + job.target_offset[row] + HEADER_LENGTH
        size = job.length[row] - np.int64(HEADER_LENGTH)
        texts = Texts(row, key, _nonces(heads, row), header, header + HEADER_LENGTH, target, size, target + size)
        job.status[row] = session.seal_texts(job, texts)
        job.target[job.target_offset[row, None] + _HEADER] = job.source[job.source_offset[row, None] + _HEADER]
    _wipe(job, heads)
    masks = session.masks(job.target, job.target_offset, job.length + np.int32(TAG_LENGTH), job.slot)
    apply_masks(job, masks, heads.key)


def open_(session: CallSession, job: OpenJob) -> None:
    """Do a job."""
    heads = make_heads(len(job.status))
    masks = session.masks(job.source, job.source_offset, job.length, job.slot)
    open_heads(job, masks, session.table.slots, heads)
    row = np.flatnonzero(heads.key >= 0)
    job.status[:] = Status.REJECTED
    if len(row):
        key = heads.key[row].astype(np.int64)
        header = address_of(heads.header) + row * HEADER_LENGTH
        source = address_of(job.source) + job.source_offset[row] + HEADER_LENGTH
        target = address_of(job.target) + job.target_offset[row] + HEADER_LENGTH
        size = job.length[row] - np.int64(HEADER_LENGTH + TAG_LENGTH)
        texts = Texts(row, key, _nonces(heads, row), header, source, target, size, source + size)
        job.status[row] = session.open_texts(job, texts)
        job.target[job.target_offset[row, None] + _HEADER] = heads.header[row]
    _wipe(job, heads)
    done = job.status == Status.DONE
    job.number[done] = heads.number[done]


def _nonces(heads: Heads, row: Words) -> Words:
    addresses: Words = address_of(heads.nonce) + row * NONCE_LENGTH
    return addresses


def _wipe(job: SealJob | OpenJob, heads: Heads) -> None:
    """Zero the targets of rows that are not DONE, and let nothing mask them."""
    growth = TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH
    rows = np.flatnonzero(job.status != Status.DONE)
    for start, size in zip(job.target_offset[rows].tolist(), job.length[rows].tolist(), strict=True):
        job.target[start : start + max(0, size + growth)] = 0
    heads.key[rows] = -1
