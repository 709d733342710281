from __future__ import annotations

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.engine import Engine, KeySpec, Operation, Suite
from accel.fec.simd import SimdFec
from accel.reference.engine import ReferenceEngine

KEYS = KeySpec(Suite.AES_128_GCM, b"secret-of-16-bit", b"iv-of-12-byt", b"header-key-of-16")


@pytest.mark.parametrize(
    ("key", "iv", "header_key"),
    [(b"k" * 32, b"i" * 12, b"h" * 16), (b"k" * 16, b"i" * 8, b"h" * 16), (b"k" * 16, b"i" * 12, b"")],
)
def test_keys_have_the_lengths_of_their_suite(key: bytes, iv: bytes, header_key: bytes) -> None:
    with pytest.raises(ValueError, match=r"aes-128-gcm has keys of \(16, 12, 16\) bytes"):
        KeySpec(Suite.AES_128_GCM, key, iv, header_key)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(KEYS)
    assert "header-key" not in repr(KEYS)


@pytest.mark.parametrize("engine", [CryptographyAead(), ReferenceEngine()], ids=lambda engine: engine.name)
def test_slots_begin_at_0(engine: Engine) -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        engine.open(Operation.AEAD_SEAL).install_key(-1, KEYS)


@pytest.mark.parametrize("engine", [SimdFec(), ReferenceEngine()], ids=lambda engine: engine.name)
def test_parity_takes_no_keys(engine: Engine) -> None:
    session = engine.open(Operation.FEC_ENCODE)
    session.remove_key(0)
    with pytest.raises(TypeError, match=r"fec\.encode takes no keys"):
        session.install_key(0, KEYS)


@pytest.mark.parametrize(
    ("engine", "operation"), [(SimdFec(), Operation.AEAD_SEAL), (CryptographyAead(), Operation.FEC_DECODE)]
)
def test_an_engine_opens_what_it_can_do(engine: Engine, operation: Operation) -> None:
    with pytest.raises(ValueError, match=f"cannot do {operation.value}"):
        engine.open(operation)
