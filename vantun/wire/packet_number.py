"""Truncated numbers: packet numbers and shard numbers travel as 4 bytes (RFC 9000, section 17.1 and appendix A.3)."""

from __future__ import annotations

from drivers.kernel import kernel

NUMBER_BITS = 32


@kernel
def expand_number(truncated: int, largest: int) -> int:
    """Return the full number nearest to ``largest + 1`` whose low 32 bits are ``truncated``.

    ``largest`` is the largest number seen so far, -1 for none (RFC 9000, appendix A.3).
    """
    window = 1 << NUMBER_BITS
    half = window >> 1
    expected = largest + 1
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - half and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + half and candidate >= window:
        return candidate - window
    return candidate
