"""Poly1305 (RFC 8439, section 2.5) by 64-bit integers, and GHASH of a plain machine: authenticators of a whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accel.ir import aead_limbs as limbs
from accel.ir.aead_code import Code, Value
from accel.ir.aead_layout import POWERS_END
from accel.ir.aead_limbs import Factor, Form

_HEAD = "(ptr %record, ptr %one_time, <2 x i64> %first, ptr %text, i64 %n, i64 %aad_bits)"
_WORTH_IT = 32
"""Bytes for each lane of a vector, below which the powers of r are not worth their price."""
_CLAMP = (0x0FFFFFFC0FFFFFFF, 0x0FFFFFFC0FFFFFFC)


class _Poly:
    """h := (h + block) • r modulo 2^130 - 5; h is (64 bits, 64 bits, a few)."""

    def __init__(self, code: Code) -> None:
        self.code = code
        r = [code.math("and", "i64", code.load("i64", "%one_time", 8 * i), _CLAMP[i]) for i in range(2)]
        # The clamp makes the lowest two bits of r1 zero: 5/4 of it is whole, and 2^128 = 5/4 * 2^-2 * 2^130.
        folded = code.math("add", "i64", r[1], code.math("lshr", "i64", r[1], 2))
        self.r0, self.r1, self.s1 = (self.wide(value) for value in (*r, folded))

    def wide(self, value: Value) -> Value:
        """Return an i64 as an i128."""
        return self.code.op(f"zext i64 {value} to i128")

    def narrow(self, value: Value) -> Value:
        """Return the low half of an i128."""
        return self.code.op(f"trunc i128 {value} to i64")

    def upper(self, value: Value) -> Value:
        """Return the upper half of an i128, as an i128."""
        return self.code.math("lshr", "i128", value, 64)

    def add(self, *values: Value) -> Value:
        """Return the sum of i128s."""
        total = values[0]
        for value in values[1:]:
            total = self.code.math("add", "i128", total, value)
        return total

    def times(self, a: Value, b: Value) -> Value:
        """Return the product of i128s."""
        return self.code.math("mul", "i128", a, b)

    def absorb(self, h: tuple[Value, Value, Value], block: Value) -> tuple[Value, Value, Value]:
        """Return h after one block of 16 bytes (i128)."""
        low = self.add(self.wide(h[0]), self.wide(self.narrow(block)))
        high = self.add(self.wide(h[1]), self.upper(block), self.upper(low))
        top = self.code.math("add", "i64", h[2], 1)
        top = self.wide(self.code.math("add", "i64", top, self.narrow(self.upper(high))))
        a, b = self.wide(self.narrow(low)), self.wide(self.narrow(high))
        d0 = self.add(self.times(a, self.r0), self.times(b, self.s1))
        d1 = self.add(self.times(a, self.r1), self.times(b, self.r0), self.times(top, self.s1), self.upper(d0))
        d2 = self.narrow(self.add(self.times(top, self.r0), self.upper(d1)))
        # What lies above bit 130 comes back five times.
        above = self.code.math("and", "i64", d2, -4)
        five = self.code.math("add", "i64", above, self.code.math("lshr", "i64", above, 2))
        low = self.add(self.wide(self.narrow(d0)), self.wide(five))
        high = self.add(self.wide(self.narrow(d1)), self.upper(low))
        top = self.code.math("add", "i64", self.code.math("and", "i64", d2, 3), self.narrow(self.upper(high)))
        return self.narrow(low), self.narrow(high), top

    def step(self, h: Sequence[Value], block: Value) -> list[Value]:
        """Return the same for a state that is a sequence."""
        return list(self.absorb((h[0], h[1], h[2]), block))

    def tag(self, h: Sequence[Value]) -> Value:
        """Return h modulo 2^130 - 5, plus s (section 2.5.1), as <2 x i64>."""
        code = self.code
        low = self.add(self.wide(h[0]), "5")
        high = self.add(self.wide(h[1]), self.upper(low))
        over = code.math("add", "i64", h[2], self.narrow(self.upper(high)))
        big = code.math("icmp ugt", "i64", over, 3)
        a = code.op(f"select i1 {big}, i64 {self.narrow(low)}, i64 {h[0]}")
        b = code.op(f"select i1 {big}, i64 {self.narrow(high)}, i64 {h[1]}")
        whole = code.math("or", "i128", self.wide(a), code.math("shl", "i128", self.wide(b), 64))
        return code.cast(self.add(whole, code.load("i128", "%one_time", 16, 16)), "i128", "<2 x i64>")


def poly1305(name: str, attributes: str, declared: set[str]) -> str:
    """Return the authenticator of ChaCha20-Poly1305 (section 2.8), as accel.ir.aead_stream has it."""
    code = Code(declared)
    code.label("entry")
    code.do("%room = alloca i128, align 16")
    poly = _Poly(code)
    state = _begin(code, poly)
    end = _absorb_text(code, "i64", state, poly.step)
    _finish(code, poly, end)
    return code.function(f"internal <2 x i64> @{name}{_HEAD}", attributes)


def _begin(code: Code, poly: _Poly) -> list[Value]:
    """Return h after the associated data, of a block at most."""
    block = code.cast("%first", "<2 x i64>", "i128")
    some = code.math("icmp ne", "i64", "%aad_bits", 0)
    # A block of zeros is not nothing: it has a bit at 2^128. Without associated data there must be no block.
    return [code.op(f"select i1 {some}, i64 {after}, i64 0") for after in poly.step(("0", "0", "0"), block)]


def _finish(code: Code, poly: _Poly, h: Sequence[Value]) -> None:
    """Emit the block of the lengths, and the return of the tag."""
    aad = poly.wide(code.math("lshr", "i64", "%aad_bits", 3))
    lengths = code.math("or", "i128", aad, code.math("shl", "i128", poly.wide("%n"), 64))
    code.do(f"ret <2 x i64> {poly.tag(poly.step(h, lengths))}")


def poly1305_wide(name: str, scalar: str, form: Form, attributes: str, declared: set[str]) -> str:
    """Return the same by vectors: single blocks until their number is a multiple of the lanes, then all lanes at once.

    A text too short for it is done by the function ``scalar``.
    """
    code = Code(declared)
    code.label("entry")
    code.branch(code.math("icmp ult", "i64", "%n", _WORTH_IT * form.lanes), "short", "long")
    code.label("short")
    code.do(f"%done = tail call <2 x i64> @{scalar}{_HEAD}")
    code.do("ret <2 x i64> %done")
    code.label("long")
    code.do("%room = alloca i128, align 16")
    poly = _Poly(code)
    r = limbs.cut(code, form, "i64", poly.narrow(poly.r0), poly.narrow(poly.r1), "0")
    power, descending = limbs.powers(code, form, limbs.spread(code, form, r))
    state = _begin(code, poly)
    blocks = code.math("lshr", "i64", "%n", 4)
    single = code.math("shl", "i64", code.math("and", "i64", blocks, form.lanes - 1), 4)
    h, at = _singles(code, poly, state, single)
    first = [
        f"insertelement {form.kind} zeroinitializer, i64 {limb}, i32 0" for limb in limbs.cut(code, form, "i64", *h)
    ]
    start = limbs.add(code, form, [code.op(text) for text in first], limbs.load(code, form, code.at("%text", at)))
    whole = code.math("and", "i64", "%n", -16)
    last = _vectors(code, form, power, start, (at, whole))
    after = limbs.total(code, form, limbs.multiply(code, form, last, descending))
    code.goto("rest")
    code.label("rest")
    _finish(code, poly, _absorb_end(code, "i64", after, poly.step, whole))
    return code.function(f"internal <2 x i64> @{name}{_HEAD}", attributes)


def _singles(code: Code, poly: _Poly, state: Sequence[Value], size: Value) -> tuple[list[Value], Value]:
    """Emit the loop over the first ``size`` bytes; return h and where it ended."""
    code.branch(code.math("icmp ne", "i64", size, 0), "single", "even")
    code.label("single")
    at = code.phi("single.at", "i64", [(0, "long"), ("%single.next", "single")])
    held = [code.phi(f"single.{i}", "i64", [(v, "long"), (f"%single.{i}.next", "single")]) for i, v in enumerate(state)]
    for i, value in enumerate(poly.step(held, code.load("i128", "%text", at))):
        code.do(f"%single.{i}.next = add i64 {value}, 0")
    code.do(f"%single.next = add i64 {at}, 16")
    code.branch(code.math("icmp ult", "i64", "%single.next", size), "single", "even")
    code.label("even")
    h = [code.phi(f"even.{i}", "i64", [(v, "long"), (f"%single.{i}.next", "single")]) for i, v in enumerate(state)]
    return h, code.phi("even.at", "i64", [(0, "long"), ("%single.next", "single")])


def _vectors(code: Code, form: Form, power: Factor, start: Sequence[Value], span: tuple[Value, Value]) -> list[Value]:
    """Emit the loop over whole vectors behind the first, which is in ``start``, up to a byte; return h."""
    size = 16 * form.lanes
    begin = code.math("add", "i64", span[0], size)
    code.branch(code.math("icmp ult", "i64", begin, span[1]), "vector", "vectored")
    code.label("vector")
    at = code.phi("vector.at", "i64", [(begin, "even"), ("%vector.next", "vector")])
    held = [
        code.phi(f"vector.{i}", form.kind, [(v, "even"), (f"%vector.{i}.next", "vector")]) for i, v in enumerate(start)
    ]
    text = limbs.load(code, form, code.at("%text", at))
    for i, value in enumerate(limbs.add(code, form, limbs.multiply(code, form, held, power), text)):
        code.do(f"%vector.{i}.next = bitcast {form.kind} {value} to {form.kind}")
    code.do(f"%vector.next = add i64 {at}, {size}")
    code.branch(code.math("icmp ult", "i64", "%vector.next", span[1]), "vector", "vectored")
    code.label("vectored")
    return [
        code.phi(f"done.{i}", form.kind, [(v, "even"), (f"%vector.{i}.next", "vector")]) for i, v in enumerate(start)
    ]


def ghash(name: str, dot: str, attributes: str, declared: set[str]) -> str:
    """Return the authenticator of AES-GCM (NIST SP 800-38D, section 7.1), block by block."""
    code = Code(declared)
    code.label("entry")
    code.do("%room = alloca i128, align 16")
    h = code.load("i128", "%record", POWERS_END - 16, 16)

    def step(y: Sequence[Value], block: Value) -> list[Value]:
        turned = code.call("i128", "llvm.bswap.i128", f"i128 {block}")
        return [code.op(f"call i128 @{dot}(i128 {code.xor('i128', y[0], turned)}, i128 {h})")]

    start = step(["0"], code.cast("%first", "<2 x i64>", "i128"))
    end = _absorb_text(code, "i128", start, step)
    bits = code.op(f"zext i64 {code.math('shl', 'i64', '%n', 3)} to i128")
    aad = code.math("shl", "i128", code.op("zext i64 %aad_bits to i128"), 64)
    lengths = code.call("i128", "llvm.bswap.i128", f"i128 {code.math('or', 'i128', bits, aad)}")
    tag = code.call("i128", "llvm.bswap.i128", f"i128 {step(end, lengths)[0]}")
    tag = code.xor("i128", tag, code.load("i128", "%one_time", 0, 16))
    code.do(f"ret <2 x i64> {code.cast(tag, 'i128', '<2 x i64>')}")
    return code.function(f"internal <2 x i64> @{name}{_HEAD}", attributes)


_Step = Callable[[Sequence[Value], Value], Sequence[Value]]


def _absorb_text(code: Code, kind: str, state: Sequence[Value], step: _Step) -> list[Value]:
    """Emit, from block ``entry``, all blocks of the text, the last padded with zeros; return the state after them."""
    code.branch(code.math("icmp uge", "i64", "%n", 16), "whole", "rest")
    code.label("whole")
    at = code.phi("at", "i64", [(0, "entry"), ("%at.next", "whole")])
    held = [code.phi(f"h{i}", kind, [(v, "entry"), (f"%h{i}.next", "whole")]) for i, v in enumerate(state)]
    for i, value in enumerate(step(held, code.load("i128", "%text", at))):
        code.do(f"%h{i}.next = bitcast {kind} {value} to {kind}")
    code.do(f"%at.next = add i64 {at}, 16")
    code.branch(code.math("icmp ule", "i64", code.math("add", "i64", at, 32), "%n"), "whole", "rest")
    code.label("rest")
    begun = code.phi("begun", "i64", [(0, "entry"), ("%at.next", "whole")])
    whole = [code.phi(f"w{i}", kind, [(v, "entry"), (f"%h{i}.next", "whole")]) for i, v in enumerate(state)]
    return _absorb_end(code, kind, whole, step, begun)


def _absorb_end(code: Code, kind: str, state: Sequence[Value], step: _Step, begun: Value) -> list[Value]:
    """Emit, from block ``rest``, what follows byte ``begun``, less than a block; return the state after it."""
    code.branch(code.math("icmp ult", "i64", begun, "%n"), "pad", "end")
    code.label("pad")
    code.store("i128", "0", "%room", 0, 16)
    code.goto("byte")
    code.label("byte")
    place = code.phi("place", "i64", [(begun, "pad"), ("%place.next", "byte")])
    code.store("i8", code.load("i8", "%text", place), "%room", code.math("sub", "i64", place, begun))
    code.do(f"%place.next = add i64 {place}, 1")
    code.branch(code.math("icmp ult", "i64", "%place.next", "%n"), "byte", "padded")
    code.label("padded")
    padded = step(state, code.load("i128", "%room", 0, 16))
    code.goto("end")
    code.label("end")
    pairs = enumerate(zip(state, padded, strict=True))
    return [code.phi(f"e{i}", kind, [(a, "rest"), (b, "padded")]) for i, (a, b) in pairs]
