"""Galois/Counter Mode by its definition (NIST SP 800-38D), for 96-bit IVs."""

from __future__ import annotations

import hmac

from accel.reference.aes import BLOCK_LENGTH, encrypt_block, expand_key

TAG_LENGTH = 16
_R = 0xE1 << 120


def multiply(x: int, y: int) -> int:
    """Return X • Y in GF(2^128), blocks as big-endian integers (section 6.3, algorithm 1)."""
    z = 0
    v = y
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= v
        v = v >> 1 ^ _R if v & 1 else v >> 1
    return z


def ghash(h: int, data: bytes) -> int:
    """Return GHASH of whole blocks (section 6.4, algorithm 2)."""
    y = 0
    for i in range(0, len(data), BLOCK_LENGTH):
        y = multiply(y ^ int.from_bytes(data[i : i + BLOCK_LENGTH]), h)
    return y


def gctr(round_keys: list[bytes], counter: int, data: bytes) -> bytes:
    """Return ``data`` xor the key stream from the block ``counter`` on (section 6.5, algorithm 3)."""
    stream = b""
    while len(stream) < len(data):
        stream += encrypt_block(round_keys, counter.to_bytes(BLOCK_LENGTH))
        counter = counter >> 32 << 32 | (counter + 1) & 0xFFFFFFFF
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK_LENGTH)


def _tag(round_keys: list[bytes], j0: int, aad: bytes, ciphertext: bytes) -> bytes:
    h = int.from_bytes(encrypt_block(round_keys, bytes(BLOCK_LENGTH)))
    lengths = (8 * len(aad)).to_bytes(8) + (8 * len(ciphertext)).to_bytes(8)
    s = ghash(h, _pad(aad) + _pad(ciphertext) + lengths)
    return gctr(round_keys, j0, s.to_bytes(BLOCK_LENGTH))


def seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """Return ciphertext and tag (section 7.1, algorithm 4)."""
    round_keys = expand_key(key)
    j0 = int.from_bytes(nonce + b"\0\0\0\1")
    ciphertext = gctr(round_keys, j0 + 1, plaintext)
    return ciphertext + _tag(round_keys, j0, aad, ciphertext)


def open_(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes | None:
    """Return the plaintext, or None (FAIL) when the tag is wrong (section 7.2, algorithm 5)."""
    round_keys = expand_key(key)
    j0 = int.from_bytes(nonce + b"\0\0\0\1")
    ciphertext, tag = sealed[:-TAG_LENGTH], sealed[-TAG_LENGTH:]
    if not hmac.compare_digest(_tag(round_keys, j0, aad, ciphertext), tag):
        return None
    return gctr(round_keys, j0 + 1, ciphertext)
