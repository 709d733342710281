"""How large the batches are that one worker submits to an engine, at most: small enough for the processor's caches."""

from __future__ import annotations

from accel.engine import Operation

SEALED = 512
"""Packets: the send arena stays in L2."""
OPENED = 1024
"""Packets."""
ENCODED = 256
"""Spans."""
UNITS = 8192
"""Data units, and parity units, of all spans of a batch."""


def most_rows(operation: Operation, k: int = 0) -> int:
    """Return the packets, or the spans of ``k`` data units, of the largest batch."""
    from vantun.session.tables import DECODES  # whoever configures a worker needs no tables

    most = {
        Operation.AEAD_SEAL: SEALED,
        Operation.AEAD_OPEN: OPENED,
        Operation.FEC_ENCODE: ENCODED,
        Operation.FEC_DECODE: DECODES,
    }[operation]
    return min(most, UNITS // k) if k else most
