"""CRC-32C by carry-less multiplication: four vectors of 16-byte lanes, moved on a step and added to what is there.

A lane is a polynomial of degree below 128; its first bit is the highest power. Moving it on by D bytes is multiplying
it by x^(8 D): modulo the CRC's polynomial, each half of it by a number of 32 bits. At the end every lane is moved to
the last 16 bytes in one multiplication of its own, and the CRC of their sum is that of everything.

What is no whole step comes first: with zeros behind it, and moved on by less, by factors from a table. Nothing outside
the memory is read, not even under a mask: where its page is missing, such a load takes 300 ns.

A multiplication starts every 0.47 ns on Zen 5 (every other cycle), be it of 16, 32 or 64 bytes. For a unit of 1,400 B
that makes 82, 41 or 21 ns; the CRC instruction in three thirds takes 36. So there is one width, the longest.

Sources: Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009: folding;
Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel 2011: the end by instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from accel.ir.aead_code import Code, Lanes, Value, constant

POLYNOMIAL = 0x11EDC6F41
"""Castagnoli's: bit 32 is x^32."""
HEADS = "vantun_crc_heads"
"""The table of :func:`heads`, as i64, which a module with :func:`function` has."""
_LANES = Lanes(4)
_SETS = 4
"""Vectors side by side: a multiplication and a sum take five to nine cycles, and the next one needs their result."""
_STEP = _SETS * _LANES.size


def reflected(value: int, bits: int) -> int:
    """Return a number of ``bits`` bits with these in the other order."""
    return int(f"{value:0{bits}b}"[::-1], 2)


REFLECTED = reflected(POLYNOMIAL & 0xFFFFFFFF, 32)


def power(exponent: int) -> int:
    """Return x^exponent modulo POLYNOMIAL, also of negative exponents."""
    return _shifted(1, exponent)


def _shifted(value: int, count: int) -> int:
    """Return a polynomial times x^count."""
    for _ in range(count):
        value <<= 1
        value ^= POLYNOMIAL if value >> 32 else 0
    for _ in range(-count):
        value ^= POLYNOMIAL if value & 1 else 0
        value >>= 1
    return value


def moves(distance: int) -> tuple[int, int]:
    """Return the factors that move the first and the second half of a lane on by ``distance`` bytes.

    The first half stands 64 powers higher. The product of two reflected numbers lies one bit off: one power less.
    """
    return reflected(power(8 * distance + 63), 64), reflected(power(8 * distance - 1), 64)


def heads() -> list[int]:
    """Return the factors of a first step whose last 0, 1, ... bytes are zeros: moves of 256, 255, ... bytes."""
    pair = power(8 * _STEP + 63), power(8 * _STEP - 1)
    found = []
    for _ in range(_STEP):
        found += [reflected(each, 64) for each in pair]
        pair = _shifted(pair[0], -8), _shifted(pair[1], -8)
    return found


def function(name: str, short: str, attributes: str, declared: set[str]) -> str:
    """Return ``i32 name(i64 address, i64 length)``, which leaves what is no longer than a step to ``short``."""
    code, kind = Code(declared), _LANES.words
    code.label("entry")
    code.branch(code.math("icmp ule", "i64", "%length", _STEP), "few", "many")
    code.label("few")
    code.do(f"ret i32 {code.op(f'call i32 @{short}(i64 %address, i64 %length)')}")
    code.label("many")
    begin = code.op("inttoptr i64 %address to ptr")
    end = code.at(begin, "%length")
    zeros = code.math("and", "i64", code.math("sub", "i64", 0, "%length"), _STEP - 1)
    size = code.math("sub", "i64", _STEP, zeros)
    factors = _LANES.spread(code, code.load("<2 x i64>", f"@{HEADS}", code.math("shl", "i64", zeros, 4), 16))
    second = code.at(begin, size)
    first = [
        code.xor(kind, *_products(code, each, factors), code.load(kind, second, i * _LANES.size))
        for i, each in enumerate(_head(code, begin, size))
    ]
    third = code.at(second, _STEP)
    code.goto("check")
    code.label("check")
    at = code.phi("at", "ptr", [(third, "many"), ("%at.next", "step")])
    sums = [code.phi(f"sum{i}", kind, [(each, "many"), (f"%sum{i}.next", "step")]) for i, each in enumerate(first)]
    code.branch(code.math("icmp ult", "ptr", at, end), "step", "done")
    code.label("step")
    factors = constant("i64", moves(_STEP) * _LANES.count)
    for i, each in enumerate(sums):
        products = _products(code, each, factors)
        code.do(f"%sum{i}.next = xor {kind} {code.xor(kind, *products)}, {code.load(kind, at, i * _LANES.size)}")
    code.do(f"%at.next = getelementptr i8, ptr {at}, i64 {_STEP}")
    code.goto("check")
    code.label("done")
    _finish(code, sums)
    return code.function(f"internal i32 @{name}(i64 %address, i64 %length)", attributes)


def _head(code: Code, begin: Value, size: Value) -> list[Value]:
    """Return the vectors of the first ``size`` bytes and zeros behind them, with the sum of all ones before them."""
    found = []
    for number in range(_SETS):
        # BZHI looks at eight bits of its second operand, so a whole step, 256, would be none.
        what, other = ("usub.sat", number * _LANES.size) if number else ("umin", _LANES.size)
        left = code.call("i64", f"llvm.{what}.i64", f"i64 {size}", f"i64 {other}")
        mask = code.cast(code.call("i64", "llvm.x86.bmi.bzhi.64", "i64 -1", f"i64 {left}"), "i64", "<64 x i1>")
        read = code.load(_LANES.bytes, begin, number * _LANES.size)
        kept = code.op(f"select <64 x i1> {mask}, {_LANES.bytes} {read}, {_LANES.bytes} zeroinitializer")
        found.append(code.cast(kept, _LANES.bytes, _LANES.words))
    ones = constant("i64", [0xFFFFFFFF] + [0] * (2 * _LANES.count - 1))
    return [code.xor(_LANES.words, found[0], ones), *found[1:]]


def _products(code: Code, vector: Value, factors: Value) -> list[Value]:
    """Return two vectors, whose sum has every lane moved on by its factors."""
    return [_LANES.multiply(code, vector, factors, halves) for halves in (0x00, 0x11)]


def _finish(code: Code, sums: Sequence[Value]) -> None:
    """Move every lane to the last 16 bytes, where the last lane is, and return the CRC of their sum."""
    kind, halves = _LANES.words, 2 * _LANES.count
    factors = [factor for distance in range(_STEP - 16, 0, -16) for factor in moves(distance)] + [0, 0]
    terms = []
    for number, each in enumerate(sums):
        terms += _products(code, each, constant("i64", factors[halves * number :][:halves]))
    there = [*range(halves - 2), 2 * halves - 2, 2 * halves - 1]
    terms.append(code.shuffle(kind, "zeroinitializer", there, sums[-1]))
    while len(terms) > 1:  # an instruction adds three
        terms = [code.xor(kind, *terms[i : i + 3]) for i in range(0, len(terms), 3)]
    total = _LANES.fold(code, terms[0])
    crc = "0"
    for half in range(2):
        word = code.op(f"extractelement <2 x i64> {total}, i32 {half}")
        crc = code.call("i64", "llvm.x86.sse42.crc32.64.64", f"i64 {crc}", f"i64 {word}")
    code.do(f"ret i32 {code.math('xor', 'i32', code.op(f'trunc i64 {crc} to i32'), -1)}")
