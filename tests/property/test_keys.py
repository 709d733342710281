"""The key ratchet against the HKDF of another library."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import KeySpec, Suite
from vantun.session.keys import Ratchet, expand_label

SECRETS = st.binary(min_size=32, max_size=32)


def derive(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(SHA256(), length, info).derive(secret)


def keys(secret: bytes, first: bytes, suite: Suite) -> KeySpec:
    length = suite.key_length
    return KeySpec(
        suite, derive(secret, "quic key", length), derive(secret, "quic iv", 12), derive(first, "quic hp", length)
    )


@given(SECRETS, st.sampled_from(Suite), st.integers(0, 5))
def test_every_phase_follows_from_the_one_before(first: bytes, suite: Suite, steps: int) -> None:
    ratchet = Ratchet(first, suite)
    secret = first
    for _ in range(steps):
        following = ratchet.advance()
        secret = derive(secret, "quic ku", 32)
        assert following == ratchet.following
    assert ratchet.current == keys(secret, first, suite)
    assert ratchet.following == keys(derive(secret, "quic ku", 32), first, suite)


@given(SECRETS, st.sampled_from(["quic key", "quic ku", "x"]), st.integers(1, 200))
def test_expand_label(secret: bytes, label: str, length: int) -> None:
    assert expand_label(secret, label.encode(), length) == derive(secret, label, length)


@given(st.binary(max_size=80).filter(lambda secret: len(secret) != 32))
def test_a_secret_of_another_length_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Ratchet(secret, Suite.AES_128_GCM)
