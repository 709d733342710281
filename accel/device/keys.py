"""Packet-protection keys as a device takes them: a record of words for each slot, as packets.h reads it.

Keys are expanded by the kernel that the engine ``simd`` expands them with, in constant time; what it has worked on is
wiped.
"""

from __future__ import annotations

import numpy as np

from accel.aead.simd import KeyTable
from accel.device.port import Bytes, Words
from accel.engine import KeySpec, Suite
from accel.ir.aead_layout import HEADER_KEY, KEY, POWERS_END, ROUNDS

RECORD = 1024
"""Words of a record."""
_IV, _POWERS, _CHACHA, _CHACHA_HEAD, _AES, _AES_HEAD = 2, 8, 40, 48, 64, 544
_NUMBERS = {Suite.AES_128_GCM: 1, Suite.AES_256_GCM: 2, Suite.CHACHA20_POLY1305: 3}
_BLOCKS = 8
"""Powers of the hash key: one for each block of a chunk."""
_BLOCK = 16
"""Bytes of a block, and of a round key."""


def record(spec: KeySpec) -> Words:
    """Return the record [RECORD] of a key."""
    words = np.zeros(RECORD, np.uint32)
    words[0] = _NUMBERS[spec.suite]
    words[_IV : _IV + 3] = np.frombuffer(spec.iv, np.uint32)
    if spec.suite is Suite.CHACHA20_POLY1305:
        words[_CHACHA : _CHACHA + 8] = np.frombuffer(spec.key, np.uint32)
        words[_CHACHA_HEAD : _CHACHA_HEAD + 8] = np.frombuffer(spec.header_key, np.uint32)
        return words
    rounds = ROUNDS[len(spec.key)]
    words[1] = rounds
    table = KeyTable()
    table.put(0, spec)
    expanded = table.records[0]
    for place, begin in ((_AES, KEY), (_AES_HEAD, HEADER_KEY)):
        _write_planes(expanded[begin : begin + _BLOCK * (rounds + 1)], words[place:])
    powers = expanded[POWERS_END - _BLOCK * _BLOCKS : POWERS_END].view(np.uint32).reshape(_BLOCKS, -1)
    words[_POWERS : _POWERS + powers.size] = powers[::-1].reshape(-1)  # there the highest comes first
    table.wipe()
    return words


def _write_planes(round_keys: Bytes, words: Words) -> None:
    """Write round keys bit-sliced: word 4 b + r of a round has, in byte c, bit b of row r of column c, eight times."""
    state = round_keys.reshape(-1, 4, 4)  # [round, column, row]
    bits = np.unpackbits(state[:, :, :, None], axis=3, bitorder="little")
    planes = words[: bits.size // 4].view(np.uint8).reshape(len(state), 8, 4, 4)  # [round, bit, row, column]
    np.multiply(bits.transpose(0, 3, 2, 1), np.uint8(0xFF), out=planes)
    bits[:] = 0
