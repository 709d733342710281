"""The header of a data packet: a QUIC short header with constant lengths (RFC 9000, section 17.3.1).

| byte | field |
|---|---|
| 0 | ``0 1 S R R K P P``: fixed bit, spin and reserved bits 0, key phase, packet number length 4 (``11``) |
| 1-8 | destination connection id |
| 9-12 | packet number, low 32 bits, big-endian |

Header protection hides the low five bits of byte 0 and the packet number (RFC 9001, section 5.4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.wire.integers import uint64

HEADER_LENGTH = 13
"""Bytes of the header; constant, and all of it is the AAD."""
TAG_LENGTH = 16
"""Bytes of the AEAD tag at the end of a packet."""
LONG_HEADER = 0x80
FIRST_BYTE = 0x43
"""First byte before protection, key phase 0."""
KEY_PHASE = 0x04


@kernel
def put_header(memory: NDArray[np.uint8], position: int, cid: int, phase: int, number: int) -> None:
    """Write the header at ``position``; ``cid`` holds the connection id as a little-endian uint64."""
    memory[position] = np.uint8(FIRST_BYTE | (KEY_PHASE if phase else 0))
    for i in range(8):
        memory[position + 1 + i] = np.uint8((uint64(cid) >> uint64(8 * i)) & uint64(0xFF))
    for i in range(4):
        memory[position + 9 + i] = np.uint8((number >> (8 * (3 - i))) & 0xFF)


@kernel
def get_cid(memory: NDArray[np.uint8], position: int) -> int:
    """Return the destination connection id of the packet at ``position`` as a little-endian uint64."""
    cid = uint64(0)
    for i in range(8):
        cid |= uint64(memory[position + 1 + i]) << uint64(8 * i)
    return cid


def cid_key(cid: bytes) -> uint64:
    """Return 8 connection id bytes in the form that :func:`get_cid` returns."""
    return uint64(int.from_bytes(cid, "little"))
