"""Bounded memory of what strangers do: the latest entries of a table, and token buckets in one. Times in seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A table of at most ``most`` entries; the one that was longest not asked for makes room."""

    def __init__(self, most: int, make: Callable[[], V]) -> None:
        self._most = most
        self._make = make
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V:
        """Return the entry of ``key``, a new one if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = self._make()
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return entry

    def peek(self, key: K) -> V | None:
        """Return the entry of ``key``, if there is one; it grows no younger."""
        return self._entries.get(key)

    def forget(self, key: K) -> None:
        """Drop the entry of ``key``, if there is one."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Drop every entry."""
        self._entries.clear()


@dataclass
class Bucket:
    """Tokens that come at a rate and are spent one by one."""

    level: float = -1.0
    """Negative = never used, which is full."""
    at: float = 0.0

    def take(self, now: float, rate: float, burst: float) -> bool:
        """Spend a token; return False when there is none."""
        level = burst if self.level < 0 else min(burst, self.level + max(0.0, now - self.at) * rate)
        self.at = now
        self.level = level - 1.0 if level >= 1.0 else level
        return level >= 1.0
