"""AES by its definition (FIPS 197): one block, forward direction; GCM and header protection need no other."""

from __future__ import annotations

BLOCK_LENGTH = 16


def xtime(a: int) -> int:
    """Return {02} times ``a`` in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2)."""
    a <<= 1
    return a ^ 0x11B if a & 0x100 else a


def _multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = xtime(a)
        b >>= 1
    return product


def _sbox() -> bytes:
    """Return SBOX: the inverse in the field (0 for 0), then an affine map (FIPS 197, section 5.1.1)."""
    box = bytearray(256)
    for a in range(256):
        inverse = next((b for b in range(256) if _multiply(a, b) == 1), 0)
        b = inverse
        for turn in range(1, 5):
            b ^= ((inverse << turn) | (inverse >> (8 - turn))) & 0xFF
        box[a] = b ^ 0x63
    return bytes(box)


SBOX = _sbox()
"""SUBBYTES."""
XTIMES = bytes(xtime(a) for a in range(256))
"""{02} times every byte."""
_SHIFT_ROWS = [(4 * (column + row) + row) % 16 for column in range(4) for row in range(4)]
"""SHIFTROWS: byte ``i`` of the state comes from this place; the state is column after column."""


def expand_key(key: bytes) -> list[bytes]:
    """Return the round keys of 16 bytes each (KEYEXPANSION; FIPS 197, section 5.2)."""
    words = len(key) // 4
    rounds = words + 6
    w = [key[4 * i : 4 * i + 4] for i in range(words)]
    rcon = 1
    for i in range(words, 4 * (rounds + 1)):
        temp = w[i - 1]
        if i % words == 0:
            temp = bytes(SBOX[b] for b in temp[1:] + temp[:1])
            temp = bytes([temp[0] ^ rcon]) + temp[1:]
            rcon = xtime(rcon)
        elif words > 6 and i % words == 4:
            temp = bytes(SBOX[b] for b in temp)
        w.append(bytes(a ^ b for a, b in zip(w[i - words], temp, strict=True)))
    return [b"".join(w[i : i + 4]) for i in range(0, len(w), 4)]


def encrypt_block(round_keys: list[bytes], block: bytes) -> bytes:
    """Return CIPHER of one block (FIPS 197, section 5.1)."""
    state = [a ^ b for a, b in zip(block, round_keys[0], strict=True)]
    for key in round_keys[1:-1]:
        state = [SBOX[state[i]] for i in _SHIFT_ROWS]
        state = [a ^ b for a, b in zip(_mix_columns(state), key, strict=True)]
    state = [SBOX[state[i]] for i in _SHIFT_ROWS]
    return bytes(a ^ b for a, b in zip(state, round_keys[-1], strict=True))


def _mix_columns(state: list[int]) -> list[int]:
    """Return MIXCOLUMNS: {02} a0 + {03} a1 + a2 + a3 for each byte a0 of a column and those below it."""
    mixed: list[int] = []
    for i in range(0, 16, 4):
        a, b, c, d = state[i : i + 4]
        total = a ^ b ^ c ^ d
        mixed += (
            a ^ total ^ XTIMES[a ^ b],
            b ^ total ^ XTIMES[b ^ c],
            c ^ total ^ XTIMES[c ^ d],
            d ^ total ^ XTIMES[d ^ a],
        )
    return mixed
