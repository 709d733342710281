"""Intel IPsec-MB: AES-GCM of one packet per call, by the functions that version 1 exports for each instruction set.

The portable way, function pointers inside the manager's struct, would need their offsets for every version.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from drivers.errors import Unavailable
from drivers.library import Library

IPSEC_MB = Library(
    "Intel IPsec-MB", ["libIPSec_MB.so.1", "libIPSec_MB.so.2"], "install it: apt-get install libipsec-mb1"
)

KEY_BYTES, CONTEXT_BYTES, ALIGNMENT = 4096, 512, 64
"""Room for ``struct gcm_key_data`` (1,008 bytes in 1.3) and ``struct gcm_context_data`` (88), and their alignment."""

_AES = frozenset({"aes", "pclmulqdq"})
_AVX512 = _AES | {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl", "bmi2"}
ISAS: dict[str, frozenset[str]] = {
    "vaes_avx512": _AVX512 | {"vaes", "vpclmulqdq", "gfni"},
    "avx512": _AVX512,
    "avx_gen4": _AES | {"avx2", "bmi2"},
    "avx_gen2": _AES | {"avx"},
    "sse": _AES | {"sse4_2"},
}
"""CPU flags that each variant needs, best first."""


@dataclass(frozen=True)
class GcmFunctions:
    """Addresses of functions for one key size.

    Attributes
    ----------
    prepare
        ``void (const void *key, struct gcm_key_data *)``.
    encrypt, decrypt
        ``void (const struct gcm_key_data *, struct gcm_context_data *, uint8_t *out, const uint8_t *in, uint64_t len,
        const uint8_t *iv, const uint8_t *aad, uint64_t aad_len, uint8_t *tag, uint64_t tag_len)``; both write the tag.
    """

    prepare: int
    encrypt: int
    decrypt: int


def choose_isa(flags: Collection[str]) -> str:
    """Return the best variant for a CPU.

    Raises
    ------
    UnavailableError
        When the CPU has none of them.
    """
    for isa, needs in ISAS.items():
        if needs <= set(flags):
            return isa
    reason = "this CPU lacks what Intel IPsec-MB needs (AES-NI and PCLMULQDQ)"
    raise Unavailable(reason, "nothing to do: other engines serve").error()


def gcm_functions(bits: int, isa: str, library: Library = IPSEC_MB) -> GcmFunctions:
    """Return the functions for keys of so many bits.

    Raises
    ------
    UnavailableError
        When the library is not installed, or does not export them.
    """
    return GcmFunctions(*(library.address(f"aes_gcm_{what}_{bits}_{isa}") for what in ("pre", "enc", "dec")))
