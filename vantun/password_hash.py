"""Hashes of passwords, so that a configuration file need not hold the passwords themselves.

Two spellings of scrypt (RFC 7914) are read: that of passlib, ``$scrypt$ln=15,r=8,p=1$SALT$KEY`` (base64 without
padding), which :func:`make_hash` writes, and that of Werkzeug, ``scrypt:32768:8:1$SALT$KEY`` (text salt, hex key).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

LN, R, P = 15, 8, 1
"""Of new hashes: 2^15 rounds of 1 KiB blocks, 32 MiB and 0.1 to 0.2 s of one core for each password that is tried."""
MAX_MEMORY = 128 << 20
"""Bytes that checking one password may take."""
_SALT_LENGTH = 16
_KEY_LENGTH = 32
_PREFIXES = ("$scrypt$", "scrypt:")
_PASSLIB = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
_WERKZEUG = re.compile(r"scrypt:(\d{1,8}):(\d{1,2}):(\d{1,2})\$([^$]+)\$([0-9a-f]+)")


@dataclass(frozen=True)
class ScryptHash:
    """A salted hash; ``n`` is a power of two."""

    n: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def cost(self) -> tuple[int, int, int]:
        """What one check costs: hashes of one cost take the same time."""
        return self.n, self.r, self.p

    def verify(self, password: bytes) -> bool:
        """Tell whether this is the hash of ``password``; takes 0.1 s and more, and lets other threads run."""
        found = hashlib.scrypt(
            password, salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=2 * MAX_MEMORY, dklen=len(self.key)
        )
        return hmac.compare_digest(found, self.key)


def parse_hash(text: str) -> ScryptHash | None:
    """Return the hash that stands in a configuration, None for a plain password.

    Raises
    ------
    ValueError
        When it begins as a hash and is none that can be used.
    """
    if not text.startswith(_PREFIXES):
        return None
    if (match := _PASSLIB.fullmatch(text)) is not None:
        n, salt, key = 1 << int(match[1]), _base64(match[4]), _base64(match[5])
    elif (match := _WERKZEUG.fullmatch(text)) is not None:
        n, salt, key = int(match[1]), match[4].encode(), bytes.fromhex(match[5]) if len(match[5]) % 2 == 0 else b""
    else:
        raise ValueError("begins as an scrypt hash and is none; `vantun user hash` prints one")
    r, p = int(match[2]), int(match[3])
    if n < 1 << 10 or n & (n - 1) or not r or not p or 128 * n * r * p > MAX_MEMORY or not 16 <= len(key) <= 64:
        raise ValueError(
            "this hash cannot be used: n is a power of two from 1024, 128 * n * r * p at most 128 MiB, and the key has "
            "16 to 64 bytes; `vantun user hash` prints one"
        )
    return ScryptHash(n, r, p, salt, key)


def make_hash(password: str, ln: int = LN) -> str:
    """Return the text of a new hash with 2^ln rounds, for ``auth.userpass``."""
    salt = secrets.token_bytes(_SALT_LENGTH)
    key = hashlib.scrypt(password.encode(), salt=salt, n=1 << ln, r=R, p=P, maxmem=2 * MAX_MEMORY, dklen=_KEY_LENGTH)
    return f"$scrypt$ln={ln},r={R},p={P}${_text(salt)}${_text(key)}"


def dummy_hash(like: tuple[int, int, int]) -> ScryptHash:
    """Return a hash of nobody's password, of the given cost."""
    return ScryptHash(*like, secrets.token_bytes(_SALT_LENGTH), secrets.token_bytes(_KEY_LENGTH))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""
