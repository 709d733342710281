"""Key slots of the AEAD engines that call a library: what the kernels need of them, as arrays that grow."""

from __future__ import annotations

import numpy as np

from accel.engine import NONCE_LENGTH, KeySpec
from accel.kernels.protection import Slots

_GROWTH = 64


class SlotTable:
    """IVs and presence of keys by slot, and int64 columns by name, 0 where a slot has no key."""

    def __init__(self, *names: str) -> None:
        self.slots = _make_slots(_GROWTH)
        self.columns = {name: np.zeros(_GROWTH, np.int64) for name in names}

    def put(self, slot: int, spec: KeySpec, **values: int) -> None:
        """Fill a slot; every column has a value."""
        self.grow(slot)
        for name, column in self.columns.items():
            column[slot] = values[name]
        self.slots.iv[slot] = np.frombuffer(spec.iv, np.uint8)
        self.slots.known[slot] = 1

    def grow(self, slot: int) -> None:
        """Have room for ``slot``."""
        if slot < 0:
            raise ValueError(f"key slots are numbered from 0, this one is {slot}")
        while slot >= len(self.slots.known):
            count = len(self.slots.known)
            old, self.slots = self.slots, _make_slots(2 * count)
            for before, after in zip(old, self.slots, strict=True):
                after[:count] = before
                before[:] = 0
            self.columns = {name: np.append(column, np.zeros_like(column)) for name, column in self.columns.items()}

    def drop(self, slot: int) -> dict[str, int] | None:
        """Empty a slot; return what its columns held, None when it had no key."""
        if not 0 <= slot < len(self.slots.known) or not self.slots.known[slot]:
            return None
        values = {name: int(column[slot]) for name, column in self.columns.items()}
        self.slots.iv[slot] = 0
        self.slots.known[slot] = 0
        for column in self.columns.values():
            column[slot] = 0
        return values

    def filled(self) -> list[int]:
        """Return the slots that have a key."""
        return [int(slot) for slot in np.flatnonzero(self.slots.known)]


def _make_slots(count: int) -> Slots:
    return Slots(iv=np.zeros((count, NONCE_LENGTH), np.uint8), known=np.zeros(count, np.uint8))
