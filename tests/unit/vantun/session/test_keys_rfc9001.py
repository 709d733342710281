"""Key derivation against RFC 9001, appendix A."""

from __future__ import annotations

from accel.engine import Suite
from vantun.session.keys import Ratchet, expand_label


def test_client_initial_keys_of_a_1() -> None:
    secret = bytes.fromhex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
    keys = Ratchet(secret, Suite.AES_128_GCM).current
    assert keys.key.hex() == "1f369613dd76d5467730efcbe3b1a22d"
    assert keys.iv.hex() == "fa044b2f42a3fd3b46fb255c"
    assert keys.header_key.hex() == "9f50449e04a0e810283a1e9933adedd2"


def test_chacha20_keys_and_the_next_secret_of_a_5() -> None:
    secret = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
    ratchet = Ratchet(secret, Suite.CHACHA20_POLY1305)
    assert ratchet.current.key.hex() == "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"
    assert ratchet.current.iv.hex() == "e0459b3474bdd0e44a41c144"
    assert ratchet.current.header_key.hex() == "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4"
    following = expand_label(secret, b"quic ku", 32)
    assert following.hex() == "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9"
    assert ratchet.following.header_key == ratchet.current.header_key
