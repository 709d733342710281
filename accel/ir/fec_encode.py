"""Encoding one span: checks, and what the kernel needs. Spans like the one before it need next to nothing."""

from __future__ import annotations

from accel.gf256 import COLUMNS, ROWS
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_job import Span, both
from accel.ir.fec_tables import MATRIX_STRIDE

_LINES = 2
"""Cache lines of each unit that are on their way while its span is being checked."""


def text() -> str:
    """Return ``span_encode(work, context, span, combine, width) -> i1`` and what it calls."""
    return "\n".join((_set_rows(), _turns(), _span()))


def _span() -> str:
    """Write the checks, and the short way for a span like the one before it."""
    code = Code(
        "define internal i1 @span_encode(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width) nounwind"
    )
    span = Span(code)
    column = code.set(f"and i64 {span.column}, {COLUMNS - 1}")
    numbers = code.at("%work", work.NUMBERS)

    def parity(p: str, state: Values) -> Values:
        place = code.at(numbers, code.set(f"and i64 {p}, {work.ROOM - 1}"))
        unlike = code.set(f"xor i8 {code.element('i8', span.rows, p)}, {code.load('i8', place)}")
        offset = code.element("i64", span.parity, p)
        span.fetch(code.at(span.job.column("memory"), offset), _LINES)
        return [span.outside(offset, state[0]), code.set(f"or i8 {state[1]}, {unlike}")]

    def known() -> Values:
        code.store("i64", 1, code.at("%work", work.KNOWN))
        code.do(f"call void @set_targets(ptr %work, ptr {span.parity}, i64 {span.m})")
        code.do(f"call void @run(ptr %work, i64 {span.length}, ptr %combine, i64 %width)")
        return ["true"]

    def unknown() -> Values:
        arguments = f"ptr {span.parity}, ptr {span.rows}, i64 {span.m}, i64 {span.length}, ptr %combine, i64 %width"
        code.store("i64", span.k, code.at("%work", work.K))
        code.store("i64", column, code.at("%work", work.COLUMN))
        code.store("i64", 0, code.at("%work", work.M))
        return [code.set(f"call i1 @turns(ptr %work, {arguments})")]

    def check() -> Values:
        sign = span.take(_LINES)
        sign, unlike = code.loop(0, span.m, [("i64", sign), ("i8", "0")], parity)
        inside = code.set(f"icmp sge i64 {sign}, 0")
        same = [code.set(f"icmp eq i8 {unlike}, 0"), inside, code.set(f"icmp sgt i64 {span.length}, 0")]
        for place, value in ((work.K, span.k), (work.M, span.m), (work.COLUMN, column)):
            same.append(code.set(f"icmp eq i64 {code.load('i64', code.at('%work', place))}, {value}"))
        as_before = both(code, *same)
        good = code.when(as_before, [("i1", "false")], known)[0]
        other = both(code, inside, code.set(f"xor i1 {as_before}, true"))
        return code.when(other, [("i1", good)], unknown)

    return code.text(f"ret i1 {code.when(span.described('row'), [('i1', 'false')], check)[0]}")


def _turns() -> str:
    """Write ``turns(work, parity, rows, m, length, combine, width) -> i1``: rows unlike the ones before; ROOM a turn.

    False, and nothing written, when the matrix has no such row.
    """
    code = Code(
        "define internal i1 @turns"
        "(ptr %work, ptr %parity, ptr %rows, i64 %m, i64 %length, ptr %combine, i64 %width) nounwind"
    )

    def highest(p: str, state: Values) -> Values:
        row = code.element("i8", "%rows", p, "i64")
        return [code.set(f"call i64 @llvm.umax.i64(i64 {state[0]}, i64 {row})")]

    good = code.set(f"icmp slt i64 {code.loop(0, '%m', [('i64', '0')], highest)[0]}, {ROWS}")

    def turn(begin: str, _: Values) -> Values:
        rest = code.set(f"sub i64 %m, {begin}")
        count = code.set(f"call i64 @llvm.smin.i64(i64 {rest}, i64 {work.ROOM})")
        code.store("i64", count, code.at("%work", work.M))
        code.do(f"call void @set_rows(ptr %work, ptr {code.at('%rows', begin)}, i64 {count})")
        code.do(f"call void @set_targets(ptr %work, ptr {code.at('%parity', begin, 'i64')}, i64 {count})")
        code.do("call void @run(ptr %work, i64 %length, ptr %combine, i64 %width)")
        return []

    def act() -> Values:
        code.loop(0, "%m", [], turn, work.ROOM)
        return []

    some = code.set("icmp sgt i64 %length, 0")
    code.when(both(code, good, some), [], act)
    return code.text(f"ret i1 {good}")


def _set_rows() -> str:
    """Write ``set_rows(work, rows, count)`` and ``set_targets(work, parity, count)``.

    A row 0 changes places with the first one: kernels take it as the plain sum.
    """
    code = Code("define internal void @set_rows(ptr %work, ptr %rows, i64 %count) nounwind")
    coefficients, numbers = code.at("%work", work.ROWS), code.at("%work", work.NUMBERS)
    matrix = code.at("@matrix", code.load("i64", code.at("%work", work.COLUMN)))

    def find(p: str, state: Values) -> Values:
        is_zero = code.set(f"icmp eq i8 {code.element('i8', '%rows', p)}, 0")
        return [code.set(f"select i1 {is_zero}, i64 {p}, i64 {state[0]}")]

    zero = code.loop(0, "%count", [("i64", "-1")], find)[0]
    ones = code.set(f"icmp sge i64 {zero}, 0")
    swap = code.set(f"select i1 {ones}, i64 {zero}, i64 0")

    def parity(p: str, _: Values) -> Values:
        row = code.element("i8", "%rows", _swapped(code, p, swap))
        line = code.set(f"mul i64 {code.set(f'zext i8 {row} to i64')}, {MATRIX_STRIDE}")
        code.store("ptr", code.at(matrix, line), code.at(coefficients, p, "ptr"))
        code.store("i8", code.element("i8", "%rows", p), code.at(numbers, p))
        return []

    code.loop(0, "%count", [], parity)
    fields = ((work.ONES, code.set(f"zext i1 {ones} to i64")), (work.SWAP, swap), (work.KNOWN, "0"))
    for field, value in fields:
        code.store("i64", value, code.at("%work", field))
    return code.text() + _set_targets()


def _set_targets() -> str:
    code = Code("define internal void @set_targets(ptr %work, ptr %parity, i64 %count) nounwind")
    swap, own = code.load("i64", code.at("%work", work.SWAP)), code.at("%work", work.OWN_TARGETS)
    code.store("ptr", "%parity", code.at("%work", work.TARGETS))

    def target(p: str, _: Values) -> Values:
        code.store("i64", code.element("i64", "%parity", _swapped(code, p, swap)), code.at(own, p, "i64"))
        return []

    def change() -> Values:
        code.loop(0, "%count", [], target)
        code.store("ptr", own, code.at("%work", work.TARGETS))
        return []

    code.when(code.set(f"icmp ne i64 {swap}, 0"), [], change)
    return code.text()


def _swapped(code: Code, p: str, swap: str) -> str:
    """Return ``p`` with 0 and ``swap`` exchanged."""
    is_first, is_swap = code.set(f"icmp eq i64 {p}, 0"), code.set(f"icmp eq i64 {p}, {swap}")
    other = code.set(f"select i1 {is_swap}, i64 0, i64 {p}")
    return code.set(f"select i1 {is_first}, i64 {swap}, i64 {other}")
