"""Kernels with vectors: several targets at once for each load of a source, accumulators in registers over all sources.

A multiplication is one GF2P8AFFINEQB with the factor's matrix, or two shuffles of nibble tables. One kernel is made
for each number of targets, and one more for a first target that is the plain XOR of the sources (row 0 of the matrix).
Bytes after the last full vector are done by a vector that ends with the unit and overlaps the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Typed, Values

STRIP = 1 << 15
"""Bytes of all sources together that one group of targets after the other is made from, while they lie in L1."""
_LINE = 64
_FEW = 4
"""Targets up to which fetching the next vectors early did not pay (Zen 5, GFNI: 2 % lost; 6 targets: 8 % won)."""


@dataclass(frozen=True)
class Variant:
    """One instruction set.

    Attributes
    ----------
    name
        As in the names of functions.
    features
        For LLVM.
    width
        Bytes of a vector.
    unroll
        Vectors of each target in registers, by the number of targets.
    """

    name: str
    features: str
    width: int
    unroll: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Targets at once."""
        return len(self.unroll)

    @property
    def affine(self) -> bool:
        """Whether it has GFNI; else nibbles are shuffled."""
        return "+gfni" in self.features

    @property
    def attributes(self) -> str:
        """Of its functions."""
        return f'nounwind "target-features"="{self.features}" "min-legal-vector-width"="{8 * self.width}"'

    @property
    def vector(self) -> str:
        """Type of a vector."""
        return f"<{self.width} x i8>"

    @property
    def table(self) -> str:
        """What the words of coefficients are taken from: matrices, or places in the nibble tables."""
        return "@affine" if self.affine else "@nibble_places"

    def splat(self, value: int) -> str:
        """Return a constant vector."""
        return f"<{', '.join([f'i8 {value}'] * self.width)}>"


_AVX2 = "+avx2,+bmi2"
_AVX512 = "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx2,+bmi2"
VARIANTS = (
    Variant("gfni512", f"+gfni,{_AVX512}", 64, (4, 4, 4, 4, 2, 2, 2, 2)),
    Variant("gfni256", f"+gfni,{_AVX2}", 32, (4, 4, 3, 2)),
    Variant("avx512", _AVX512, 64, (4, 4, 4, 4)),
    Variant("avx2", _AVX2, 32, (4, 2, 2, 2)),
)


def text(variant: Variant) -> str:
    """Return ``combine_<name>(work)`` and its kernels."""
    kernels = [_kernel(variant, rows, ones) for rows in range(1, variant.rows + 1) for ones in (0, 1)]
    return "\n".join([*kernels, _expand(variant), _combine(variant)])


def constants() -> str:
    """Return where the nibble tables begin, by coefficient."""
    return f"@nibble_places = private constant [256 x i64] [{', '.join(f'i64 {32 * i}' for i in range(256))}], align 64"


def intrinsics() -> str:
    """Return the declarations of the instructions."""
    lines = []
    for width in (32, 64):
        vector = f"<{width} x i8>"
        shuffle = "avx2.pshuf.b" if width == 32 else "avx512.pshuf.b.512"
        lines.append(f"declare {vector} @llvm.x86.vgf2p8affineqb.{8 * width}({vector}, {vector}, i8 immarg)")
        lines.append(f"declare {vector} @llvm.x86.{shuffle}({vector}, {vector})")
    return "\n".join(lines)


def name_of(variant: Variant, rows: int, ones: int) -> str:
    """Return the name of a kernel."""
    return f"@{variant.name}_{rows}{'_ones' if ones else ''}"


def _kernel(variant: Variant, rows: int, ones: int) -> str:
    """Write ``kernel(base, sources, k, words, targets, begin, end)``: bytes begin to end of every target."""
    code = Code(
        f"define internal void {name_of(variant, rows, ones)}"
        f"(ptr %base, ptr %sources, i64 %k, ptr %words, ptr %targets, i64 %begin, i64 %end) {variant.attributes}"
    )
    unroll, width = variant.unroll[rows - 1], variant.width
    pairs = code.set("and i64 %k, -2")
    is_odd = code.set("trunc i64 %k to i1")
    size = code.set("sub i64 %end, %begin")
    whole = code.set(f"udiv i64 {size}, {unroll * width}")
    main = code.set(f"mul i64 {whole}, {unroll * width}")
    middle = code.set(f"add i64 %begin, {main}")

    def step(places: list[_Place]) -> None:
        one = _Pass(variant, code, rows, ones, places)
        zero: list[Typed] = [(variant.vector, "zeroinitializer")] * (rows * len(places))
        sums = code.loop(0, pairs, zero, lambda j, sums: one.add(j, one.add(j, sums, 0), 1), 2)
        last = code.set("sub i64 %k, 1")
        sums = code.when(is_odd, [(variant.vector, each) for each in sums], lambda: one.add(last, sums, 0))
        for row in range(rows):
            for place, each in zip(one.within(code.element("i64", "%targets", row)), sums[row::rows], strict=True):
                code.store(variant.vector, each, place)

    def full(offset: str, _: Values) -> Values:
        step([_Place(offset, u * width) for u in range(unroll)])
        return []

    def rest(vectors: int) -> Callable[[], None]:
        return lambda: step([*(_Place(middle, u * width) for u in range(vectors - 1)), _Place(latest, 0)])

    code.loop("%begin", middle, [], full, unroll * width)
    latest = code.set(f"sub i64 %end, {width}")
    left = code.set(f"add i64 {code.set(f'sub i64 %end, {middle}')}, {width - 1}")
    code.select_case(code.set(f"udiv i64 {left}, {width}"), {n: rest(n) for n in range(1, unroll + 1)})
    return code.text()


@dataclass(frozen=True)
class _Place:
    """A vector of every unit: ``constant`` bytes after ``offset``."""

    offset: str
    constant: int


@dataclass(frozen=True)
class _Pass:
    """One pass over all sources, for some vectors of every unit. Sums are ordered by vector, then by target."""

    variant: Variant
    code: Code
    rows: int
    ones: int
    places: list[_Place]

    def add(self, index: str, sums: Values, following: int) -> Values:
        """Return the sums with the products of source ``index + following``."""
        code, variant = self.code, self.variant
        if following:
            index = code.set(f"add i64 {index}, {following}")
        places = self.within(code.element("i64", "%sources", index))
        units = [code.load(variant.vector, place) for place in places]
        if self.rows > _FEW and len(places) > 1 and variant.affine and variant.width == _LINE:
            for place in places:
                later = code.at(place, len(places) * _LINE)
                code.do(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
        sums = list(sums)
        words = code.at("%words", code.set(f"mul i64 {index}, {8 * (self.rows - self.ones)}"))
        if self.ones:
            for u, unit in enumerate(units):
                sums[u * self.rows] = code.set(f"xor {variant.vector} {sums[u * self.rows]}, {unit}")
        multiply = self._affine(units) if variant.affine else self._nibbles(units)
        for row in range(self.ones, self.rows):
            for u, product in enumerate(multiply(code.at(words, 8 * (row - self.ones)))):
                n = u * self.rows + row
                sums[n] = code.set(f"xor {variant.vector} {sums[n]}, {product}")
        return sums

    def within(self, unit: str) -> Values:
        """Return the addresses of the vectors of a unit, given its offset."""
        code = self.code
        starts = {place.offset: code.at(code.at("%base", place.offset), unit) for place in self.places}
        return [code.at(starts[place.offset], place.constant) for place in self.places]

    def _affine(self, units: Values) -> Callable[[str], Values]:
        code, vector, width = self.code, self.variant.vector, self.variant.width

        def multiply(word: str) -> Values:
            lanes = f"<{width // 8} x i64>"
            one = code.set(f"insertelement {lanes} poison, i64 {code.load('i64', word)}, i64 0")
            all_lanes = code.set(f"shufflevector {lanes} {one}, {lanes} poison, <{width // 8} x i32> zeroinitializer")
            matrix = code.set(f"bitcast {lanes} {all_lanes} to {vector}")
            call = f"call {vector} @llvm.x86.vgf2p8affineqb.{8 * width}"
            return [code.set(f"{call}({vector} {unit}, {vector} {matrix}, i8 0)") for unit in units]

        return multiply

    def _nibbles(self, units: Values) -> Callable[[str], Values]:
        code, vector, width = self.code, self.variant.vector, self.variant.width
        mask = self.variant.splat(15)
        lows = [code.set(f"and {vector} {unit}, {mask}") for unit in units]
        highs = [code.set(f"lshr {vector} {unit}, {self.variant.splat(4)}") for unit in units]
        shuffle = "avx2.pshuf.b" if width == 32 else "avx512.pshuf.b.512"
        call = f"call {vector} @llvm.x86.{shuffle}"
        repeat = f"<{width} x i32> <{', '.join(f'i32 {i % 16}' for i in range(width))}>"

        def table(place: str) -> str:
            half = code.load("<16 x i8>", place)
            return code.set(f"shufflevector <16 x i8> {half}, <16 x i8> poison, {repeat}")

        def multiply(word: str) -> Values:
            place = code.at("@nibbles", code.load("i64", word))
            low, high = table(place), table(code.at(place, 16))
            products = []
            for a, b in zip(lows, highs, strict=True):
                of_low = code.set(f"{call}({vector} {low}, {vector} {a})")
                of_high = code.set(f"{call}({vector} {high}, {vector} {b})")
                products.append(code.set(f"xor {vector} {of_low}, {of_high}"))
            return products

        return multiply


def _expand(variant: Variant) -> str:
    """Write ``expand_<name>(rows, count, k, words, order)``: the words of a group, [k][count]."""
    code = Code(
        f"define internal void @expand_{variant.name}"
        f"(ptr %rows, i64 %count, i64 %k, ptr %words, ptr %order) {variant.attributes}"
    )

    def row(p: str, _: Values) -> Values:
        coefficients = code.element("ptr", "%rows", p)
        first = code.at("%words", p, "i64")

        def column(j: str, places: Values) -> Values:
            factor = code.element("i8", coefficients, code.element("i8", "%order", j, "i64"), "i64")
            code.store("i64", code.element("i64", variant.table, factor), places[0])
            return [code.at(places[0], "%count", "i64")]

        code.loop(0, "%k", [("ptr", first)], column)
        return []

    code.loop(0, "%count", [], row)
    return code.text()


def _combine(variant: Variant) -> str:
    """Write ``combine_<name>(work)``: as many targets at once as there are registers for."""
    code = Code(f"define internal void @combine_{variant.name}(ptr %work) {variant.attributes}")
    groups = _Groups(variant, code)
    few = code.set(f"icmp sle i64 {groups.m}, {variant.rows}")
    code.select_case(code.set(f"zext i1 {few} to i64"), {0: groups.several, 1: groups.single})
    return code.text()


class _Groups:
    """Targets in groups of about one size, each from the same strip of the sources while that lies in L1."""

    def __init__(self, variant: Variant, code: Code) -> None:
        self._variant, self._code = variant, code
        self._k, self.m, self._length, self._ones, self._known = (
            code.load("i64", code.at("%work", place)) for place in (work.K, work.M, work.LENGTH, work.ONES, work.KNOWN)
        )
        self._base, self._sources, self._targets, self._order = (
            code.load("ptr", code.at("%work", place)) for place in (work.BASE, work.SOURCES, work.TARGETS, work.ORDER)
        )
        self._rows, self._words = code.at("%work", work.ROWS), code.at("%work", work.WORDS)

    def single(self) -> None:
        """Write the common case: all targets are one group."""
        self._prepare(lambda: self._expand("0", self.m, self._ones, self._words))
        self._call("0", self.m, self._ones, self._words, ("0", self._length))

    def several(self) -> None:
        """Write the case of several groups."""
        self._prepare(lambda: self._each(self._expand))
        code, step = self._code, 6 * self._variant.width
        steps = code.set(f"udiv i64 {STRIP // step}, {self._k}")
        size = code.set(f"mul i64 {code.set(f'call i64 @llvm.umax.i64(i64 {steps}, i64 1)')}, {step}")

        def strip(begin: str, _: Values) -> Values:
            after = code.set(f"add i64 {begin}, {size}")
            end = code.set(f"call i64 @llvm.smin.i64(i64 {after}, i64 {self._length})")
            self._each(lambda first, count, skip, place: self._call(first, count, skip, place, (begin, end)))
            return []

        code.loop(0, self._length, [], strip, size)

    def _prepare(self, action: Callable[[], None]) -> None:
        def act() -> Values:
            action()
            return []

        self._code.when(self._code.set(f"icmp eq i64 {self._known}, 0"), [], act)

    def _each(self, action: Callable[[str, str, str, str], None]) -> None:
        """Write a loop over groups: first target, targets, targets without products, words."""
        code, most = self._code, self._variant.rows
        groups = code.set(f"udiv i64 {code.set(f'add i64 {self.m}, {most - 1}')}, {most}")
        base, extra = code.set(f"udiv i64 {self.m}, {groups}"), code.set(f"urem i64 {self.m}, {groups}")

        def body(group: str, state: Values) -> Values:
            first, place = state
            more = code.set(f"zext i1 {code.set(f'icmp slt i64 {group}, {extra}')} to i64")
            count = code.set(f"add i64 {base}, {more}")
            is_first = code.set(f"icmp eq i64 {group}, 0")
            skip = code.set(f"select i1 {is_first}, i64 {self._ones}, i64 0")
            action(first, count, skip, place)
            used = code.set(f"mul i64 {code.set(f'sub i64 {count}, {skip}')}, {self._k}")
            return [code.set(f"add i64 {first}, {count}"), code.at(place, used, "i64")]

        code.loop(0, groups, [("i64", "0"), ("ptr", self._words)], body)

    def _expand(self, first: str, count: str, skip: str, place: str) -> None:
        code = self._code
        begin = code.at(self._rows, code.set(f"add i64 {first}, {skip}"), "ptr")
        products = code.set(f"sub i64 {count}, {skip}")
        units = f"i64 {products}, i64 {self._k}, ptr {place}, ptr {self._order}"
        code.do(f"call void @expand_{self._variant.name}(ptr {begin}, {units})")

    def _call(self, first: str, count: str, skip: str, place: str, span: tuple[str, str]) -> None:
        code, variant = self._code, self._variant
        target = code.at(self._targets, first, "i64")
        units = f"ptr {self._base}, ptr {self._sources}, i64 {self._k}, ptr {place}, ptr {target}"
        case = code.set(f"add i64 {code.set(f'shl i64 {count}, 1')}, {skip}")

        def call(number: int) -> Callable[[], None]:
            name = name_of(variant, number // 2, number % 2)
            return lambda: code.do(f"call void {name}({units}, i64 {span[0]}, i64 {span[1]})")

        code.select_case(case, {number: call(number) for number in range(2, 2 * variant.rows + 2)})
