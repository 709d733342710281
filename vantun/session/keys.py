"""Packet-protection keys from a traffic secret, and the ratchet between key phases (RFC 9001, sections 5.1 and 6.1)."""

from __future__ import annotations

import hashlib
import hmac

from accel.engine import KeySpec, Suite

SECRET_LENGTH = 32


def expand_label(secret: bytes, label: bytes, length: int) -> bytes:
    """Return HKDF-Expand-Label(secret, label, "", length) with SHA-256 (RFC 8446, section 7.1)."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0"
    output = b""
    block = b""
    counter = 1
    while len(output) < length:
        block = hmac.digest(secret, block + info + bytes([counter]), hashlib.sha256)
        output += block
        counter += 1
    return output[:length]


class Ratchet:
    """The chain of secrets of one direction of a lane.

    ``current`` and ``following`` are the keys of this key phase and the next; the header-protection key never changes.
    """

    def __init__(self, secret: bytes, suite: Suite, updates: int = 0) -> None:
        """Begin with ``secret``, ``updates`` steps further on."""
        if len(secret) != SECRET_LENGTH:
            raise ValueError(f"a traffic secret has {SECRET_LENGTH} bytes, this one has {len(secret)}")
        self._suite = suite
        self._header_key = expand_label(secret, b"quic hp", suite.key_length)
        for _ in range(updates):
            secret = expand_label(secret, b"quic ku", SECRET_LENGTH)
        self._secret = expand_label(secret, b"quic ku", SECRET_LENGTH)
        self.current = self._spec(secret)
        self.following = self._spec(self._secret)

    def _spec(self, secret: bytes) -> KeySpec:
        return KeySpec(
            suite=self._suite,
            key=expand_label(secret, b"quic key", self._suite.key_length),
            iv=expand_label(secret, b"quic iv", 12),
            header_key=self._header_key,
        )

    def advance(self) -> KeySpec:
        """Step to the next key phase; return the keys of the one after it, and forget the oldest."""
        self._secret = expand_label(self._secret, b"quic ku", SECRET_LENGTH)
        self.current = self.following
        self.following = self._spec(self._secret)
        return self.following
