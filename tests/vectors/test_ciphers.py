"""The reference's ciphers against published vectors."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from accel.engine import Suite
from accel.reference import chacha20_poly1305, gcm
from accel.reference.aead import aead_encrypt, header_protection_mask, nonce_of
from accel.reference.aes import encrypt_block, expand_key

FOLDER = Path(__file__).parent


def answers(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))["answers"]
    return found


def octets(answer: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(answer[name]) for name in names)


@pytest.mark.parametrize("answer", answers("aes.json"), ids=lambda answer: answer["section"])
def test_aes(answer: dict[str, Any]) -> None:
    key, plaintext, ciphertext = octets(answer, "key", "plaintext", "ciphertext")
    assert encrypt_block(expand_key(key), plaintext) == ciphertext


AEADS = [(gcm, answer) for answer in answers("gcm.json")]
AEADS += [(chacha20_poly1305, answer) for answer in answers("chacha20_poly1305.json")]


@pytest.mark.parametrize(("aead", "answer"), AEADS)
def test_aead(aead: ModuleType, answer: dict[str, Any]) -> None:
    key, nonce, aad, plaintext = octets(answer, "key", "iv", "aad", "plaintext")
    sealed = b"".join(octets(answer, "ciphertext", "tag"))
    assert aead.seal(key, nonce, aad, plaintext) == sealed
    assert aead.open_(key, nonce, aad, sealed) == plaintext
    assert aead.open_(key, nonce, aad, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None


@pytest.mark.parametrize("answer", answers("rfc9001.json"), ids=lambda answer: answer["section"])
def test_rfc9001(answer: dict[str, Any]) -> None:
    key, iv, hp, header, payload = octets(answer, "key", "iv", "hp", "header", "payload")
    sample, mask, protected_header, tag = octets(answer, "sample", "mask", "protected_header", "tag")
    suite, length = Suite(answer["suite"]), (header[0] & 3) + 1
    payload = payload.ljust(answer["padded_to"], b"\0")
    sealed = aead_encrypt(suite)(key, nonce_of(iv, answer["number"]), header, payload)
    assert sealed[-16:] == tag
    assert sealed[4 - length : 20 - length] == sample
    assert header_protection_mask(suite, hp, sample) == mask
    hidden = 0x0F if header[0] & 0x80 else 0x1F
    number = bytes(a ^ b for a, b in zip(header[-length:], mask[1:], strict=False))
    assert bytes([header[0] ^ (mask[0] & hidden)]) + header[1:-length] + number == protected_header
