"""What the AEAD kernels and their engine agree on: instruction sets, the key record, the context. Constants only.

A key record is one slot of the key table, aligned to 64 bytes::

    0     i32   1 + place of the suite in accel.engine.Suite; 0 = no key
    16    IV (12 bytes), zeros
    64    AES round keys (15 x 16), or the ChaCha20 key (32)
    320   the same of the header-protection key
    576   POWERS powers of the GHASH key H, the highest first, then zeros for whole vectors to be read

Powers are those of H·x in the bit order of POLYVAL (RFC 8452, appendix A): byte-reversed blocks then multiply without
bit reversal, and the product needs no shift.
"""

from __future__ import annotations

ISAS: dict[str, frozenset[str]] = {
    "avx512": frozenset(
        [
            "aes",
            "pclmulqdq",
            "vaes",
            "vpclmulqdq",
            "avx2",
            "bmi2",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512ifma",
        ]
    ),
    "vaes": frozenset(["aes", "pclmulqdq", "vaes", "vpclmulqdq", "avx2", "bmi2"]),
    "avx2": frozenset(["aes", "pclmulqdq", "avx2", "bmi2"]),
    "aes": frozenset(["aes", "pclmulqdq", "sse4_1", "ssse3"]),
    "plain": frozenset(),
}
"""Flags (as in /proc/cpuinfo) that each variant of the kernels needs, best first."""

KEY, HEADER_KEY, IV, POWERS_AT = 64, 320, 16, 576
"""Byte offsets in a key record."""
POWERS = 40
"""Powers of H in a key record; a kernel reduces once for so many blocks at most."""
POWERS_END = POWERS_AT + 16 * POWERS
RECORD = 1280
"""Bytes of a key record."""
ROUNDS = {16: 10, 32: 14}
"""Rounds of AES by bytes of the key."""

CONTEXT_WORDS = 4
"""int64 words of a kernel's context: address of the job's block (accel.job_block), of the key table, slots in it, 0."""
INSTALL_WORDS = 2
"""int64 words of the context of ``install``: address of a record that has its keys and its IV, suite + 1."""
RAW_WORDS = 6
"""int64 words of the context of a raw function: addresses of record, of nonce (12 bytes, 4 zeros) and first block that
is authenticated, of source; bytes; address of target; bits of associated data. It is for tests with vectors whose
associated data is no header. 16 bytes before source and target can be read."""
