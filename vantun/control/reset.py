"""Stateless resets: how a server that was restarted tells a client that its lane is no more.

As in RFC 9000, section 10.3: a datagram that looks like a data packet to everybody but the one who knows its last 16
bytes. They follow from the connection id under a key that outlives the process, and the client was told them when the
lane began (docs/protocol.md, "Reset").
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from vantun.lanes import CID_LENGTH

TOKEN_LENGTH = 16
SHORTEST = 21
"""Bytes of the shortest reset: one that is shorter could be told from a packet by its length (RFC 9000)."""
LONGEST = 43
PER_SECOND = 200.0
"""Resets a second at most: clients repeat their packets, so each hears of it in the end."""


class Resets:
    """Tokens, and answers to packets of lanes that are gone. Sans-IO; times in seconds."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._allowance = PER_SECOND
        self._at = float("-inf")

    @classmethod
    def from_private_key(cls, path: Path) -> Resets:
        """Return those of the server whose TLS key is in ``path``: they outlive restarts, and cost no file."""
        try:
            secret = path.read_bytes()
        except OSError:  # who loads the key says so; a key of its own serves this process
            secret = os.urandom(32)
        return cls(hmac.digest(b"vantun reset key 1", secret, hashlib.sha256))  # HKDF-Extract

    def token(self, cid: bytes) -> bytes:
        """Return the token of a connection id."""
        return hmac.digest(self._key, b"vantun reset" + cid, hashlib.sha256)[:TOKEN_LENGTH]

    def answer(self, data: bytes, now: float) -> bytes | None:
        """Return a reset for a short-header packet, shorter than it; None if it is too short, or there were enough."""
        if len(data) <= SHORTEST:
            return None
        self._allowance = min(PER_SECOND, self._allowance + (now - self._at) * PER_SECOND)
        self._at = now
        if self._allowance < 1.0:
            return None
        self._allowance -= 1.0
        noise = bytearray(os.urandom(min(len(data) - 1, LONGEST) - TOKEN_LENGTH))
        noise[0] = 0x40 | noise[0] & 0x3F
        return bytes(noise) + self.token(data[1 : 1 + CID_LENGTH])


def is_reset(data: bytes, token: bytes) -> bool:
    """Return whether a datagram is the reset with ``token`` (empty = none is known)."""
    if len(token) != TOKEN_LENGTH or len(data) < SHORTEST or data[0] & 0x80:
        return False
    return hmac.compare_digest(data[-TOKEN_LENGTH:], token)
