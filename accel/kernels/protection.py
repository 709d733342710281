"""The parts of packet protection that are not the AEAD, for a whole batch: samples, masks, packet numbers, nonces (RFC 9001, 5.3 and 5.4)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

HEADER_LENGTH = 13
SAMPLE_LENGTH = 16
_NUMBER = 9
_PHASE = 0x04
_HIDDEN = 0x1F
_WINDOW = 1 << 32


@njit(cache=True)
def take_samples(memory: NDArray[np.uint8], offset: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Copy the 16 sampled bytes of each packet to ``out`` [n, 16]."""
    for i in range(len(offset)):
        for byte in range(SAMPLE_LENGTH):
            out[i, byte] = memory[offset[i] + HEADER_LENGTH + byte]


@njit(cache=True)
def apply_masks(memory: NDArray[np.uint8], offset: NDArray[np.int64], masks: NDArray[np.uint8]) -> None:
    """Xor ``masks`` [n, >= 5] into the first byte (low five bits) and the packet number of each packet."""
    for i in range(len(offset)):
        start = offset[i]
        memory[start] ^= masks[i, 0] & np.uint8(_HIDDEN)
        for byte in range(4):
            memory[start + _NUMBER + byte] ^= masks[i, 1 + byte]


@njit(cache=True)
def seal_heads(
    memory: NDArray[np.uint8],
    offset: NDArray[np.int64],
    slot: NDArray[np.int32],
    number: NDArray[np.int64],
    ivs: NDArray[np.uint8],
    key: NDArray[np.int32],
    nonces: NDArray[np.uint8],
) -> None:
    """Write the key slot [n] (slot of the key phase) and the nonce [n, 12] of each packet; ``ivs`` [slots, 12]."""
    for i in range(len(offset)):
        key[i] = slot[i] + ((memory[offset[i]] & _PHASE) >> 2)
        _nonce(ivs, key[i], number[i], nonces, i)


@njit(cache=True)
def _nonce(ivs: NDArray[np.uint8], key: int, number: int, nonces: NDArray[np.uint8], row: int) -> None:
    for byte in range(4):
        nonces[row, byte] = ivs[key, byte]
    for byte in range(8):
        nonces[row, 4 + byte] = ivs[key, 4 + byte] ^ np.uint8((number >> (56 - 8 * byte)) & 0xFF)


@njit(cache=True)
def open_heads(
    memory: NDArray[np.uint8],
    offset: NDArray[np.int64],
    slot: NDArray[np.int32],
    number: NDArray[np.int64],
    masks: NDArray[np.uint8],
    ivs: NDArray[np.uint8],
    key: NDArray[np.int32],
    nonces: NDArray[np.uint8],
    headers: NDArray[np.uint8],
) -> None:
    """Unmask each header into ``headers`` [n, 13], expand ``number`` in place (largest seen -> full), write key slot and nonce."""
    for i in range(len(offset)):
        for byte in range(HEADER_LENGTH):
            headers[i, byte] = memory[offset[i] + byte]
        headers[i, 0] ^= masks[i, 0] & np.uint8(_HIDDEN)
        low = 0
        for byte in range(4):
            headers[i, _NUMBER + byte] ^= masks[i, 1 + byte]
            low = (low << 8) | np.int64(headers[i, _NUMBER + byte])
        expected = number[i] + 1
        full = (expected & ~(_WINDOW - 1)) | low
        if full <= expected - _WINDOW // 2 and full < (1 << 62) - _WINDOW:
            full += _WINDOW
        elif full > expected + _WINDOW // 2 and full >= _WINDOW:
            full -= _WINDOW
        number[i] = full
        key[i] = slot[i] + ((headers[i, 0] & _PHASE) >> 2)
        _nonce(ivs, key[i], full, nonces, i)
