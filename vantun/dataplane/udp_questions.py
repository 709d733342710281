"""What is asked of the control process about destinations of UDP, and what waits for its answers: bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.udp_bodies import ASKED_FULL

ASKED = 64
"""Destinations that may be asked for at once."""
WAITING = 8
"""Packets that wait for the answer about one destination."""
WAITING_BYTES = 1 << 17
"""Bytes that wait for all answers: at least one packet of any size."""
ANSWER_TIME = 15.0
"""Seconds after which a question that found no answer gives way to new ones."""

Item = TypeVar("Item")


@dataclass
class Question(Generic[Item]):
    """A destination (its address as bytes), when it was asked for, and what waits, with its bytes."""

    name: bytes
    at: float
    waiting: list[tuple[Item, int]] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """What waits, in order."""
        return [item for item, _ in self.waiting]


class Questions(Generic[Item]):
    """Open questions by number.

    Parameters
    ----------
    drops
        [shape=(len(DROPS),), dtype=int64] where packets that find no room, or wait in vain, are counted.
    """

    def __init__(self, drops: NDArray[np.int64], most: int = ASKED, most_bytes: int = WAITING_BYTES) -> None:
        self._drops = drops
        self._most = most
        self._most_bytes = most_bytes
        self._open: dict[int, Question[Item]] = {}
        self._number_of: dict[bytes, int] = {}
        self._last = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __contains__(self, name: bytes) -> bool:
        """Tell whether a destination is asked for."""
        return name in self._number_of

    def begin(self, name: bytes, now: float) -> int:
        """Open a question about a destination that has none; return its number, or 0 when there are too many."""
        if len(self._open) >= self._most:
            oldest = next(iter(self._open))
            if self._open[oldest].at + ANSWER_TIME > now:
                return 0
            self._give_up(oldest)
        self._last += 1
        self._open[self._last] = Question(name, now)
        self._number_of[name] = self._last
        return self._last

    def wait(self, name: bytes, item: Item, size: int) -> None:
        """Have a packet of ``size`` bytes wait for the answer about ``name``; counted as dropped without room."""
        number = self._number_of.get(name)
        if number is None or len(self._open[number].waiting) >= WAITING or self._bytes + size > self._most_bytes:
            self._drops[ASKED_FULL] += 1
            return
        self._open[number].waiting.append((item, size))
        self._bytes += size

    def settle(self, number: int) -> Question[Item] | None:
        """Close a question that is answered, and return it; None = nobody waits for the answer any more."""
        question = self._open.pop(number, None)
        if question is not None:
            del self._number_of[question.name]
            self._bytes -= sum(size for _, size in question.waiting)
        return question

    def forget(self, name: bytes) -> None:
        """Give a question up."""
        number = self._number_of.get(name)
        if number is not None:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        question = self.settle(number)
        self._drops[ASKED_FULL] += len(question.waiting) if question is not None else 0
