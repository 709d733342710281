"""Text of kernels with rows of code 1 compiled in: which bit planes of a unit go into which planes of a parity unit.

A product by a constant is linear over GF(2): each of its eight planes is a sum of planes of the factor. The factor's
planes are taken as two halves of four, of whose sums there are eleven each; every plane of every row is then one sum of
one half, one of the other, and what was there before: an instruction of three operands. So a row costs eight
instructions for 32 bytes, and what rows have in common at most 22, on a GPU.

A kernel serves every k up to its columns: fewer units are a beginning of its cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from accel.device.program import program
from accel.gf256 import COLUMNS, MATRIX, multiply
from drivers.cuda.device import BLOCK

_PLANES = 8
_HALF = 4
_FEW_ROWS = 8
"""So many leave room for four blocks without being told."""


class RowKernel(NamedTuple):
    """A kernel with ``rows`` rows from ``first`` on compiled in, for spans from column 0 on.

    Attributes
    ----------
    slot
        Where the header of ``work`` has its strips: HEADER_STRIPS + 3 * slot.
    columns
        Largest k.
    """

    slot: int
    first: int
    rows: int
    columns: int = COLUMNS

    @property
    def name(self) -> str:
        """The kernel's name on a device."""
        return f"code1_rows_{self.first}_{self.rows}"


@cache
def compiled_text(kernel: RowKernel) -> str:
    """Return the program of a kernel, in the dialect of dialect.h."""
    cases = [_case(kernel, column) for column in range(kernel.columns)]
    return "\n".join((
        f"#define ROWS {kernel.rows}",
        f"#define BOUNDS {_bounds(kernel)}",
        program("strips.h"),
        "DEVICE void add_products(u32 column, const u32 *p, u32 (*s)[PLANES]) {",
        "switch (column) {",
        *cases,
        "}\n}",
        f"KERNEL_OF({kernel.name}, HEADER_STRIPS + {3 * kernel.slot} + STRIPS_ITEMS) {{",
        f"combine_strip(ARGUMENTS, work + HEADER_STRIPS + {3 * kernel.slot}, item);",
        "}\n",
    ))  # fmt: skip


def _bounds(kernel: RowKernel) -> str:
    """Return what CUDA is told of the blocks of a kernel: how many threads, and that three blocks are to have room.

    Sixteen rows would take 176 registers, which leave room for two; with 168, two words that are needed before and
    behind the loop wait in memory.
    """
    return f"__launch_bounds__({BLOCK}, 3)" if kernel.rows > _FEW_ROWS else ""


def plane_masks(coefficient: int) -> list[int]:
    """Return for each plane of a product which planes of the other factor it is the sum of, as bits."""
    columns = [multiply(coefficient, 1 << bit) for bit in range(_PLANES)]
    return [sum((columns[bit] >> plane & 1) << bit for bit in range(_PLANES)) for plane in range(_PLANES)]


def _case(kernel: RowKernel, column: int) -> str:
    rows = [plane_masks(int(MATRIX[kernel.first + row, column])) for row in range(kernel.rows)]
    halves: list[dict[int, str]] = []
    lines = [f"case {column}: {{"]
    for half in range(2):
        wanted = {mask >> _HALF * half & 15 for row in rows for mask in row} - {0}
        names, statements = _sums(sorted(wanted, key=lambda mask: (mask.bit_count(), mask)), half)
        halves.append(names)
        lines.extend(statements)
    for row, masks in enumerate(rows):
        lines.extend(f"s[{row}][{plane}] {_addition(mask, halves, row, plane)};" for plane, mask in enumerate(masks))
    return "\n".join((*lines, "} break;"))


def _sums(wanted: list[int], half: int) -> tuple[dict[int, str], list[str]]:
    """Return names of sums of a half's planes, smallest first, and the statements that make them."""
    names: dict[int, str] = {}
    statements = []
    for mask in wanted:
        terms = list(_terms(mask, names, half))
        if len(terms) == 1:
            names[mask] = terms[0]
            continue
        names[mask] = f"{'lh'[half]}{mask}"
        value = f"add3({', '.join(terms[:3])})" if len(terms) > 2 else " ^ ".join(terms)
        statements.append(f"u32 {names[mask]} = {' ^ '.join((value, *terms[3:]))};")
    return names, statements


def _terms(mask: int, names: dict[int, str], half: int) -> Iterator[str]:
    """Yield what a sum is made of: the largest part of it that is there, if that saves something, and single planes."""
    if mask.bit_count() == _HALF:
        part = max((each for each in names if each.bit_count() > 1), key=int.bit_count, default=0)
        if part:
            yield names[part]
        mask ^= part
    for bit in range(_HALF):
        if mask >> bit & 1:
            yield f"p[{_HALF * half + bit}]"


def _addition(mask: int, halves: list[dict[int, str]], row: int, plane: int) -> str:
    terms = [halves[half][mask >> _HALF * half & 15] for half in range(2) if mask >> _HALF * half & 15]
    return f"^= {terms[0]}" if len(terms) == 1 else f"= add3(s[{row}][{plane}], {', '.join(terms)})"
