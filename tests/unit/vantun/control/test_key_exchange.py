from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from accel.engine import Suite
from vantun.control.key_exchange import SALT, ClientExchange, LaneBinding, answer, lane_secrets
from vantun.errors import ProtocolError

BINDING = LaneBinding(7, 1, 0, Suite.AES_128_GCM, b"clientid", b"serverid")


def test_both_ends_agree_and_directions_differ() -> None:
    client = ClientExchange()
    reply = answer(client.x25519, client.ml_kem)
    (near,) = client.finish(reply.x25519, reply.ciphertext, BINDING)
    assert near == reply.secrets(BINDING)
    assert near.to_server != near.to_client


@pytest.mark.parametrize(
    "other",
    [
        replace(BINDING, session=8),
        replace(BINDING, path=2),
        replace(BINDING, worker=1),
        replace(BINDING, suite=Suite.AES_256_GCM),
        replace(BINDING, client_cid=b"clientiD"),
        replace(BINDING, server_cid=b"serveriD"),
    ],
)
def test_everything_that_identifies_the_lane_is_bound(other: LaneBinding) -> None:
    first, second = lane_secrets(bytes(32), bytes(32), BINDING), lane_secrets(bytes(32), bytes(32), other)
    assert {first.to_server, first.to_client}.isdisjoint({second.to_server, second.to_client})


def test_it_is_hkdf_as_the_protocol_page_says() -> None:
    # an independent HKDF (that of the cryptography wheel) over info bytes that are written out by hand
    info = (
        b"vantun lane"
        + bytes(7)
        + b"\x07"
        + bytes(7)
        + b"\x01"
        + bytes(8)
        + b"\x01"
        + b"\x0baes-128-gcm"
        + b"clientidserverid"
    )
    derived = HKDF(hashes.SHA256(), 32, SALT, info).derive(b"M" * 32 + b"X" * 32)
    assert lane_secrets(b"M" * 32, b"X" * 32, BINDING).to_client == derived


def test_both_secrets_count() -> None:
    known = lane_secrets(bytes(32), bytes(32), BINDING)
    assert lane_secrets(b"\x01" + bytes(31), bytes(32), BINDING) != known
    assert lane_secrets(bytes(32), b"\x01" + bytes(31), BINDING) != known


def test_keys_that_are_none() -> None:
    client = ClientExchange()
    with pytest.raises(ProtocolError):
        answer(bytes(32), client.ml_kem)  # the all-zero point of X25519 (RFC 7748, section 6.1)
    with pytest.raises(ProtocolError):
        answer(client.x25519, b"\xff" * 1184)  # coefficients above the modulus (FIPS 203, section 7.2)
    with pytest.raises(ProtocolError):
        client.finish(bytes(32), answer(client.x25519, client.ml_kem).ciphertext, BINDING)
    client = ClientExchange()
    reply = answer(client.x25519, client.ml_kem)
    (wrong,) = client.finish(reply.x25519, bytes(1088), BINDING)
    assert wrong != reply.secrets(BINDING), "implicit rejection: other secrets, so nothing will open"


def test_secrets_are_not_shown_and_private_keys_serve_once() -> None:
    client = ClientExchange()
    reply = answer(client.x25519, client.ml_kem)
    (secrets,) = client.finish(reply.x25519, reply.ciphertext, BINDING)
    for secret in (secrets.to_server, secrets.to_client, reply._ml_kem_secret, reply._x25519_secret):
        assert repr(secret) not in f"{secrets!r}{reply!r}"
    with pytest.raises(AttributeError):
        client.finish(reply.x25519, reply.ciphertext, BINDING)
