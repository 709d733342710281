"""The closed form of fec_closed_form with GFNI: a vector of units at a time, products instead of logarithms.

GF2P8MULB and the inverse of GF2P8AFFINEINVQB know one field only, that of AES (polynomial 0x11b). Fields of one size
are isomorphic, and an isomorphism is linear: one affine instruction takes points into the field of AES, one takes
coefficients back.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.gf256 import COLUMNS, ROW_POINT
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_tables import affine_word
from accel.ir.fec_vector import Variant

_AES_POLYNOMIAL = 0x11B
_IDENTITY = affine_word([1 << bit for bit in range(8)])


def aes_product(a: int, b: int) -> int:
    """Return a * b in the field of AES (FIPS 197, section 4.2)."""
    product = 0
    for bit in range(8):
        product ^= (a << bit) * (b >> bit & 1)
    for bit in range(14, 7, -1):
        product ^= (_AES_POLYNOMIAL << bit - 8) * (product >> bit & 1)
    return product


def isomorphism() -> list[int]:
    """Return what 1, 2, 4, ... 128 of our field are in that of AES: the powers of a root of 0x11d there."""
    for root in range(2, 256):
        powers = [1]
        for _ in range(8):
            powers.append(aes_product(powers[-1], root))
        if powers[8] == powers[4] ^ powers[3] ^ powers[2] ^ powers[0]:
            return powers[:8]
    raise AssertionError("fields of 256 elements are isomorphic")


def inverted(columns: list[int]) -> list[int]:
    """Return the columns of the inverse of an 8x8 bit matrix, given its columns."""
    found: dict[int, int] = {}
    for value in range(256):
        image = 0
        for bit in range(8):
            image ^= columns[bit] * (value >> bit & 1)
        found[image] = value
    return [found[1 << bit] for bit in range(8)]


def text(variant: Variant) -> str:
    """Return ``solve_<name>(work, k, m, column, rows, lost)``, which writes MATRIX of the working area."""
    code = Code(
        f"define internal void @solve_{variant.name}"
        f"(ptr %work, i64 %k, i64 %m, i64 %column, ptr %rows, ptr %lost) {variant.attributes}"
    )
    form = _Form(variant, code)
    form.each_vector("%k", form.unit)
    code.loop(0, "%m", [], form.lost_unit)
    form.each_vector("%m", form.head)
    form.each_vector("%k", form.column)
    return code.text()


def intrinsics() -> str:
    """Return the declarations of the instructions."""
    lines = []
    for width in (32, 64):
        vector = f"<{width} x i8>"
        lines.append(f"declare {vector} @llvm.x86.vgf2p8mulb.{8 * width}({vector}, {vector})")
        lines.append(f"declare {vector} @llvm.x86.vgf2p8affineinvqb.{8 * width}({vector}, {vector}, i8 immarg)")
    return "\n".join(lines)


class _Form:
    """Bodies of the loops; vectors are named by the position of their first byte."""

    def __init__(self, variant: Variant, code: Code) -> None:
        self._variant, self._code, self._vector = variant, code, variant.vector
        self._points, self._factors, self._parities, self._matrix = (
            code.at("%work", place) for place in (work.POINTS, work.HEADS, work.PARITIES, work.MATRIX)
        )
        self._lost_points, self._heads = code.at(self._points, COLUMNS), code.at(self._factors, COLUMNS)
        ours = isomorphism()
        self._there, self._back, self._same = (
            self._matrix_of(word) for word in (affine_word(ours), affine_word(inverted(ours)), _IDENTITY)
        )

    def each_vector(self, end: str, body: Callable[[str], None]) -> None:
        """Write a loop over the vectors that hold bytes 0 to ``end``."""

        def one(place: str, _: Values) -> Values:
            body(place)
            return []

        self._code.loop(0, end, [], one, self._variant.width)

    def unit(self, j: str) -> None:
        """Note points of columns and their scales."""
        code, vector, width = self._code, self._vector, self._variant.width
        count = f"<{', '.join(f'i8 {i}' for i in range(width))}>"
        first = self._broadcast(code.set(f"trunc i64 {code.set(f'add i64 %column, {j}')} to i8"))
        columns = code.set(f"and {vector} {code.set(f'add {vector} {first}, {count}')}, {self._splat(COLUMNS - 1)}")
        code.store(vector, columns, code.at(self._points, j))
        code.store(vector, self._xor(columns, self._splat(ROW_POINT)), code.at(self._factors, j))

    def lost_unit(self, q: str, _: Values) -> Values:
        """Put the parity unit in the place of a lost one."""
        code = self._code
        position = code.element("i8", "%lost", q, "i64")
        place = code.at(self._points, position)
        code.store("i8", code.load("i8", place), code.at(self._lost_points, q))
        parity = code.set(f"xor i8 {code.element('i8', '%rows', q)}, {ROW_POINT}")
        code.store("i8", parity, place)
        code.store("i8", parity, code.at(self._parities, q))
        code.store("i8", 1, code.at(self._factors, position))
        return []

    def head(self, q: str) -> None:
        """Note the factors of lost units."""
        code = self._code
        y = code.load(self._vector, code.at(self._lost_points, q))
        of_parities, of_lost = self._products(y)
        under = self._times(of_lost, self._apart(y, self._splat(ROW_POINT)))
        code.store(self._vector, self._times(of_parities, self._inverse(under)), code.at(self._heads, q))

    def column(self, j: str) -> None:
        """Write the coefficients of units for every lost one."""
        code, vector = self._code, self._vector
        z = code.load(vector, code.at(self._points, j))
        scale = self._affine("affineqb", code.load(vector, code.at(self._factors, j)), self._there)
        of_parities, of_lost = self._products(z)
        tail = self._times(self._times(of_lost, self._inverse(of_parities)), scale)
        first = code.at(self._matrix, j)

        def lost(q: str, _: Values) -> Values:
            under = self._apart(z, self._broadcast(code.element("i8", self._lost_points, q)))
            over = self._times(tail, self._broadcast(code.element("i8", self._heads, q)))
            product = self._affine("affineqb", self._times(over, self._inverse(under)), self._back)
            code.store(vector, product, code.at(first, code.set(f"mul i64 {q}, {COLUMNS}")))
            return []

        code.loop(0, "%m", [], lost)

    def _products(self, z: str) -> tuple[str, str]:
        """Return prod (z + x) and prod (z + y)."""
        code = self._code

        def term(r: str, products: Values) -> Values:
            points = (code.element("i8", base, r) for base in (self._parities, self._lost_points))
            factors = [self._apart(z, self._broadcast(point)) for point in points]
            return [self._times(product, factor) for product, factor in zip(products, factors, strict=True)]

        x, y = code.loop(0, "%m", [(self._vector, self._splat(1))] * 2, term)
        return x, y

    def _apart(self, a: str, b: str) -> str:
        """Return the difference of points in the field of AES, 1 for none."""
        code, vector = self._code, self._vector
        apart = self._xor(a, b)
        same = code.set(f"icmp eq {vector} {apart}, zeroinitializer")
        bits = f"<{self._variant.width} x i1>"
        return self._affine(
            "affineqb", code.set(f"select {bits} {same}, {vector} {self._splat(1)}, {vector} {apart}"), self._there
        )

    def _times(self, a: str, b: str) -> str:
        vector = self._vector
        call = f"call {vector} @llvm.x86.vgf2p8mulb.{8 * self._variant.width}"
        return self._code.set(f"{call}({vector} {a}, {vector} {b})")

    def _inverse(self, a: str) -> str:
        return self._affine("affineinvqb", a, self._same)

    def _affine(self, instruction: str, value: str, matrix: str) -> str:
        vector = self._vector
        call = f"call {vector} @llvm.x86.vgf2p8{instruction}.{8 * self._variant.width}"
        return self._code.set(f"{call}({vector} {value}, {vector} {matrix}, i8 0)")

    def _xor(self, a: str, b: str) -> str:
        return self._code.set(f"xor {self._vector} {a}, {b}")

    def _splat(self, value: int) -> str:
        return self._variant.splat(value)

    def _broadcast(self, byte: str) -> str:
        code, vector, width = self._code, self._vector, self._variant.width
        one = code.set(f"insertelement {vector} poison, i8 {byte}, i64 0")
        return code.set(f"shufflevector {vector} {one}, {vector} poison, <{width} x i32> zeroinitializer")

    def _matrix_of(self, word: int) -> str:
        count = self._variant.width // 8
        lanes = f"<{', '.join([f'i64 {word}'] * count)}>"
        return self._code.set(f"bitcast <{count} x i64> {lanes} to {self._vector}")
