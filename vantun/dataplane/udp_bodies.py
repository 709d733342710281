"""What the kernels of UDP flows share: bodies (``address | payload``) on their way, and the reasons of drops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DROPS = (
    "malformed",
    "fragment",
    "foreign",
    "stranger",
    "refused",
    "no_room",
    "sources_full",
    "asked_full",
    "unsent",
    "no_session",
    "no_program",
)
"""Reasons: no address, or one no packet can have | FRAG of SOCKS5 is not 0 | not from the program of the relay | an
answer from an address that was never spoken to | the destination is not allowed, or has no address | the tunnel's
queue is full | too many local sources | too many destinations wait for their answer | the kernel did not take it | no
session is up | an answer before the program has sent anything."""
(
    MALFORMED,
    FRAGMENT,
    FOREIGN,
    STRANGER,
    NOT_ALLOWED,
    NO_ROOM,
    SOURCES_FULL,
    ASKED_FULL,
    UNSENT,
    NO_SESSION,
    NO_PROGRAM,
) = range(len(DROPS))


class Bodies(NamedTuple):
    """Bodies on their way into the tunnel."""

    memory: NDArray[np.uint8]
    """[bytes] where bodies are built that do not lie in the received batch as they are."""
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    flow: NDArray[np.int64]
    """Flow index of each."""
