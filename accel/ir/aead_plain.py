"""AES, its key schedule and GHASH by ordinary arithmetic: no instruction for them, no table, no branch on a secret.

The S-box is computed (FIPS 197, section 5.1.1): x^254 in GF(2^8), then the affine map, over vectors of bytes. GHASH
multiplies integers whose bits lie five apart, so that no carry reaches the next bit that counts.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.ir.aead_code import Code, Value, constant
from accel.ir.aead_layout import HEADER_KEY, KEY, POWERS, POWERS_END, ROUNDS

BLOCKS = 4
"""Blocks that are encrypted side by side."""


class _Field:
    """GF(2^8) of AES over <``count`` x i8>."""

    def __init__(self, code: Code, count: int) -> None:
        self.code = code
        self.kind = f"<{count} x i8>"
        self.count = count

    def _all(self, value: int) -> str:
        return constant("i8", [value] * self.count)

    def _signs(self, x: Value) -> Value:
        return self.code.math("ashr", self.kind, x, self._all(7))

    def double(self, x: Value) -> Value:
        """Return 2 • x."""
        carry = self.code.math("and", self.kind, self._signs(x), self._all(0x1B))
        return self.code.xor(self.kind, self.code.math("add", self.kind, x, x), carry)

    def multiply(self, x: Value, y: Value) -> Value:
        """Return x • y, the bits of y from the highest on."""
        product = self.code.math("and", self.kind, x, self._signs(y))
        for _ in range(7):
            y = self.code.math("add", self.kind, y, y)
            term = self.code.math("and", self.kind, x, self._signs(y))
            product = self.code.xor(self.kind, self.double(product), term)
        return product

    def linear(self, x: Value, image: Callable[[int], int], offset: int = 0) -> Value:
        """Return a linear map, known by the images of the eight bits, plus ``offset``."""
        result = self._all(offset)
        for bit in range(7, -1, -1):
            term = self.code.math("and", self.kind, self._signs(x), self._all(image(1 << bit)))
            result = self.code.xor(self.kind, result, term)
            x = self.code.math("add", self.kind, x, x) if bit else x
        return result

    def substitute(self, x: Value) -> Value:
        """Return the S-box of each byte."""
        square = self.linear(x, lambda bit: _power(bit, 2))
        third = self.multiply(x, square)
        twelfth = self.linear(third, lambda bit: _power(bit, 4))
        fifteenth = self.multiply(third, twelfth)
        most = self.multiply(self.linear(fifteenth, lambda bit: _power(bit, 16)), twelfth)
        return self.linear(self.multiply(most, square), _affine, 0x63)


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        product ^= a * (b >> bit & 1)
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
    return product


def _power(x: int, exponent: int) -> int:
    result = 1
    for _ in range(exponent):
        result = _times(result, x)
    return result


def _affine(x: int) -> int:
    """Return x plus x rotated left by 1 to 4."""
    wide = x ^ x << 1 ^ x << 2 ^ x << 3 ^ x << 4
    return (wide ^ wide >> 8) & 0xFF


def cipher(name: str, attributes: str, declared: set[str]) -> str:
    """Return ``void name(ptr keys, i64 rounds, ptr blocks)``, which encrypts BLOCKS blocks in place."""
    code = Code(declared)
    size = 16 * BLOCKS
    field = _Field(code, size)
    code.label("entry")
    spread = [byte % 16 for byte in range(size)]
    key = code.shuffle("<16 x i8>", code.load("<16 x i8>", "%keys"), spread)
    start = code.xor(field.kind, code.load(field.kind, "%blocks"), key)
    code.goto("round")
    code.label("round")
    i = code.phi("i", "i64", [(1, "entry"), ("%next", "round")])
    state = code.phi("state", field.kind, [(start, "entry"), ("%after", "round")])
    rows = [16 * block + (5 * byte) % 16 for block in range(BLOCKS) for byte in range(16)]
    state = code.shuffle(field.kind, field.substitute(state), rows)
    key = code.load("<16 x i8>", "%keys", code.math("shl", "i64", i, 4))
    key = code.shuffle("<16 x i8>", key, spread)
    last = code.math("icmp eq", "i64", i, "%rounds")
    mixed = _mix_columns(code, field, state)
    mixed = code.op(f"select i1 {last}, {field.kind} {state}, {field.kind} {mixed}")
    code.do(f"%after = xor {field.kind} {mixed}, {key}")
    code.do(f"%next = add i64 {i}, 1")
    code.branch(last, "done", "round")
    code.label("done")
    code.store(field.kind, "%after", "%blocks")
    code.do("ret void")
    return code.function(f"internal void @{name}(ptr %keys, i64 %rounds, ptr %blocks)", attributes)


def _mix_columns(code: Code, field: _Field, state: Value) -> Value:
    words = f"<{field.count // 4} x i32>"

    def rotate(x: Value, bits: int) -> Value:
        given = f"{words} {code.cast(x, field.kind, words)}"
        amount = f"{words} {constant('i32', [bits] * (field.count // 4))}"
        return code.cast(code.call(words, f"llvm.fshr.v{field.count // 4}i32", given, given, amount), words, field.kind)

    next_row = rotate(state, 8)
    pair = code.xor(field.kind, state, next_row)
    return code.xor(field.kind, field.double(pair), next_row, rotate(pair, 16))


def substitute_word(name: str, attributes: str, declared: set[str]) -> str:
    """Return ``i32 name(i32)``: the S-box of four bytes."""
    code = Code(declared)
    code.label("entry")
    word = code.op("insertelement <4 x i32> zeroinitializer, i32 %word, i32 0")
    result = _Field(code, 16).substitute(code.cast(word, "<4 x i32>", "<16 x i8>"))
    words = code.cast(result, "<16 x i8>", "<4 x i32>")
    code.do(f"ret i32 {code.op(f'extractelement <4 x i32> {words}, i32 0')}")
    return code.function(f"internal i32 @{name}(i32 %word)", attributes)


def expansion(name: str, bytes_: int, substitute: str, declared: set[str]) -> str:
    """Return ``void name(ptr keys)``, which lets the round keys follow the key (FIPS 197, section 5.2)."""
    code = Code(declared)
    code.label("entry")
    count = bytes_ // 4
    words = [code.load("i32", "%keys", 4 * i) for i in range(count)]
    for i in range(count, 4 * (ROUNDS[bytes_] + 1)):
        word = words[-1]
        if i % count == 0:
            word = code.call("i32", "llvm.fshr.i32", f"i32 {word}", f"i32 {word}", "i32 8")
        if i % count == 0 or (count == 8 and i % count == 4):
            word = code.op(f"call i32 @{substitute}(i32 {word})")
        if i % count == 0:
            word = code.xor("i32", word, str(_power(2, i // count - 1)))
        words.append(code.xor("i32", word, words[i - count]))
        code.store("i32", words[-1], "%keys", 4 * i)
    code.do("ret void")
    return code.function(f"internal void @{name}(ptr %keys)", "")


def dot(name: str, attributes: str, declared: set[str]) -> str:
    """Return ``i128 name(i128 x, i128 y)``: the product modulo POLYVAL's polynomial, times x^-128."""
    code = Code(declared)
    code.label("entry")
    halves = [
        (code.op(f"trunc i128 {value} to i64"), code.op(f"trunc i128 {code.math('lshr', 'i128', value, 64)} to i64"))
        for value in ("%x", "%y")
    ]
    parts = [[_combs(code, half) for half in pair] for pair in halves]
    low, high = (_multiply(code, parts[0][i], parts[1][i]) for i in range(2))
    middle = code.xor("i128", *(_multiply(code, parts[0][i], parts[1][1 - i]) for i in range(2)))
    low = code.xor("i128", low, code.math("shl", "i128", middle, 64))
    high = code.xor("i128", high, code.math("lshr", "i128", middle, 64))
    for _ in range(2):
        word = code.op(f"zext i64 {code.op(f'trunc i128 {low} to i64')} to i128")
        terms = [code.math("shl", "i128", word, bit) for bit in (63, 62, 57)]
        swapped = code.call("i128", "llvm.fshl.i128", f"i128 {low}", f"i128 {low}", "i128 64")
        low = code.xor("i128", swapped, *terms)
    code.do(f"ret i128 {code.xor('i128', low, high)}")
    return code.function(f"internal i128 @{name}(i128 %x, i128 %y)", attributes)


_COMBS = 5


def _comb(start: int, bits: int) -> int:
    return sum(1 << bit for bit in range(start, bits, _COMBS))


def _combs(code: Code, word: Value) -> list[Value]:
    return [code.op(f"zext i64 {code.math('and', 'i64', word, _comb(start, 64))} to i128") for start in range(_COMBS)]


def _multiply(code: Code, x: list[Value], y: list[Value]) -> Value:
    """Return the carry-less product; in each partial product at most 13 bits meet, so four bits hold the sum."""
    result = []
    for start in range(_COMBS):
        terms = [code.math("mul", "i128", x[i], y[(start - i) % _COMBS]) for i in range(_COMBS)]
        result.append(code.math("and", "i128", code.xor("i128", *terms), _comb(start, 128)))
    return code.xor("i128", *result)


def install(declared: set[str]) -> str:
    """Return ``install`` (context: record, suite + 1), which expands the keys in a record, and what it calls."""
    code = Code(declared)
    code.label("entry")
    record = code.load("ptr", "%context")
    suite = code.load("i64", "%context", 8)
    code.do(f"switch i64 {suite}, label %done [ i64 1, label %aes16 i64 2, label %aes32 ]")
    for size, rounds in ROUNDS.items():
        code.label(f"aes{size}")
        code.do(f"call void @expand{size}(ptr {code.at(record, KEY)})")
        code.do(f"call void @expand{size}(ptr {code.at(record, HEADER_KEY)})")
        code.do(f"call void @powers(ptr {record}, i64 {rounds})")
        code.goto("done")
    code.label("done")
    code.store("i32", code.op(f"trunc i64 {suite} to i32"), record, 0, 4)
    code.do("ret i64 0")
    whole = code.function("i64 @install(ptr %context)", "")
    expansions = [expansion(f"expand{size}", size, "substitute", declared) for size in ROUNDS]
    return "\n".join([substitute_word("substitute", "", declared), *expansions, _powers(declared), whole])


def _powers(declared: set[str]) -> str:
    code = Code(declared)
    code.label("entry")
    blocks = code.op(f"alloca [{16 * BLOCKS} x i8], align 16")
    code.store(f"<{16 * BLOCKS} x i8>", "zeroinitializer", blocks)
    keys = code.at("%record", KEY)
    code.do(f"call void @cipher_plain(ptr {keys}, i64 %rounds, ptr {blocks})")
    h = code.call("i128", "llvm.bswap.i128", f"i128 {code.load('i128', blocks)}")
    # Times x: bit 127 falls out at the top and comes back as x^127 + x^126 + x^121 + 1.
    carry = code.math("ashr", "i128", h, 127)
    polynomial = (0xC2 << 120) | 1
    h = code.xor("i128", code.math("shl", "i128", h, 1), code.math("and", "i128", carry, polynomial))
    code.store(f"<{16 * BLOCKS} x i8>", "zeroinitializer", blocks)
    code.store("i128", h, "%record", POWERS_END - 16)
    code.goto("loop")
    code.label("loop")
    place = code.phi("place", "i64", [(POWERS_END - 32, "entry"), ("%next", "loop")])
    power = code.phi("power", "i128", [(h, "entry"), ("%after", "loop")])
    code.do(f"%after = call i128 @dot_plain(i128 {power}, i128 {h})")
    code.store("i128", "%after", "%record", place)
    code.do(f"%next = sub i64 {place}, 16")
    more = code.math("icmp uge", "i64", "%next", POWERS_END - 16 * POWERS)
    code.branch(more, "loop", "done")
    code.label("done")
    code.do("ret void")
    return code.function("internal void @powers(ptr %record, i64 %rounds)", "")
