"""ChaCha20 (RFC 8439, section 2.3) for as many blocks side by side as a vector has 32-bit lanes.

A vector holds one word of the state for every block; at the end, words are turned into blocks.
"""

from __future__ import annotations

from accel.ir.aead_code import Code, Value, constant
from accel.ir.aead_layout import HEADER_KEY, KEY

_SIGMA = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
"""The constant "expand 32-byte k"."""
BLOCK = 64
_QUARTERS = [(i, i + 4, i + 8, i + 12) for i in range(4)] + [
    (i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)
]


class _Words:
    """Operations on <``lanes`` x i32>."""

    def __init__(self, code: Code, lanes: int) -> None:
        self.code = code
        self.lanes = lanes
        self.kind = f"<{lanes} x i32>"

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


def _quarter(words: _Words, x: list[Value], quarters: list[tuple[int, int, int, int]]) -> None:
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


def rounds(words: _Words, state: list[Value], before: str) -> list[Value]:
    """Emit the twenty rounds as a loop that comes from block ``before``; return the words that it leaves."""
    code = words.code
    code.goto("rounds")
    code.label("rounds")
    turn = code.phi("turn", "i32", [(0, before), ("%turn.next", "rounds")])
    x = [code.phi(f"x{i}", words.kind, [(value, before), (f"%x{i}.next", "rounds")]) for i, value in enumerate(state)]
    _quarter(words, x, _QUARTERS[:4])
    _quarter(words, x, _QUARTERS[4:])
    for i, value in enumerate(x):
        code.do(f"%x{i}.next = bitcast {words.kind} {value} to {words.kind}")
    code.do(f"%turn.next = add i32 {turn}, 1")
    code.branch(code.math("icmp ult", "i32", "%turn.next", 10), "rounds", "rounded")
    code.label("rounded")
    return [f"%x{i}.next" for i in range(16)]


def stream(name: str, lanes: int, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr record, <2 x i64> nonce, i64 counter, ptr out)``, which writes ``lanes`` blocks."""
    code = Code(declared)
    code.label("entry")
    words = _Words(code, lanes)
    nonce = code.cast("%nonce", "<2 x i64>", "<4 x i32>")
    parts = [code.op(f"extractelement <4 x i32> {nonce}, i32 {i}") for i in range(3)]
    counter = words.spread(code.op("trunc i64 %counter to i32"))
    state = [words.same(value) for value in _SIGMA]
    state += [words.spread(code.load("i32", "%record", KEY + 4 * i, 4)) for i in range(8)]
    state += [words.add(counter, constant("i32", range(lanes))), *(words.spread(part) for part in parts)]
    # A loop of ten double rounds: all of them printed would not stay in the cache of decoded instructions.
    final = rounds(words, state, "entry")
    done = [words.add(a, b) for a, b in zip(final, state, strict=True)]
    _write_blocks(code, lanes, done)
    code.do("ret void")
    head = f"internal void @{name}(ptr %record, <2 x i64> %nonce, i64 %counter, ptr %out)"
    return code.function(head, attributes)


def _write_blocks(code: Code, lanes: int, x: list[Value]) -> None:
    """Turn words into blocks by interleaving (as often as there are bits in ``lanes``), and write them."""
    kind = f"<{lanes} x i32>"
    for base in range(0, 16, lanes):
        rows = x[base : base + lanes]
        for r, row in enumerate(_transposed(code, kind, rows)):
            code.store(kind, row, "%out", BLOCK * r + 4 * base, 16)


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


def mask(name: str, attributes: str, declared: set[str]) -> str:
    """Return ``i64 name(ptr record, <2 x i64> sample)``: the first 8 bytes of a header-protection mask.

    RFC 9001, section 5.4.4: counter and nonce are the sample. One block lies in four vectors, a row of the state each.
    """
    code = Code(declared)
    code.label("entry")
    words = _Words(code, 4)
    sample = code.cast("%sample", "<2 x i64>", words.kind)
    keys = [code.load(words.kind, "%record", HEADER_KEY + 16 * i, 16) for i in range(2)]
    start = [constant("i32", _SIGMA), *keys, sample]
    code.goto("rounds")
    code.label("rounds")
    turn = code.phi("turn", "i32", [(0, "entry"), ("%turn.next", "rounds")])
    x = [code.phi(f"x{i}", words.kind, [(v, "entry"), (f"%x{i}.next", "rounds")]) for i, v in enumerate(start)]
    for sign in (1, -1):
        _quarter(words, x, [(0, 1, 2, 3)])
        for row in range(1, 4):
            x[row] = code.shuffle(words.kind, x[row], [(i + sign * row) % 4 for i in range(4)])
    for i, value in enumerate(x):
        code.do(f"%x{i}.next = bitcast {words.kind} {value} to {words.kind}")
    code.do(f"%turn.next = add i32 {turn}, 1")
    code.branch(code.math("icmp ult", "i32", "%turn.next", 10), "rounds", "rounded")
    code.label("rounded")
    first = code.cast(words.add("%x0.next", start[0]), words.kind, "<2 x i64>")
    code.do(f"ret i64 {code.op(f'extractelement <2 x i64> {first}, i32 0')}")
    return code.function(f"internal i64 @{name}(ptr %record, <2 x i64> %sample)", attributes)
