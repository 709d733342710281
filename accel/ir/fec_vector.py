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

STRIP = 1 << 14
"""Bytes of all sources together that one group of targets after the other is made from, while they lie in L1."""


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
    Variant("gfni512", f"+gfni,{_AVX512}", 64, (4, 4, 4, 4, 3, 3, 2, 2)),
    Variant("gfni256", f"+gfni,{_AVX2}", 32, (4, 4, 2, 2, 2, 1, 1, 1)),
    Variant("avx512", _AVX512, 64, (4, 4, 4, 4, 3, 3, 2, 2)),
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
    """Write ``kernel(sources, k, words, targets, begin, end)``: bytes begin to end of every target."""
    code = Code(
        f"define internal void {name_of(variant, rows, ones)}"
        f"(ptr %sources, i64 %k, ptr %words, ptr %targets, i64 %begin, i64 %end) {variant.attributes}"
    )
    unroll, width = variant.unroll[rows - 1], variant.width
    pairs = code.set("and i64 %k, -2")
    is_odd = code.set("trunc i64 %k to i1")
    size = code.set("sub i64 %end, %begin")
    whole = code.set(f"udiv i64 {size}, {unroll * width}")
    main = code.set(f"mul i64 {whole}, {unroll * width}")
    middle = code.set(f"add i64 %begin, {main}")

    def step(vectors: int, offset: str) -> None:
        one = _Pass(variant, code, rows, ones, vectors, offset)
        zero: list[Typed] = [(variant.vector, "zeroinitializer")] * (rows * vectors)
        sums = code.loop(0, pairs, zero, lambda j, sums: one.add(j, one.add(j, sums, 0), 1), 2)
        last = code.set("sub i64 %k, 1")
        sums = code.when(is_odd, [(variant.vector, each) for each in sums], lambda: one.add(last, sums, 0))
        for row in range(rows):
            place = code.at(code.element("ptr", "%targets", row), offset)
            for u in range(vectors):
                code.store(variant.vector, sums[row * vectors + u], code.at(place, u * width))

    def full(offset: str, _: Values) -> Values:
        step(unroll, offset)
        return []

    def rest(offset: str, _: Values) -> Values:
        latest = code.set(f"sub i64 %end, {width}")
        early = code.set(f"icmp slt i64 {offset}, {latest}")
        step(1, code.set(f"select i1 {early}, i64 {offset}, i64 {latest}"))
        return []

    code.loop("%begin", middle, [], full, unroll * width)
    code.loop(middle, "%end", [], rest, width)
    return code.text()


@dataclass(frozen=True)
class _Pass:
    """One pass over all sources: ``vectors`` vectors at ``offset`` of every unit."""

    variant: Variant
    code: Code
    rows: int
    ones: int
    vectors: int
    offset: str

    def add(self, index: str, sums: Values, following: int) -> Values:
        """Return the sums with the products of source ``index + following``."""
        code, variant = self.code, self.variant
        if following:
            index = code.set(f"add i64 {index}, {following}")
        source = code.at(code.element("ptr", "%sources", index), self.offset)
        units = [code.load(variant.vector, code.at(source, u * variant.width)) for u in range(self.vectors)]
        sums = list(sums)
        products = self.rows - self.ones
        words = code.at("%words", code.set(f"mul i64 {index}, {8 * products}"))
        if self.ones:
            for u, unit in enumerate(units):
                sums[u] = code.set(f"xor {variant.vector} {sums[u]}, {unit}")
        multiply = self._affine(units) if variant.affine else self._nibbles(units)
        for p in range(products):
            for u, product in enumerate(multiply(code.at(words, 8 * p))):
                place = (p + self.ones) * self.vectors + u
                sums[place] = code.set(f"xor {variant.vector} {sums[place]}, {product}")
        return sums

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
    """Write ``expand_<name>(rows, count, k, words)``: the words of a group, [k][count]."""
    code = Code(
        f"define internal void @expand_{variant.name}(ptr %rows, i64 %count, i64 %k, ptr %words) {variant.attributes}"
    )

    def row(p: str, _: Values) -> Values:
        coefficients = code.element("ptr", "%rows", p)
        first = code.at("%words", p, "i64")

        def column(j: str, places: Values) -> Values:
            factor = code.element("i8", coefficients, j, "i64")
            code.store("i64", code.element("i64", variant.table, factor), places[0])
            return [code.at(places[0], "%count", "i64")]

        code.loop(0, "%k", [("ptr", first)], column)
        return []

    code.loop(0, "%count", [], row)
    return code.text()


def _combine(variant: Variant) -> str:
    """Write ``combine_<name>(work)``: groups of rows of about one size, each over the same strip of the sources."""
    code = Code(f"define internal void @combine_{variant.name}(ptr %work) {variant.attributes}")
    most = variant.rows
    k, m, length, ones = (code.load("i64", code.at("%work", place)) for place in _PLACES)
    groups = code.set(f"udiv i64 {code.set(f'add i64 {m}, {most - 1}')}, {most}")
    base, extra = code.set(f"udiv i64 {m}, {groups}"), code.set(f"urem i64 {m}, {groups}")
    places = [code.at("%work", place) for place in (work.SOURCES, work.TARGETS, work.ROWS, work.WORDS)]
    sources, targets, rows, words = places

    def each_group(action: Callable[[str, str, str, str], None]) -> None:
        def body(group: str, state: Values) -> Values:
            first, place = state
            more = code.set(f"zext i1 {code.set(f'icmp slt i64 {group}, {extra}')} to i64")
            count = code.set(f"add i64 {base}, {more}")
            is_first = code.set(f"icmp eq i64 {group}, 0")
            skip = code.set(f"select i1 {is_first}, i64 {ones}, i64 0")
            action(first, count, skip, place)
            used = code.set(f"mul i64 {code.set(f'sub i64 {count}, {skip}')}, {k}")
            return [code.set(f"add i64 {first}, {count}"), code.at(place, used, "i64")]

        code.loop(0, groups, [("i64", "0"), ("ptr", words)], body)

    def expand(first: str, count: str, skip: str, place: str) -> None:
        begin = code.at(rows, code.set(f"add i64 {first}, {skip}"), "ptr")
        products = code.set(f"sub i64 {count}, {skip}")
        code.do(f"call void @expand_{variant.name}(ptr {begin}, i64 {products}, i64 {k}, ptr {place})")

    known = code.load("i64", code.at("%work", work.KNOWN))

    def prepare() -> Values:
        each_group(expand)
        return []

    code.when(code.set(f"icmp eq i64 {known}, 0"), [], prepare)
    size = _strip(variant, code, k, groups, length)

    def strip(begin: str, _: Values) -> Values:
        after = code.set(f"add i64 {begin}, {size}")
        short = code.set(f"icmp slt i64 {after}, {length}")
        end = code.set(f"select i1 {short}, i64 {after}, i64 {length}")

        def run(first: str, count: str, skip: str, place: str) -> None:
            target = code.at(targets, first, "ptr")
            arguments = f"(ptr {sources}, i64 {k}, ptr {place}, ptr {target}, i64 {begin}, i64 {end})"
            case = code.set(f"add i64 {code.set(f'shl i64 {count}, 1')}, {skip}")

            def call(number: int) -> Callable[[], None]:
                return lambda: code.do(f"call void {name_of(variant, number // 2, number % 2)}{arguments}")

            code.select_case(case, {number: call(number) for number in range(2, 2 * most + 2)})

        each_group(run)
        return []

    code.loop(0, length, [], strip, size)
    return code.text()


_PLACES = (work.K, work.M, work.LENGTH, work.ONES)


def _strip(variant: Variant, code: Code, k: str, groups: str, length: str) -> str:
    """Return the bytes of a strip: all when there is one group, else what fits L1."""
    step = 6 * variant.width
    fits = code.set(f"udiv i64 {STRIP}, {k}")
    steps = code.set(f"udiv i64 {fits}, {step}")
    some = code.set(f"call i64 @llvm.umax.i64(i64 {steps}, i64 1)")
    strip = code.set(f"mul i64 {some}, {step}")
    single = code.set(f"icmp eq i64 {groups}, 1")
    return code.set(f"select i1 {single}, i64 {length}, i64 {strip}")
