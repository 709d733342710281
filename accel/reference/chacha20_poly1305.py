"""ChaCha20-Poly1305 by its definition (RFC 8439)."""

from __future__ import annotations

import hmac
import struct

TAG_LENGTH = 16
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
_P = (1 << 130) - 5


def _quarter_round(state: list[int], a: int, b: int, c: int, d: int) -> None:
    """Apply QUARTERROUND (section 2.1)."""
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[x] = (state[x] + state[y]) & _MASK
        mixed = state[z] ^ state[x]
        state[z] = (mixed << turn & _MASK) | mixed >> (32 - turn)


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """Return 64 bytes of key stream (section 2.3)."""
    start = [*_CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    state = list(start)
    for _ in range(10):
        for column in range(4):
            _quarter_round(state, column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            _quarter_round(state, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return struct.pack("<16I", *((a + b) & _MASK for a, b in zip(state, start, strict=True)))


def chacha20_encrypt(key: bytes, counter: int, nonce: bytes, data: bytes) -> bytes:
    """Return ``data`` xor the key stream from block ``counter`` on (section 2.4)."""
    blocks = range(counter, counter + (len(data) + 63) // 64)
    stream = b"".join(chacha20_block(key, block, nonce) for block in blocks)
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def poly1305_mac(message: bytes, key: bytes) -> bytes:
    """Return the tag of ``message`` (section 2.5)."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    accumulator = 0
    for i in range(0, len(message), 16):
        block = message[i : i + 16] + b"\1"
        accumulator = (accumulator + int.from_bytes(block, "little")) * r % _P
    return ((accumulator + s) & ((1 << 128) - 1)).to_bytes(16, "little")


def _pad16(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _tag(key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    otk = chacha20_block(key, 0, nonce)[:32]
    lengths = struct.pack("<QQ", len(aad), len(ciphertext))
    return poly1305_mac(_pad16(aad) + _pad16(ciphertext) + lengths, otk)


def seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """Return ciphertext and tag (section 2.8)."""
    ciphertext = chacha20_encrypt(key, 1, nonce, plaintext)
    return ciphertext + _tag(key, nonce, aad, ciphertext)


def open_(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes | None:
    """Return the plaintext, or None when the tag is wrong (section 2.8)."""
    ciphertext, tag = sealed[:-TAG_LENGTH], sealed[-TAG_LENGTH:]
    if not hmac.compare_digest(_tag(key, nonce, aad, ciphertext), tag):
        return None
    return chacha20_encrypt(key, 1, nonce, ciphertext)
