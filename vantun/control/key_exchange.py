"""Lane keys: X25519 and ML-KEM-768 together, so that breaking one of them is not enough (docs/protocol.md).

Both secrets are mixed as ``ML-KEM || X25519`` (the order of draft-ietf-tls-ecdhe-mlkem for this pair) into HKDF-SHA256
(RFC 5869), whose info binds everything that identifies the lane.

Private keys are given up with their only use and secrets are kept nowhere here, so nothing holds them longer than a
lane's set-up takes. Overwriting them is beyond a Python program: `bytes` cannot be changed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from accel.engine import Suite
from vantun.errors import ProtocolError

SALT = b"vantun lane keys 1"
TO_SERVER, TO_CLIENT = b"\x00", b"\x01"


@dataclass(frozen=True)
class LaneBinding:
    """What a lane's secrets are bound to."""

    session: int
    path: int
    worker: int
    suite: Suite
    client_cid: bytes
    server_cid: bytes

    def info(self, direction: bytes) -> bytes:
        """Return the HKDF info of one direction."""
        numbers = b"".join(value.to_bytes(8, "big") for value in (self.session, self.path, self.worker))
        name = self.suite.value.encode()
        suite = bytes([len(name)]) + name
        return b"".join((b"vantun lane", numbers, direction, suite, self.client_cid, self.server_cid))


@dataclass(frozen=True)
class LaneSecrets:
    """Traffic secrets, 32 bytes each."""

    to_server: bytes = field(repr=False)
    to_client: bytes = field(repr=False)


def lane_secrets(ml_kem: bytes, x25519: bytes, binding: LaneBinding) -> LaneSecrets:
    """Derive both traffic secrets from the two shared secrets."""
    key = hmac.digest(SALT, ml_kem + x25519, hashlib.sha256)
    # HKDF-Expand of one block: T(1) = HMAC(PRK, info || 0x01)
    return LaneSecrets(
        *(hmac.digest(key, binding.info(direction) + b"\x01", hashlib.sha256) for direction in (TO_SERVER, TO_CLIENT))
    )


class ClientExchange:
    """The client's half: its public keys go into Hello, the server's answer ends it. For one use."""

    def __init__(self) -> None:
        self._x25519 = X25519PrivateKey.generate()
        self._ml_kem = MLKEM768PrivateKey.generate()
        self.x25519 = self._x25519.public_key().public_bytes_raw()
        self.ml_kem = self._ml_kem.public_key().public_bytes_raw()

    def finish(self, x25519: bytes, ciphertext: bytes, *bindings: LaneBinding) -> tuple[LaneSecrets, ...]:
        """Return the secrets of every lane of the path, once; raises ProtocolError for keys that are none."""
        try:
            shared = self._x25519.exchange(X25519PublicKey.from_public_bytes(x25519))
            secret = self._ml_kem.decapsulate(ciphertext)
            return tuple(lane_secrets(secret, shared, binding) for binding in bindings)
        except ValueError as error:
            raise ProtocolError(f"the server's key exchange cannot be used: {error}") from None
        finally:
            del self._x25519, self._ml_kem


@dataclass(frozen=True)
class ServerAnswer:
    """The server's half: what goes into Welcome, and the shared secrets."""

    x25519: bytes
    ciphertext: bytes
    _ml_kem_secret: bytes = field(repr=False)
    _x25519_secret: bytes = field(repr=False)

    def secrets(self, binding: LaneBinding) -> LaneSecrets:
        """Return the secrets of the lane."""
        return lane_secrets(self._ml_kem_secret, self._x25519_secret, binding)


def answer(x25519: bytes, ml_kem: bytes) -> ServerAnswer:
    """Answer a client's public keys; raises ProtocolError for keys that are none (all-zero results included)."""
    try:
        own = X25519PrivateKey.generate()
        shared = own.exchange(X25519PublicKey.from_public_bytes(x25519))
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(ml_kem).encapsulate()
    except ValueError as error:
        raise ProtocolError(f"the client's key exchange cannot be used: {error}") from None
    return ServerAnswer(own.public_key().public_bytes_raw(), ciphertext, secret, shared)
