"""Printing LLVM IR: values get names, vectors of AES blocks get their instructions for each width.

The text is emitted in the form in which it is to run (inlined, unrolled, in SSA form): the just-in-time compiler of
:mod:`accel.native` runs no optimisation passes, only code generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Value = str
"""Name of an SSA value, or a constant."""


class Code:
    """The body of one function."""

    def __init__(self, declared: set[str]) -> None:
        self.lines: list[str] = []
        self.declared = declared
        """Declarations of intrinsics, shared by the functions of a module."""
        self._count = 0

    def op(self, text: str) -> Value:
        """Emit an instruction; return its value."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Emit an instruction without a value."""
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{name}:")

    def call(self, result: str, name: str, *arguments: str) -> Value:
        """Emit a call of an intrinsic, with arguments as ``type value``; declare it."""
        types = ", ".join(_type_of(argument) for argument in arguments)
        self.declared.add(f"declare {result} @{name}({types})")
        given = ", ".join(argument.removeprefix("immarg ") for argument in arguments)
        if result == "void":
            self.do(f"call void @{name}({given})")
            return ""
        return self.op(f"call {result} @{name}({given})")

    def at(self, pointer: Value, offset: Value | int) -> Value:
        """Return ``pointer`` moved by bytes."""
        return self.op(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset != 0 else pointer

    def load(self, kind: str, pointer: Value, offset: Value | int = 0, align: int = 1) -> Value:
        """Return what lies at a byte offset."""
        return self.op(f"load {kind}, ptr {self.at(pointer, offset)}, align {align}")

    def store(self, kind: str, value: Value, pointer: Value, offset: Value | int = 0, align: int = 1) -> None:
        """Write to a byte offset."""
        self.do(f"store {kind} {value}, ptr {self.at(pointer, offset)}, align {align}")

    def cast(self, value: Value, old: str, new: str) -> Value:
        """Return the same bits as another type."""
        return value if old == new else self.op(f"bitcast {old} {value} to {new}")

    def math(self, what: str, kind: str, a: Value | int, b: Value | int) -> Value:
        """Return a binary operation."""
        return self.op(f"{what} {kind} {a}, {b}")

    def xor(self, kind: str, *values: Value) -> Value:
        """Return the sum of all in GF(2)."""
        result = values[0]
        for value in values[1:]:
            result = self.math("xor", kind, result, value)
        return result

    def shuffle(self, kind: str, a: Value, indices: Sequence[int], b: Value = "poison") -> Value:
        """Return elements of a, then b, by index."""
        mask = ", ".join(f"i32 {index}" for index in indices)
        return self.op(f"shufflevector {kind} {a}, {kind} {b}, <{len(indices)} x i32> <{mask}>")

    def pin(self, kind: str, values: Sequence[Value]) -> list[Value]:
        """Return the same vectors, which are computed in this order, and before anything that is pinned later.

        LLVM's scheduler knows registers but not latencies: it would put the rounds of a block one after the other. An
        empty text of assembly is what it cannot look into; it costs no instruction.
        """
        return [self.op(f'call {kind} asm sideeffect "", "=v,0"({kind} {value})') for value in values]

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """End a basic block."""
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")

    def goto(self, name: str) -> None:
        """End a basic block."""
        self.do(f"br label %{name}")

    def phi(self, name: str, kind: str, incoming: Iterable[tuple[Value | int, str]]) -> Value:
        """Emit a phi that is called ``%name``; values may come from below."""
        pairs = ", ".join(f"[ {value}, %{label} ]" for value, label in incoming)
        self.lines.append(f"  %{name} = phi {kind} {pairs}")
        return f"%{name}"

    def function(self, head: str, attributes: str) -> str:
        """Return the function; ``head`` is its linkage, type, name and parameters."""
        return "\n".join([f"define {head} {attributes} {{", *self.lines, "}"])


def _type_of(argument: str) -> str:
    if argument.startswith("immarg "):
        return argument.removeprefix("immarg ").split()[0] + " immarg"
    depth = 0
    for place, letter in enumerate(argument):
        depth += (letter in "<(") - (letter in ">)")
        if letter == " " and not depth:
            return argument[:place]
    raise ValueError(argument)


def constant(kind: str, values: Iterable[int]) -> str:
    """Return a vector constant of elements ``kind``."""
    return "<" + ", ".join(f"{kind} {value}" for value in values) + ">"


_AES_SUFFIX = {1: "", 2: ".256", 4: ".512"}


@dataclass(frozen=True)
class Lanes:
    """A vector of ``count`` 16-byte blocks: 1 (AES-NI), 2 (VAES, 256 bits) or 4 (VAES, 512 bits)."""

    count: int

    @property
    def words(self) -> str:
        """Type of the vector as 64-bit elements, which most values have."""
        return f"<{2 * self.count} x i64>"

    @property
    def dwords(self) -> str:
        """The same as 32-bit elements."""
        return f"<{4 * self.count} x i32>"

    @property
    def bytes(self) -> str:
        """The same as bytes."""
        return f"<{16 * self.count} x i8>"

    @property
    def size(self) -> int:
        """Bytes of a vector."""
        return 16 * self.count

    def spread(self, code: Code, block: Value) -> Value:
        """Return a block (as <2 x i64>) in every lane."""
        return block if self.count == 1 else code.shuffle("<2 x i64>", block, [0, 1] * self.count)

    def load_spread(self, code: Code, pointer: Value, offset: int) -> Value:
        """Return the block at an address in every lane."""
        return self.spread(code, code.load("<2 x i64>", pointer, offset, 16))

    def lane(self, code: Code, vector: Value, number: int) -> Value:
        """Return one lane as <2 x i64>."""
        if self.count == 1:
            return vector
        return code.shuffle(self.words, vector, [2 * number, 2 * number + 1])

    def reverse(self, code: Code, vector: Value) -> Value:
        """Return every lane with its bytes in the other order."""
        given = code.cast(vector, self.words, self.bytes)
        indices = [16 * lane + 15 - byte for lane in range(self.count) for byte in range(16)]
        return code.cast(code.shuffle(self.bytes, given, indices), self.bytes, self.words)

    def swap(self, code: Code, vector: Value) -> Value:
        """Return every lane with its halves exchanged."""
        return code.shuffle(self.words, vector, [index ^ 1 for index in range(2 * self.count)])

    def fold(self, code: Code, vector: Value) -> Value:
        """Return the sum of the lanes as <2 x i64>."""
        count, kind = self.count, self.words
        while count > 1:
            count //= 2
            low = code.shuffle(kind, vector, range(2 * count))
            high = code.shuffle(kind, vector, range(2 * count, 4 * count))
            kind = f"<{2 * count} x i64>"
            vector = code.xor(kind, low, high)
        return vector

    def aes(self, code: Code, state: Value, key: Value, *, last: bool = False) -> Value:
        """Return one round of AES."""
        name = f"llvm.x86.aesni.aesenc{'last' if last else ''}{_AES_SUFFIX[self.count]}"
        return code.call(self.words, name, f"{self.words} {state}", f"{self.words} {key}")

    def multiply(self, code: Code, a: Value, b: Value, halves: int) -> Value:
        """Return the carry-less product of one half of each lane; ``halves`` as the instruction has it (0x01...)."""
        name = f"llvm.x86.pclmulqdq{_AES_SUFFIX[self.count]}"
        return code.call(self.words, name, f"{self.words} {a}", f"{self.words} {b}", f"immarg i8 {halves}")


ONE = Lanes(1)
