"""What the parts of an AES-GCM function share while it is printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from accel.ir.aead_code import Code, Lanes, Value, constant

GROUP = 8
"""Vectors per reduction."""


@dataclass(frozen=True)
class Variant:
    """One function: how wide, how many rounds, which direction, with which attributes."""

    name: str
    lanes: Lanes
    rounds: int
    opening: bool
    attributes: str
    short: bool = False
    """Whether it is for payloads below four blocks only."""
    narrow: str = ""
    """The function of one lane that does payloads below two vectors; only for two lanes."""


@dataclass
class Row:
    """What is known in a function that is being printed; vectors are of ``lanes``."""

    code: Code
    variant: Variant
    lanes: Lanes
    keys: list[Value] = field(default_factory=list)
    counters: Value = ""
    """Reversed counter blocks of vector 0, as dwords."""

    def stream(self, counters: list[Value], between: Callable[[int], None] | None = None) -> list[Value]:
        """Return the key stream of several vectors, their rounds side by side; ``between`` is called after each."""
        code, lanes = self.code, self.lanes
        blocks = [lanes.reverse(code, code.cast(counter, lanes.dwords, lanes.words)) for counter in counters]
        states = [code.xor(lanes.words, block, self.keys[0]) for block in blocks]
        for number, key in enumerate(self.keys[1:-1]):
            states = [lanes.aes(code, state, key) for state in states]
            if between:
                between(number)
                states = code.pin(lanes.words, states)
        return [lanes.aes(code, state, self.keys[-1], last=True) for state in states]

    def step(self, vectors: int) -> str:
        """Return what is to be added to counters that many vectors later."""
        return constant("i32", [vectors * self.lanes.count, 0, 0, 0] * self.lanes.count)

    def ahead(self, counters: Value, vectors: int) -> Value:
        """Return counters that many vectors later."""
        return self.code.math("add", self.lanes.dwords, counters, self.step(vectors))

    def pick(self, given: Value, crypted: Value) -> Value:
        """Return which of the two is the ciphertext, which GHASH takes."""
        return given if self.variant.opening else crypted
