"""ChaCha20 (RFC 8439, section 2.3) for as many blocks side by side as a vector has 32-bit lanes.

A vector holds one word of the state for every block; at the end, words are turned into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.ir.aead_code import Code, Value, constant
from accel.ir.aead_layout import KEY

SIGMA = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
"""The constant "expand 32-byte k"."""
BLOCK = 64
_COLUMNS = [(i, i + 4, i + 8, i + 12) for i in range(4)]
_DIAGONALS = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]


@dataclass(frozen=True)
class Width:
    """How many blocks are done side by side: ``lanes`` of a vector, in ``sets`` of sixteen vectors.

    One set is a chain of dependent instructions in four strands, too few for a processor that needs two cycles for an
    addition; two sets take all 32 registers of AVX-512. ``pinned``: the order of instructions is kept as printed.
    """

    lanes: int
    sets: int = 1
    pinned: bool = True

    @property
    def blocks(self) -> int:
        """Blocks that are written together."""
        return self.lanes * self.sets


class _Words:
    """Operations on <``lanes`` x i32>."""

    def __init__(self, code: Code, width: Width) -> None:
        self.code = code
        self.width = width
        self.lanes = width.lanes
        self.kind = f"<{width.lanes} x i32>"

    def numbers(self, part: int) -> str:
        """Return the numbers of the blocks in the lanes of a set."""
        return constant("i32", range(self.lanes * part, self.lanes * (part + 1)))

    def same(self, value: int) -> str:
        """Return a constant in all lanes."""
        return constant("i32", [value] * self.lanes)

    def spread(self, value: Value) -> Value:
        """Return an i32 in all lanes."""
        one = self.code.op(f"insertelement {self.kind} poison, i32 {value}, i32 0")
        return self.code.shuffle(self.kind, one, [0] * self.lanes)

    def add(self, a: Value, b: Value) -> Value:
        """Return the sum."""
        return self.code.math("add", self.kind, a, b)

    def turn(self, a: Value, b: Value, bits: int) -> Value:
        """Return (a xor b) rotated left."""
        x = f"{self.kind} {self.code.xor(self.kind, a, b)}"
        return self.code.call(self.kind, f"llvm.fshl.v{self.lanes}i32", x, x, f"{self.kind} {self.same(bits)}")


def _quarter(words: _Words, x: list[Value], quarters: list[list[int]]) -> None:
    """Do quarter rounds (section 2.1) side by side."""
    for a_step, bits in ((True, 16), (False, 12), (True, 8), (False, 7)):
        for a, b, c, d in quarters:
            if a_step:
                x[a] = words.add(x[a], x[b])
            else:
                x[c] = words.add(x[c], x[d])
        for a, b, c, d in quarters:
            if a_step:
                x[d] = words.turn(x[d], x[a], bits)
            else:
                x[b] = words.turn(x[b], x[c], bits)
        which = [q[3] if a_step else q[1] for q in quarters]
        if words.width.pinned:
            for place, value in zip(which, words.code.pin(words.kind, [x[i] for i in which]), strict=True):
                x[place] = value


def _rounds(words: _Words, state: list[Value], before: str) -> list[Value]:
    """Emit the twenty rounds as a loop that comes from block ``before``; return the words that it leaves."""
    code = words.code
    code.goto("rounds")
    code.label("rounds")
    turn = code.phi("turn", "i32", [(0, before), ("%turn.next", "rounds")])
    x = [code.phi(f"x{i}", words.kind, [(value, before), (f"%x{i}.next", "rounds")]) for i, value in enumerate(state)]
    for quarters in (_COLUMNS, _DIAGONALS):
        moved = [[16 * part + i for i in quarter] for part in range(words.width.sets) for quarter in quarters]
        _quarter(words, x, moved)
    for i, value in enumerate(x):
        code.do(f"%x{i}.next = bitcast {words.kind} {value} to {words.kind}")
    code.do(f"%turn.next = add i32 {turn}, 1")
    code.branch(code.math("icmp ult", "i32", "%turn.next", 10), "rounds", "rounded")
    code.label("rounded")
    return [f"%x{i}.next" for i in range(len(x))]


def stream_rows(name: str, width: Width, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr entries, i64 total, ptr out)``, which writes the ``total`` blocks of some rows.

    An entry (of 128 bytes) has the row's first state, and at 64 its first block's place among all blocks; the entry
    behind the last has ``total`` there. Blocks are written by whole vectors.
    """
    code = Code(declared)
    words = _Words(code, width)
    code.label("entry")
    code.goto("vector")
    code.label("vector")
    begin = code.phi("begin", "i64", [(0, "entry"), ("%begin.next", "rounded")])
    entry = code.phi("row", "ptr", [("%entries", "entry"), ("%row.next", "rounded")])
    end = code.call("i64", "llvm.umin.i64", f"i64 {code.math('add', 'i64', begin, width.blocks)}", "i64 %total")
    state = [_state(words, entry, begin, part) for part in range(width.sets)]
    code.branch(code.math("icmp ult", "i64", code.load("i64", entry, _NEXT + 64, 8), end), "blend", "blended")
    held = _blend(words, state, begin, end)
    initial = [value for part in held for value in [*(words.same(each) for each in SIGMA), *part]]
    final = [words.add(a, b) for a, b in zip(_rounds(words, initial, "blended"), initial, strict=True)]
    for part in range(width.sets):
        first = code.math("add", "i64", begin, width.lanes * part)
        _write_blocks(code, width.lanes, final[16 * part : 16 * part + 16], first)
    code.do(f"%begin.next = add i64 {begin}, {width.blocks}")
    after = code.at("%last", _NEXT)
    used = code.math("icmp eq", "i64", code.load("i64", after, 64, 8), "%begin.next")
    code.do(f"%row.next = select i1 {used}, ptr {after}, ptr %last")
    code.branch(code.math("icmp ult", "i64", "%begin.next", "%total"), "vector", "done")
    code.label("done")
    code.do("ret void")
    return code.function(f"internal void @{name}(ptr %entries, i64 %total, ptr %out)", attributes)


_NEXT = 128
"""Bytes from an entry to the next."""


def _state(words: _Words, entry: Value, begin: Value, part: int) -> list[Value]:
    """Return words 4 to 15 of a row's blocks in a set, the first set beginning at block ``begin`` of all."""
    code = words.code
    state = [words.spread(code.load("i32", entry, 4 * i, 4)) for i in range(4, 16)]
    ahead = code.math("sub", "i64", begin, code.load("i64", entry, 64, 8))
    first = words.add(state[8], words.spread(code.op(f"trunc i64 {ahead} to i32")))
    state[8] = words.add(first, words.numbers(part))
    return state


def _blend(words: _Words, state: list[list[Value]], begin: Value, end: Value) -> list[list[Value]]:
    """Emit the loop over the further rows that have blocks in the vectors; %last is the entry of the last of them."""
    code = words.code
    both = [("vector", state), ("blend", [[f"%blend.{p}.{i}.next" for i in range(12)] for p in range(len(state))])]

    def choose(name: str) -> list[list[Value]]:
        return [
            [code.phi(f"{name}.{p}.{i}", words.kind, [(v[p][i], label) for label, v in both]) for i in range(12)]
            for p in range(len(state))
        ]

    code.label("blend")
    before = code.phi("blend.row", "ptr", [("%row", "vector"), ("%blend.next", "blend")])
    held = choose("blend")
    code.do(f"%blend.next = getelementptr i8, ptr {before}, i64 {_NEXT}")
    base = code.math("sub", "i64", code.load("i64", "%blend.next", 64, 8), begin)
    lane = words.spread(code.op(f"trunc i64 {base} to i32"))
    for part, values in enumerate(held):
        theirs = f"<{words.lanes} x i1> {code.math('icmp uge', words.kind, words.numbers(part), lane)}"
        for i, value in enumerate(_state(words, "%blend.next", begin, part)):
            code.do(f"%blend.{part}.{i}.next = select {theirs}, {words.kind} {value}, {words.kind} {values[i]}")
    more = code.math("icmp ult", "i64", code.load("i64", "%blend.next", _NEXT + 64, 8), end)
    code.branch(more, "blend", "blended")
    code.label("blended")
    code.phi("last", "ptr", [("%row", "vector"), ("%blend.next", "blend")])
    return choose("blended")


def _write_blocks(code: Code, lanes: int, x: list[Value], begin: Value) -> None:
    """Turn words into blocks by interleaving (as often as there are bits in ``lanes``), and write them."""
    kind = f"<{lanes} x i32>"
    out = code.at("%out", code.math("shl", "i64", begin, 6))
    for base in range(0, 16, lanes):
        rows = x[base : base + lanes]
        for r, row in enumerate(_transposed(code, kind, rows)):
            code.store(kind, row, out, BLOCK * r + 4 * base, 16)


def wipe_state(code: Code, entry: Value) -> None:
    """Emit zeros over a state, which has the key; nothing may call them useless."""
    code.do(f"store volatile <16 x i32> zeroinitializer, ptr {entry}, align 64")


def stream(name: str, rows: str, blocks: int, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr record, <2 x i64> nonce, i64 counter, ptr out)``: ``blocks`` blocks of one text."""
    code = Code(declared)
    code.label("entry")
    entries = code.op("alloca [256 x i8], align 64")
    number = code.op("trunc i64 %counter to i32")
    nonce = code.shuffle("<4 x i32>", code.cast("%nonce", "<2 x i64>", "<4 x i32>"), [3, 0, 1, 2])
    nonce = code.op(f"insertelement <4 x i32> {nonce}, i32 {number}, i32 0")
    parts = [constant("i32", SIGMA), *(code.load("<4 x i32>", "%record", KEY + 16 * i, 16) for i in range(2)), nonce]
    for i, part in enumerate(parts):
        code.store("<4 x i32>", part, entries, 16 * i, 16)
    code.store("i64", "0", entries, 64, 8)
    code.store("i64", str(blocks), entries, _NEXT + 64, 8)
    code.do(f"call void @{rows}(ptr {entries}, i64 {blocks}, ptr %out)")
    wipe_state(code, entries)
    code.do("ret void")
    head = f"internal void @{name}(ptr %record, <2 x i64> %nonce, i64 %counter, ptr %out)"
    return code.function(head, attributes)


def _transposed(code: Code, kind: str, rows: list[Value]) -> list[Value]:
    """Return the transpose of a square of words: halves are exchanged at distance n/2, n/4, ... 1."""
    count = len(rows)
    step = count // 2
    while step:
        low = [i if not i & step else count + i - step for i in range(count)]
        high = [i + step if not i & step else count + i for i in range(count)]
        new = list(rows)
        for i in range(count):
            if not i & step:
                a, b = rows[i], rows[i + step]
                new[i], new[i + step] = code.shuffle(kind, a, low, b), code.shuffle(kind, a, high, b)
        rows = new
        step //= 2
    return rows
