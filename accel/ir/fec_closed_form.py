"""The coefficients that rebuild lost units, in closed form: O(losses) operations for each unit of the span.

With points x_r of the parity rows, y_j of the columns and the column's scale D_j = 128 ^ j (accel/gf256), a lost unit
q is the sum over all k units that are there (parity r stands where lost unit r was) of

    prod_r (x_r + y_q) / (prod_{r != q} (y_q + y_r) D_q)
    * prod_r (z_j + y_r) / prod_r (z_j + x_r) * (D_j if it is data) / (z_j + y_q)

times the unit, z_j being its point, x or y, and a factor 0 standing for 1: the residues of the rational function that
vanishes at every x and has its poles at the lost y (Lagrange; the inverse of a Cauchy matrix, Schechter 1959).
Elimination would cost O(losses^3) per block, and every block has a fresh pattern.
"""

from __future__ import annotations

from accel.gf256 import COLUMNS, ROW_POINT
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_tables import MODULUS

_MANY = 256 * MODULUS
"""Makes a sum of at most 128 + 1 negative logarithms positive."""


def text() -> str:
    """Return ``solve_plain(work, k, m, column, rows, lost)``, which writes MATRIX of the working area."""
    code = Code(
        "define internal void @solve_plain(ptr %work, i64 %k, i64 %m, i64 %column, ptr %rows, ptr %lost) nounwind"
    )
    form = _Form(code)
    code.loop(0, "%k", [], form.unit)
    code.loop(0, "%m", [], form.lost_unit)
    code.loop(0, "%m", [], form.head)
    code.loop(0, "%k", [], form.column)
    return code.text()


class _Form:
    """Bodies of the loops: units of the span by j, lost units and parities by q."""

    def __init__(self, code: Code) -> None:
        self._code = code
        self._points, self._heads = code.at("%work", work.POINTS), code.at("%work", work.HEADS)
        self._matrix = code.at("%work", work.MATRIX)
        self._lost_points, self._scales = code.at(self._points, COLUMNS), code.at(self._heads, COLUMNS)

    def unit(self, j: str, _: Values) -> Values:
        """Note point and scale of a unit as if it were there."""
        code = self._code
        column = code.set(f"and i64 {code.set(f'add i64 %column, {j}')}, {COLUMNS - 1}")
        self._put(self._points, j, column)
        self._put(self._scales, j, self._apart(column, str(ROW_POINT)))
        return []

    def lost_unit(self, q: str, _: Values) -> Values:
        """Put the parity unit in the place of a lost one."""
        code = self._code
        position = code.element("i8", "%lost", q, "i64")
        code.store("i8", code.element("i8", self._points, position), code.at(self._lost_points, q))
        self._put(self._points, position, self._parity_point(q))
        code.store("i8", 0, code.at(self._scales, position))
        return []

    def head(self, q: str, _: Values) -> Values:
        """Note the logarithm of a lost unit's factor."""
        code = self._code
        y = code.element("i8", self._lost_points, q, "i64")
        power = code.set(f"sub i64 {self._products(y)}, {self._apart(y, str(ROW_POINT))}")
        self._put(self._heads, q, code.set(f"urem i64 {power}, {MODULUS}"))
        return []

    def column(self, j: str, _: Values) -> Values:
        """Write the coefficients of a unit."""
        code = self._code
        z = code.element("i8", self._points, j, "i64")
        inverse = code.set(f"sub i64 {2 * _MANY}, {self._products(z)}")
        power = code.set(f"add i64 {inverse}, {code.element('i8', self._scales, j, 'i64')}")
        tail = code.set(f"add i64 {code.set(f'urem i64 {power}, {MODULUS}')}, {MODULUS}")

        def coefficient(q: str, place: Values) -> Values:
            under = self._apart(z, code.element("i8", self._lost_points, q, "i64"))
            over = code.set(f"add i64 {tail}, {code.element('i8', self._heads, q, 'i64')}")
            code.store("i8", code.element("i8", "@exp", code.set(f"sub i64 {over}, {under}")), place[0])
            return [code.at(place[0], COLUMNS)]

        code.loop(0, "%m", [("ptr", code.at(self._matrix, j))], coefficient)
        return []

    def _products(self, z: str) -> str:
        """Return the logarithm of prod (z + x) / prod (z + y), and _MANY."""
        code = self._code

        def term(r: str, power: Values) -> Values:
            over = self._apart(z, self._parity_point(r))
            under = self._apart(z, code.element("i8", self._lost_points, r, "i64"))
            return [code.set(f"add i64 {power[0]}, {code.set(f'sub i64 {over}, {under}')}")]

        return code.loop(0, "%m", [("i64", str(_MANY))], term)[0]

    def _apart(self, a: str, b: str) -> str:
        """Return the logarithm of the difference of two points."""
        return self._code.element("i8", "@log", self._code.set(f"xor i64 {a}, {b}"), "i64")

    def _parity_point(self, r: str) -> str:
        return self._code.set(f"or i64 {self._code.element('i8', '%rows', r, 'i64')}, {ROW_POINT}")

    def _put(self, base: str, index: str, value: str) -> None:
        self._code.store("i8", self._code.set(f"trunc i64 {value} to i8"), self._code.at(base, index))
