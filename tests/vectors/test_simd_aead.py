"""The kernels of engine ``simd`` against published vectors: NIST GCM, RFC 8439, RFC 9001, Wycheproof; all variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from accel.engine import Suite
from accel.ir.aead_layout import ISAS
from accel.reference.aead import nonce_of
from drivers.cpu import read_cpu
from tests.vectors.raw_aead import RawAead

FOLDER = Path(__file__).parent
FLAGS = read_cpu().flags


@pytest.fixture(params=ISAS, scope="module")
def raw(request: pytest.FixtureRequest) -> RawAead:
    lacks = ISAS[request.param] - FLAGS
    if lacks:
        pytest.skip(f"this CPU lacks {', '.join(sorted(lacks))}")
    return RawAead(request.param)


def answers(name: str) -> list[Any]:
    found: list[Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))["answers"]
    return found


def octets(answer: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(answer[name]) for name in names)


AEADS = [
    (Suite.AES_128_GCM if len(answer["key"]) == 32 else Suite.AES_256_GCM, answer) for answer in answers("gcm.json")
]
AEADS += [(Suite.CHACHA20_POLY1305, answer) for answer in answers("chacha20_poly1305.json")]


@pytest.mark.parametrize(("suite", "answer"), AEADS)
def test_nist_and_rfc8439(raw: RawAead, suite: Suite, answer: dict[str, Any]) -> None:
    key, nonce, aad, plaintext = octets(answer, "key", "iv", "aad", "plaintext")
    sealed = b"".join(octets(answer, "ciphertext", "tag"))
    assert raw.seal(suite, key, nonce, aad, plaintext) == sealed
    assert raw.open(suite, key, nonce, aad, sealed) == plaintext
    assert raw.open(suite, key, nonce, aad, sealed[:-1] + bytes([sealed[-1] ^ 1])) is None


@pytest.mark.parametrize("answer", answers("rfc9001.json"), ids=lambda answer: answer["section"])
def test_rfc9001(raw: RawAead, answer: dict[str, Any]) -> None:
    key, iv, header, payload = octets(answer, "key", "iv", "header", "payload")
    sample, tag = octets(answer, "sample", "tag")
    payload = payload.ljust(answer["padded_to"], b"\0")
    sealed = raw.seal(Suite(answer["suite"]), key, nonce_of(iv, answer["number"]), header, payload)
    assert sealed[-16:] == tag
    assert sample in sealed


def test_wycheproof(raw: RawAead) -> None:
    """Every vector with a nonce of 96 bits and a tag of 128; the invalid ones are refused."""
    found = answers("wycheproof.json")
    assert len(found) > 300
    for suite, number, *hexed, result in found:
        key, nonce, aad, plain, crypted, tag = map(bytes.fromhex, hexed)
        where = f"{suite} {number}"
        if result == "valid":
            assert raw.seal(Suite(suite), key, nonce, aad, plain) == crypted + tag, where
            assert raw.open(Suite(suite), key, nonce, aad, crypted + tag) == plain, where
        else:
            assert raw.open(Suite(suite), key, nonce, aad, crypted + tag) is None, where


@pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.value)
def test_every_length(raw: RawAead, suite: Suite) -> None:
    """Lengths up to two groups of blocks, around multiples of it, and beyond a batch, against the wheel."""
    key, nonce = bytes(range(suite.key_length)), bytes(range(12))
    theirs = ChaCha20Poly1305(key) if suite is Suite.CHACHA20_POLY1305 else AESGCM(key)
    text = bytes(i * i * 7 & 0xFF for i in range(70_000))
    lengths = [*range(0, 300, 7), *range(500, 580), *range(1000, 1060), 1321, 1472, 4096, 8999, 24_512, 24_513, 70_000]
    for length in lengths if raw.isa != "plain" else lengths[::9]:
        sealed = theirs.encrypt(nonce, text[:length], b"thirteen byte")
        assert raw.seal(suite, key, nonce, b"thirteen byte", text[:length]) == sealed, length
        assert raw.open(suite, key, nonce, b"thirteen byte", sealed) == text[:length], length
