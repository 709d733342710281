"""Key records of devices: compiled key set-up leaves in them what the definitions say, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.aead.simd import KeyTable
from accel.device import keys
from accel.device.keys import RECORD, record
from accel.engine import KeySpec, Suite
from accel.reference.aes import encrypt_block, expand_key

_POLYVAL = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1
"""RFC 8452, section 3."""


def planes(key: bytes) -> list[int]:
    """Return each round key bit-sliced: word 4 b + r has 0xFF in byte c where row r of column c has bit b."""
    words = []
    for round_key in expand_key(key):
        for bit in range(8):
            for row in range(4):
                columns = [0xFF * (round_key[4 * column + row] >> bit & 1) for column in range(4)]
                words.append(int.from_bytes(bytes(columns), "little"))
    return words


def dot(a: int, b: int) -> int:
    """Return a * b * x^-128 modulo POLYVAL's polynomial (RFC 8452, section 3)."""
    product = 0
    for bit in range(128):
        product ^= (a << bit) * (b >> bit & 1)
    for _ in range(128):
        product = (product ^ _POLYVAL * (product & 1)) >> 1
    return product


def powers(key: bytes) -> bytes:
    """Return the first to the eighth power of the hash key times x (RFC 8452, appendix A)."""
    hash_key = int.from_bytes(encrypt_block(expand_key(key), bytes(16))) << 1
    if hash_key >> 128:
        hash_key ^= _POLYVAL
    power, found = hash_key, b""
    for _ in range(8):
        found += power.to_bytes(16, "little")
        power = dot(power, hash_key)
    return found


def defined(spec: KeySpec) -> list[int]:
    """Return a record by the definitions."""
    words = [0] * RECORD

    def write(place: int, values: list[int] | bytes) -> None:
        found = values if isinstance(values, list) else np.frombuffer(values, np.uint32).tolist()
        words[place : place + len(found)] = found

    words[0] = {"aes-128-gcm": 1, "aes-256-gcm": 2, "chacha20-poly1305": 3}[spec.suite.value]
    write(2, spec.iv)
    if spec.suite is Suite.CHACHA20_POLY1305:
        write(40, spec.key)
        write(48, spec.header_key)
        return words
    words[1] = {16: 10, 32: 14}[len(spec.key)]
    write(8, powers(spec.key))
    write(64, planes(spec.key))
    write(544, planes(spec.header_key))
    return words


@pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.value)
@given(data=st.data())
def test_a_record_is_what_the_definitions_say(suite: Suite, data: st.DataObject) -> None:
    size = suite.key_length
    key, iv, head = (data.draw(st.binary(min_size=n, max_size=n)) for n in (size, 12, size))
    spec = KeySpec(suite, key, iv, head)
    assert record(spec).tolist() == defined(spec)


def test_what_keys_were_expanded_in_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[KeyTable] = []

    class Seen(KeyTable):
        def __init__(self) -> None:
            super().__init__()
            tables.append(self)

    monkeypatch.setattr(keys, "KeyTable", Seen)
    assert record(KeySpec(Suite.AES_256_GCM, bytes([7]) * 32, bytes(12), bytes([9]) * 32))[64:].any()
    assert len(tables) == 1
    assert not tables[0].records.any()
