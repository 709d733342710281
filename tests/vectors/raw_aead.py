"""The kernels of engine ``simd`` on one text with any associated data and no header: for vectors that are no packet."""

from __future__ import annotations

import numpy as np

from accel.aead.simd import KeyTable
from accel.calls import address_of
from accel.engine import TAG_LENGTH, KeySpec, Suite
from accel.ir.aead_layout import RAW_WORDS
from accel.native import function
from accel.reference import gcm
from accel.reference.aes import encrypt_block, expand_key

GUARD = 0x5A
_MARGIN = 64
"""Guard bytes before and behind each text; the kernels may read 16 before."""


class RawAead:
    """Seal and open by one variant; a test fails here when a byte beside the target is written."""

    def __init__(self, isa: str) -> None:
        self.isa = isa
        self._run = {
            opening: function("aead", f"raw_{'open' if opening else 'seal'}_{isa}") for opening in (False, True)
        }

    def seal(self, suite: Suite, key: bytes, nonce: bytes, aad: bytes, text: bytes) -> bytes:
        """Return ciphertext and tag."""
        done, target = self._call((suite, key, nonce, aad), text, len(text) + TAG_LENGTH, opening=False)
        assert done == 1
        return target

    def open(self, suite: Suite, key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes | None:
        """Return the plaintext, None when the tag is wrong."""
        done, target = self._call((suite, key, nonce, aad), sealed, len(sealed) - TAG_LENGTH, opening=True)
        return target if done else None

    def _call(
        self, given: tuple[Suite, bytes, bytes, bytes], text: bytes, size: int, *, opening: bool
    ) -> tuple[int, bytes]:
        suite, key, nonce, aad = given
        table = KeyTable()
        table.put(0, KeySpec(suite, key, nonce, key))
        head = np.zeros(32, np.uint8)
        head[:12] = np.frombuffer(nonce, np.uint8)
        head[16:] = np.frombuffer(_first_block(suite, key, aad), np.uint8)
        source = np.full(len(text) + 2 * _MARGIN, GUARD, np.uint8)
        source[_MARGIN : _MARGIN + len(text)] = np.frombuffer(text, np.uint8)
        target = np.full(size + 2 * _MARGIN, GUARD, np.uint8)
        context = np.zeros(RAW_WORDS, np.int64)
        context[:] = [
            address_of(table.records), address_of(head), address_of(source) + _MARGIN,
            min(size, len(text)), address_of(target) + _MARGIN, 8 * len(aad),
        ]  # fmt: skip
        done = self._run[opening](address_of(context))
        assert set(target[:_MARGIN].tolist()) | set(target[_MARGIN + size :].tolist()) == {GUARD}
        assert done in (0, 1)
        return done, target[_MARGIN : _MARGIN + size].tobytes()


def _first_block(suite: Suite, key: bytes, aad: bytes) -> bytes:
    """Return what stands for all associated data: with GCM, all but its last block are hashed beforehand."""
    padded = aad + bytes(-len(aad) % 16)
    if suite is Suite.CHACHA20_POLY1305:
        assert len(padded) <= 16, "the kernel takes one block"
        return padded.ljust(16, b"\0")
    before, last = padded[:-16], padded[-16:]
    h = int.from_bytes(encrypt_block(expand_key(key), bytes(16)))
    return (gcm.ghash(h, before) ^ int.from_bytes(last)).to_bytes(16)
