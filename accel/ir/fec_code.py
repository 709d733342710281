"""LLVM IR of the FEC kernels, written down: fresh names, loops and branches with their phis.

No optimisation pass runs on this text, only instruction selection, so whatever is hot must be a value of a loop and not
a variable in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Values = list[str]
"""Names of values, or constants as text."""
Typed = tuple[str, str]
"""(type, value)."""


class Code:
    """One function, line by line."""

    def __init__(self, head: str) -> None:
        self._lines = [head + " {", "entry:"]
        self._block = "entry"
        self._count = 0

    def text(self, result: str = "ret void") -> str:
        """Return the function, ended by ``result``."""
        return "\n".join([*self._lines, f"  {result}", "}", ""])

    def set(self, text: str) -> str:
        """Write ``%new = text`` and return the name."""
        name = f"%v{self._fresh()}"
        self._lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self._lines.append(f"  {text}")

    def at(self, base: str, index: str | int, kind: str = "i8") -> str:
        """Return the address of element ``index`` of an array of ``kind``."""
        return self.set(f"getelementptr {kind}, ptr {base}, i64 {index}")

    def load(self, kind: str, place: str) -> str:
        """Return what lies at ``place``, at any alignment."""
        return self.set(f"load {kind}, ptr {place}, align 1")

    def store(self, kind: str, value: str | int, place: str) -> None:
        """Write ``value`` to ``place``, at any alignment."""
        self.do(f"store {kind} {value}, ptr {place}, align 1")

    def element(self, kind: str, base: str, index: str | int, wide: str = "", *, signed: bool = False) -> str:
        """Return element ``index``, extended to type ``wide`` when one is given."""
        value = self.load(kind, self.at(base, index, kind))
        if not wide:
            return value
        return self.set(f"{'sext' if signed else 'zext'} {kind} {value} to {wide}")

    def loop(
        self,
        first: str | int,
        end: str | int,
        state: Sequence[Typed],
        body: Callable[[str, Values], Values],
        step: int | str = 1,
    ) -> Values:
        """Write ``for i in range(first, end, step): state = body(i, state)`` and return the last state."""
        mark, before = self._fresh(), self._block
        some = self.set(f"icmp slt i64 {first}, {end}")
        self.do(f"br i1 {some}, label %loop{mark}, label %done{mark}")
        self._begin(f"loop{mark}")
        index, place = f"%i{mark}", len(self._lines)
        inside = [f"%s{mark}.{n}" for n in range(len(state))]
        after = body(index, inside)
        following = self.set(f"add i64 {index}, {step}")
        more = self.set(f"icmp slt i64 {following}, {end}")
        latch = self._block
        self.do(f"br i1 {more}, label %loop{mark}, label %done{mark}")
        phis = [f"  {index} = phi i64 [ {first}, %{before} ], [ {following}, %{latch} ]"]
        for (kind, start), name, value in zip(state, inside, after, strict=True):
            phis.append(f"  {name} = phi {kind} [ {start}, %{before} ], [ {value}, %{latch} ]")
        self._lines[place:place] = phis
        self._begin(f"done{mark}")
        return [
            self.set(f"phi {kind} [ {start}, %{before} ], [ {value}, %{latch} ]")
            for (kind, start), value in zip(state, after, strict=True)
        ]

    def when(self, condition: str, state: Sequence[Typed], body: Callable[[], Values]) -> Values:
        """Write ``if condition: state = body()`` and return the state after it."""
        mark, before = self._fresh(), self._block
        self.do(f"br i1 {condition}, label %then{mark}, label %end{mark}")
        self._begin(f"then{mark}")
        changed = body()
        then = self._block
        self.do(f"br label %end{mark}")
        self._begin(f"end{mark}")
        return [
            self.set(f"phi {kind} [ {value}, %{before} ], [ {new}, %{then} ]")
            for (kind, value), new in zip(state, changed, strict=True)
        ]

    def select_case(self, value: str, cases: dict[int, Callable[[], None]]) -> None:
        """Run the case of an i64 ``value``; none when there is no such case."""
        mark = self._fresh()
        jumps = " ".join(f"i64 {number}, label %case{mark}.{number}" for number in cases)
        self.do(f"switch i64 {value}, label %out{mark} [ {jumps} ]")
        for number, body in cases.items():
            self._begin(f"case{mark}.{number}")
            body()
            self.do(f"br label %out{mark}")
        self._begin(f"out{mark}")

    def _begin(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label

    def _fresh(self) -> int:
        self._count += 1
        return self._count
