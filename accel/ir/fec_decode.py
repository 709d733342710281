"""Decoding one span: checks, and parity units in the places of the lost ones."""

from __future__ import annotations

from accel.gf256 import COLUMNS, ROWS
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_job import Span, both

_WORDS_OF_ROWS, _WORDS_OF_POSITIONS = 0, 4
"""Words of SEEN."""


def text() -> str:
    """Return ``span_decode(work, context, span, combine, width) -> i1`` and what it calls."""
    return "\n".join((_rebuild(), _span()))


def _span() -> str:
    code = Code(
        "define internal i1 @span_decode(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width) nounwind"
    )
    span = Span(code)

    def parity(p: str, state: Values) -> Values:
        row, position = code.element("i8", span.rows, p, "i64"), code.element("i8", span.lost, p, "i64")
        sign = span.outside(code.element("i64", span.parity, p), state[0])
        for too_much in (
            code.set(f"sub i64 {ROWS - 1}, {row}"),
            code.set(f"sub i64 {code.set(f'sub i64 {span.k}, 1')}, {position}"),
        ):
            sign = code.set(f"or i64 {sign}, {too_much}")
        again = code.set(f"or i64 {_seen(code, row, _WORDS_OF_ROWS)}, {_seen(code, position, _WORDS_OF_POSITIONS)}")
        return [sign, code.set(f"or i64 {state[1]}, {again}")]

    def check() -> Values:
        for word in range(8):
            code.store("i64", 0, code.at("%work", work.SEEN + 8 * word))
        sign = code.set(f"or i64 {span.take(0)}, {code.set(f'sub i64 {span.k}, {span.m}')}")
        sign, again = code.loop(0, span.m, [("i64", sign), ("i64", "0")], parity)
        good = both(code, code.set(f"icmp sge i64 {sign}, 0"), code.set(f"icmp eq i64 {again}, 0"))
        some = both(code, code.set(f"icmp sgt i64 {span.m}, 0"), code.set(f"icmp sgt i64 {span.length}, 0"))
        code.when(both(code, good, some), [], act)
        return [good]

    def act() -> Values:
        for field, value in ((work.K, span.k), (work.M, span.m), (work.KNOWN, "0"), (work.COLUMN, span.column)):
            code.store("i64", value, code.at("%work", field))
        code.do(f"call void @rebuild(ptr %work, ptr {span.parity}, ptr {span.rows}, ptr {span.lost})")
        code.do(f"call void @run(ptr %work, i64 {span.length}, ptr %combine, i64 %width)")
        return []

    return code.text(f"ret i1 {code.when(span.described('row', 'lost'), [('i1', 'false')], check)[0]}")


def _seen(code: Code, value: str, base: int) -> str:
    """Return a bit that is set when a byte was seen before, and remember it, in four words from ``base``."""
    word = code.set(f"add i64 {code.set(f'lshr i64 {value}, 6')}, {base}")
    place = code.at(code.at("%work", work.SEEN), word, "i64")
    bit = code.set(f"shl i64 1, {code.set(f'and i64 {value}, 63')}")
    before = code.load("i64", place)
    code.store("i64", code.set(f"or i64 {before}, {bit}"), place)
    return code.set(f"and i64 {before}, {bit}")


def _rebuild() -> str:
    """Write ``rebuild(work, parity, rows, lost)``: sources, targets and coefficients of an allowed span."""
    code = Code("define internal void @rebuild(ptr %work, ptr %parity, ptr %rows, ptr %lost) nounwind")
    k, m, column = (code.load("i64", code.at("%work", place)) for place in (work.K, work.M, work.COLUMN))
    order, sources = (code.load("ptr", code.at("%work", place)) for place in (work.ORDER, work.SOURCES))
    targets = code.at("%work", work.OWN_TARGETS)

    def swap(p: str, _: Values) -> Values:
        position = code.element("i8", "%lost", p, "i64")
        place = code.at(sources, code.element("i8", order, position, "i64"), "i64")
        code.store("i64", code.load("i64", place), code.at(targets, p, "i64"))
        code.store("i64", code.element("i64", "%parity", p), place)
        line = code.at(code.at("%work", work.MATRIX), code.set(f"mul i64 {p}, {COLUMNS}"))
        code.store("ptr", line, code.at(code.at("%work", work.ROWS), p, "ptr"))
        return []

    code.loop(0, m, [], swap)
    single = code.set(f"icmp eq i64 {m}, 1")
    ones = both(code, single, code.set(f"icmp eq i8 {code.load('i8', '%rows')}, 0"))
    code.store("i64", code.set(f"zext i1 {ones} to i64"), code.at("%work", work.ONES))
    code.store("ptr", targets, code.at("%work", work.TARGETS))

    def multiply() -> Values:
        solve = code.load("ptr", code.at("%work", work.SOLVE))
        code.do(f"call void {solve}(ptr %work, i64 {k}, i64 {m}, i64 {column}, ptr %rows, ptr %lost)")
        return []

    def add() -> Values:
        code.store("ptr", "@matrix", code.at("%work", work.ROWS))
        return []

    # Parity row 0 is the sum of all units, so one lost unit is the sum of all others and the parity: row 0 again.
    code.when(ones, [], add)
    code.when(code.set(f"xor i1 {ones}, true"), [], multiply)
    return code.text()
