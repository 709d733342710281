"""Numbers modulo 2^130 - 5 in limbs, several numbers side by side in vectors: for Poly1305 of many blocks at once.

Two forms: three limbs of 44, 44 and 42 bits where there is a 52-bit multiply-add (AVX-512 IFMA), five limbs of 26 bits
where there is a multiplication of 32 by 32 bits only. Sums of limbs may be a few bits longer between multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accel.ir.aead_code import Code, Value, constant

Limbs = list[Value]


@dataclass(frozen=True)
class Form:
    """How a number is cut: bits of each limb, the lowest first; ``lanes`` numbers in a vector."""

    widths: tuple[int, ...]
    lanes: int

    @property
    def kind(self) -> str:
        """Type of a vector of limbs."""
        return f"<{self.lanes} x i64>"

    @property
    def offsets(self) -> list[int]:
        """Bit at which each limb begins."""
        return [sum(self.widths[:i]) for i in range(len(self.widths))]

    @property
    def order(self) -> list[int]:
        """Which of the blocks that lie side by side in memory each lane has after :func:`load`."""
        half = self.lanes // 2
        return [lane // 2 + (lane % 2) * half for lane in range(self.lanes)]


FUSED = Form((44, 44, 42), 8)
SHORT = Form((26,) * 5, 4)


def cut(code: Code, form: Form, kind: str, low: Value, high: Value, top: Value) -> Limbs:
    """Return limbs of low + 2^64 high + 2^128 top; ``kind`` is i64 or a vector of it."""

    def every(value: int) -> Value:
        return str(value) if kind == "i64" else constant("i64", [value] * form.lanes)

    limbs = []
    for offset, width in zip(form.offsets, form.widths, strict=True):
        if offset + width <= 64:
            limb = code.math("lshr", kind, low, every(offset)) if offset else low
        elif offset < 64:
            limb = code.math("lshr", kind, low, every(offset))
            limb = code.math("or", kind, limb, code.math("shl", kind, high, every(64 - offset)))
        else:
            limb = code.math("lshr", kind, high, every(offset - 64))
        if offset + width < 128:
            limb = code.math("and", kind, limb, every((1 << width) - 1))
        limbs.append(limb)
    moved = code.math("shl", kind, top, every(128 - form.offsets[-1]))
    limbs[-1] = code.math("or", kind, limbs[-1], moved)
    return limbs


def load(code: Code, form: Form, pointer: Value) -> Limbs:
    """Return the ``lanes`` blocks at an address, each with the bit 2^128 that Poly1305 adds."""
    halves = [code.load(form.kind, pointer, 8 * form.lanes * i) for i in range(2)]
    places = range(0, form.lanes, 2)
    low, high = (
        code.shuffle(form.kind, halves[0], [x for i in places for x in (i + part, form.lanes + i + part)], halves[1])
        for part in range(2)
    )
    return cut(code, form, form.kind, low, high, constant("i64", [1] * form.lanes))


def add(code: Code, form: Form, a: Sequence[Value], b: Sequence[Value]) -> Limbs:
    """Return the sum, not carried."""
    return [code.math("add", form.kind, x, y) for x, y in zip(a, b, strict=True)]


def spread(code: Code, form: Form, limbs: Sequence[Value]) -> Limbs:
    """Return limbs given as i64 in all lanes."""
    result = []
    for limb in limbs:
        one = code.op(f"insertelement {form.kind} poison, i64 {limb}, i32 0")
        result.append(code.shuffle(form.kind, one, [0] * form.lanes))
    return result


class Factor(NamedTuple):
    """A number to multiply by: ``limbs``, and ``over``: what limbs 1... count where a product reaches beyond 2^130."""

    limbs: Limbs
    over: Limbs


def factor(code: Code, form: Form, limbs: Sequence[Value]) -> Factor:
    """Return limbs as a factor."""
    over = []
    for limb in limbs[1:]:
        five = code.math("add", form.kind, limb, _shifted(code, form, limb, 2))
        # Limbs 1 and 2 of the long form meet at 2^132, limbs of the short form at 2^130.
        over.append(five if form is SHORT else _shifted(code, form, five, 2))
    return Factor(list(limbs), over)


def _shifted(code: Code, form: Form, limb: Value, bits: int) -> Value:
    return code.math("shl", form.kind, limb, constant("i64", [bits] * form.lanes))


def multiply(code: Code, form: Form, h: Sequence[Value], r: Factor) -> Limbs:
    """Return h • r, carried; the limbs of h may be a few bits longer than their widths."""
    return (_multiply_fused if form is FUSED else _multiply_short)(code, form, h, r)


def _terms(form: Form, r: Factor, i: int) -> list[tuple[int, Value]]:
    """Return, for limb i of a product, which limb of h meets which factor."""
    count = len(form.widths)
    return [(j, r.limbs[i - j] if j <= i else r.over[count + i - j - 1]) for j in range(count)]


def _multiply_fused(code: Code, form: Form, h: Sequence[Value], r: Factor) -> Limbs:
    kind = form.kind
    low: Limbs = ["zeroinitializer"] * 3
    high: Limbs = ["zeroinitializer"] * 3
    for turn in (2, 0, 1):  # the limb of h that the last carry reached comes last
        for i in range(3):
            j, other = _terms(form, r, i)[turn]
            for part, sums in (("l", low), ("h", high)):
                name = f"llvm.x86.avx512.vpmadd52{part}.uq.512"
                sums[i] = code.call(kind, name, *(f"{kind} {x}" for x in (sums[i], h[j], other)))

    def every(value: int) -> str:
        return constant("i64", [value] * form.lanes)

    # The high halves count 2^52: eight bits above the next limb, ten above 2^130 for the last.
    up = [code.math("shl", kind, value, every(8 if i < 2 else 10)) for i, value in enumerate(high)]
    x1 = code.math("add", kind, low[1], up[0])
    x2 = code.math("add", kind, low[2], up[1])
    mask = every((1 << 44) - 1)
    x1 = code.math("add", kind, x1, code.math("lshr", kind, low[0], every(44)))
    x0 = code.math("and", kind, low[0], mask)
    x2 = code.math("add", kind, x2, code.math("lshr", kind, x1, every(44)))
    x1 = code.math("and", kind, x1, mask)
    over_top = code.math("add", kind, up[2], code.math("lshr", kind, x2, every(42)))
    x2 = code.math("and", kind, x2, every((1 << 42) - 1))
    four = code.math("shl", kind, over_top, every(2))
    x0 = code.math("add", kind, code.math("add", kind, x0, over_top), four)
    x1 = code.math("add", kind, x1, code.math("lshr", kind, x0, every(44)))
    return [code.math("and", kind, x0, mask), x1, x2]


def _multiply_short(code: Code, form: Form, h: Sequence[Value], r: Factor) -> Limbs:
    kind = form.kind

    def every(value: int) -> str:
        return constant("i64", [value] * form.lanes)

    def word(x: Value) -> Value:  # says that one multiplication of 32 bits is enough; costs nothing
        return code.math("and", kind, x, every(0xFFFFFFFF))

    sums = []
    for i in range(5):
        total = ""
        for j, other in _terms(form, r, i):
            product = code.math("mul", kind, word(h[j]), word(other))
            total = code.math("add", kind, total, product) if total else product
        sums.append(total)
    mask = every((1 << 26) - 1)
    for i in (0, 3, 1, 4, 2, 0, 3):  # two chains of carries side by side
        carry = code.math("lshr", kind, sums[i], every(26))
        sums[i] = code.math("and", kind, sums[i], mask)
        if i == 4:
            carry = code.math("add", kind, carry, code.math("shl", kind, carry, every(2)))
        sums[(i + 1) % 5] = code.math("add", kind, sums[(i + 1) % 5], carry)
    return sums


def powers(code: Code, form: Form, r: Sequence[Value]) -> tuple[Factor, Factor]:
    """Return r^lanes in all lanes, and r^lanes down to r^1, for the block that each lane has; r is spread."""
    power = multiply(code, form, r, factor(code, form, r))
    descending = [
        code.shuffle(form.kind, a, [0, form.lanes] * (form.lanes // 2), b) for a, b in zip(power, r, strict=True)
    ]
    count = 2
    while count < form.lanes:
        next_ = multiply(code, form, descending, factor(code, form, power))
        places = [*range(count), *range(form.lanes, form.lanes + count)]
        descending = [
            code.shuffle(form.kind, a, (places * form.lanes)[: form.lanes], b)
            for a, b in zip(next_, descending, strict=True)
        ]
        count *= 2
        power = [code.shuffle(form.kind, limb, [0] * form.lanes) for limb in descending]
    ordered = [code.shuffle(form.kind, limb, form.order) for limb in descending]
    return factor(code, form, power), factor(code, form, ordered)


def total(code: Code, form: Form, limbs: Sequence[Value]) -> tuple[Value, Value, Value]:
    """Return the sum over the lanes as low, high (64 bits each) and top (a few bits)."""
    name = f"llvm.vector.reduce.add.v{form.lanes}i64"
    sums = [code.call("i64", name, f"{form.kind} {limb}") for limb in limbs]
    count = len(sums)
    for i in (*range(count), 0):
        carry = code.math("lshr", "i64", sums[i], form.widths[i])
        sums[i] = code.math("and", "i64", sums[i], (1 << form.widths[i]) - 1)
        carry = code.math("mul", "i64", carry, 5) if i == count - 1 else carry
        sums[(i + 1) % count] = code.math("add", "i64", sums[(i + 1) % count], carry)
    whole = "0"
    for limb, offset in zip(sums, form.offsets, strict=True):
        moved = code.math("shl", "i192", code.op(f"zext i64 {limb} to i192"), offset)
        whole = code.math("add", "i192", whole, moved)
    parts = [code.math("lshr", "i192", whole, 64 * i) for i in range(3)]
    low, high, top = (code.op(f"trunc i192 {part} to i64") for part in parts)
    return low, high, top
