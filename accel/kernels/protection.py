"""What packet protection does beside the AEAD, for a whole batch (RFC 9001, sections 5.3 and 5.4).

Samples, masks, packet numbers, nonces. A row that cannot be served (too short, no key) gets key -1 here, so that
whoever calls the AEAD needs to look in one place only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import HEADER_LENGTH, NONCE_LENGTH, SHORTEST_OPEN, SHORTEST_SEAL, OpenJob, SealJob
from drivers.kernel import kernel

SAMPLE_LENGTH = 16
_NUMBER = 9
_NUMBER_LENGTH = 4
_PHASE = 0x04
_HIDDEN = 0x1F
_WINDOW = 1 << 32


class Slots(NamedTuple):
    """Key slots as arrays: ``iv`` [slots, 12], ``known`` [slots] (1 = there is a key)."""

    iv: NDArray[np.uint8]
    known: NDArray[np.uint8]


class Heads(NamedTuple):
    """What a batch's AEAD calls need: ``key`` [n] slot or -1, ``nonce`` [n, 12]; opening also ``header`` [n, 13].

    ``number`` [n] receives full packet numbers when opening.
    """

    key: NDArray[np.int32]
    nonce: NDArray[np.uint8]
    header: NDArray[np.uint8]
    number: NDArray[np.int64]


def make_heads(count: int) -> Heads:
    """Return room for ``count`` rows."""
    return Heads(
        key=np.empty(count, np.int32),
        nonce=np.empty((count, NONCE_LENGTH), np.uint8),
        header=np.empty((count, HEADER_LENGTH), np.uint8),
        number=np.empty(count, np.int64),
    )


@kernel
def take_samples(
    memory: NDArray[np.uint8], offset: NDArray[np.int64], length: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """Copy the 16 sampled bytes of each packet to ``out`` [n, 16]; a packet too short to have them gives zeros."""
    for i in range(len(offset)):
        enough = length[i] >= SHORTEST_OPEN
        for byte in range(SAMPLE_LENGTH):
            out[i, byte] = memory[offset[i] + HEADER_LENGTH + byte] if enough else 0


@kernel
def apply_masks(job: SealJob, masks: NDArray[np.uint8], key: NDArray[np.int32]) -> None:
    """Xor ``masks`` [n, >= 5] into the low five bits of the first byte and the packet number of each sealed packet."""
    for i in range(len(key)):
        if key[i] >= 0:
            start = job.target_offset[i]
            job.target[start] ^= masks[i, 0] & np.uint8(_HIDDEN)
            for byte in range(_NUMBER_LENGTH):
                job.target[start + _NUMBER + byte] ^= masks[i, 1 + byte]


@kernel
def seal_heads(job: SealJob, slots: Slots, heads: Heads) -> None:
    """Write the key slot and the nonce of each packet."""
    for i in range(len(job.length)):
        heads.key[i] = -1
        if job.length[i] >= SHORTEST_SEAL:
            heads.key[i] = _key_slot(slots, job.slot[i], job.source[job.source_offset[i]])
        if heads.key[i] >= 0:
            _write_nonce(slots.iv[heads.key[i]], job.number[i], heads.nonce[i])


@kernel
def open_heads(job: OpenJob, masks: NDArray[np.uint8], slots: Slots, heads: Heads) -> None:
    """Write the key slot, the nonce, the plain header and the full number (RFC 9000, appendix A.3) of each packet."""
    for i in range(len(job.length)):
        heads.key[i] = -1
        if job.length[i] < SHORTEST_OPEN:
            continue
        header = heads.header[i]
        for byte in range(HEADER_LENGTH):
            header[byte] = job.source[job.source_offset[i] + byte]
        header[0] ^= masks[i, 0] & np.uint8(_HIDDEN)
        low = 0
        for byte in range(_NUMBER_LENGTH):
            header[_NUMBER + byte] ^= masks[i, 1 + byte]
            low = (low << 8) | int(header[_NUMBER + byte])
        expected = int(job.number[i]) + 1
        full = (expected & ~(_WINDOW - 1)) | low
        if full <= expected - _WINDOW // 2 and full < (1 << 62) - _WINDOW:
            full += _WINDOW
        elif full > expected + _WINDOW // 2 and full >= _WINDOW:
            full -= _WINDOW
        heads.number[i] = full
        heads.key[i] = _key_slot(slots, job.slot[i], header[0])
        if heads.key[i] >= 0:
            _write_nonce(slots.iv[heads.key[i]], full, heads.nonce[i])


@kernel
def _key_slot(slots: Slots, slot: int, first_byte: int) -> int:
    """Return the slot of the key phase; -1 without a key there or in ``slot``, which has the header-protection key."""
    key = slot + ((first_byte & _PHASE) >> 2)
    if slot < 0 or key >= len(slots.known) or slots.known[slot] == 0 or slots.known[key] == 0:
        return -1
    return key


@kernel
def _write_nonce(iv: NDArray[np.uint8], number: int, out: NDArray[np.uint8]) -> None:
    for byte in range(NONCE_LENGTH - 8):
        out[byte] = iv[byte]
    for byte in range(8):
        place = NONCE_LENGTH - 8 + byte
        out[place] = iv[place] ^ np.uint8((number >> (56 - 8 * byte)) & 0xFF)
