"""Where received messages were sent to, from their control data (IP_ORIGDSTADDR, IPV6_ORIGDSTADDR)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.libc import CONTROLLEN

_IP, _IPV6 = 0, 41
_IP_ORIGDSTADDR, _IPV6_ORIGDSTADDR = 20, 74
_HEAD = 16
"""``sizeof(struct cmsghdr)``."""


@kernel
def _word(row: NDArray[np.uint8], at: int) -> int:
    low = np.int64(row[at]) | np.int64(row[at + 1]) << 8
    return int(low | np.int64(row[at + 2]) << 16 | np.int64(row[at + 3]) << 24)


@kernel
def original_destinations(headers: NDArray[np.int64], controls: NDArray[np.uint8], rows: NDArray[np.uint8]) -> None:
    """Write the original destination of each message to ``rows`` [messages, 28] as a socket address; zeros = unknown.

    ``headers`` [messages, 8] and ``controls`` [messages, bytes] are those of ``recvmmsg``.
    """
    width = controls.shape[1]
    for message in range(len(rows)):
        rows[message, :] = 0
        used = min(headers[message, CONTROLLEN], width)
        at = 0
        while at + _HEAD <= used:
            length = _word(controls[message], at)
            level, kind = _word(controls[message], at + 8), _word(controls[message], at + 12)
            if length < _HEAD or at + length > used:
                break
            size = length - _HEAD
            inet = level == _IP and kind == _IP_ORIGDSTADDR and size >= 8
            inet6 = level == _IPV6 and kind == _IPV6_ORIGDSTADDR and size >= 28
            if inet or inet6:
                for i in range(8 if inet else 28):
                    rows[message, i] = controls[message, at + _HEAD + i]
                break
            at += length + 7 & ~7
