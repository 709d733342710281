"""The memory that a client shares with the service: submission slots, and who may write which word of them.

::

    | page of the client: a line per slot: ASKED ROWS PARITIES | page of the service: a line per slot: ANSWERED |
    | slot 0: columns | source | target |  slot 1 ... |

A client writes columns and source, then the number of its submission into ASKED; the service writes results, then the
same number into ANSWERED. The memory holds no offset and no address: both sides compute where a row lies from the
lengths, and the service does so from a copy of them that it has bounded (:mod:`accel.service.trays`). A client that
lies gets no further than its own memory.

The service makes the file and seals its size, so that nobody dies of a page that is gone.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.engine import SHORTEST_OPEN, SHORTEST_SEAL, TAG_LENGTH, Operation
from accel.service.columns import Bytes, Own, Slot

SLOTS = 4
"""Submissions of a client on their way at a time."""
MOST_ROWS = 8192
"""Packets, or spans, of a submission."""
MOST_PARITIES = 32768
"""Parity units of a submission."""
DATA = 4 << 20
"""Bytes of a slot's source, and of its target."""
ASKED, HOW_MANY, PARITIES = range(3)
"""Words of a client's line."""
ANSWERED = 0
"""Word of a service's line."""

_PAGE = 4096
_LINE = 8
_NUMBER, _WORDS = 0, 8 * MOST_ROWS
_STATUS = _WORDS + 16 * MOST_ROWS
_ROW = _STATUS + MOST_ROWS
_LOST = _ROW + MOST_PARITIES
_COLUMNS = _LOST + MOST_PARITIES
_SLOT = _COLUMNS + 2 * DATA
SIZE = 2 * _PAGE + SLOTS * _SLOT
"""Bytes of the memory."""


class UnbelievableError(Exception):
    """A submission that no honest client makes; the message says what of it."""


class Ring(NamedTuple):
    """Views of the whole memory.

    Attributes
    ----------
    client, service
        [int64 (SLOTS, 8)] the lines of each.
    """

    client: NDArray[np.int64]
    service: NDArray[np.int64]
    slots: tuple[Slot, ...]


def ring_of(memory: Bytes) -> Ring:
    """Return the views of a memory of SIZE bytes."""
    lines = memory[: 2 * _PAGE].view(np.int64).reshape(2, -1, _LINE)
    return Ring(lines[0, :SLOTS], lines[1, :SLOTS], tuple(_slot_of(memory[place_of(i) :]) for i in range(SLOTS)))


def place_of(slot: int) -> int:
    """Return where a slot begins, bytes."""
    return 2 * _PAGE + slot * _SLOT


def source_of(slot: int) -> int:
    """Return where the source of a slot begins, bytes; its target is DATA bytes behind."""
    return place_of(slot) + _COLUMNS


def _slot_of(memory: Bytes) -> Slot:
    return Slot(
        memory[_NUMBER:_WORDS].view(np.int64),
        memory[_WORDS:_STATUS].view(np.int32).reshape(4, MOST_ROWS),
        memory[_STATUS:_ROW].view(np.int8),
        memory[_ROW:_LOST],
        memory[_LOST:_COLUMNS],
        memory[_COLUMNS:][:DATA],
        memory[_COLUMNS + DATA :][:DATA],
    )


def own_columns() -> Own:
    """Return room for the columns of a submission; pages that are never written cost nothing."""
    parities = np.zeros((2, MOST_PARITIES), np.uint8)
    return Own(np.zeros(MOST_ROWS, np.int64), np.zeros((4, MOST_ROWS), np.int32), parities[0], parities[1])


_LOCK = threading.Lock()


def fence() -> None:
    """Order what was written before against what is written behind.

    No store of a thread passes a lock that it takes and gives back twice.
    """
    with _LOCK:
        pass
    with _LOCK:
        pass


def growth(operation: Operation) -> int:
    """Return by how many bytes a packet gets longer."""
    return TAG_LENGTH if operation is Operation.AEAD_SEAL else -TAG_LENGTH


def shortest(operation: Operation) -> int:
    """Return the bytes of the shortest packet that can be done."""
    return SHORTEST_SEAL if operation is Operation.AEAD_SEAL else SHORTEST_OPEN
