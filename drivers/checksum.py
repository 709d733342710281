"""Checksums that notice accidents, not attackers. hashlib would load OpenSSL: 3.6 MB in every process."""

from __future__ import annotations

import zlib


def checksum(data: bytes) -> str:
    """Return 16 hex digits that another content has with a probability of about 2^-48 (CRC-32 and Adler-32)."""
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"
