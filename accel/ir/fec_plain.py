"""The kernel for any CPU: eight bytes in a 64-bit word, and no multiplication at all.

A target is the sum of x_j c_j over sources j. With the bits of the factors, c_j = sum of c_jb 2^b, that is
sum over b of 2^b (sum of the x_j whose factor has bit b): the sources of each bit are listed once per target, and then
every word is XOR, with seven doublings in the field per target instead of per source (Horner's rule).
"""

from __future__ import annotations

from accel.gf256 import COLUMNS
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values

NAME = "plain"
WORDS = 8
"""Words of each source in registers."""
WIDTH = 8 * WORDS
"""Bytes at once; the last ones of a unit overlap those before."""
_BITS = 8
_HIGH = 0x8080808080808080
_LOW = 0x7F7F7F7F7F7F7F7F
_REDUCTION = 0x1D
_COUNTS = work.WORDS
"""i64 [8] sources of each bit."""
_LISTS = work.WORDS + 8 * _BITS
"""ptr [8][128] their addresses."""


def text() -> str:
    """Return ``combine_plain(work)`` and what it calls."""
    return "\n".join((_list_sources(), _add_sources(), _sum(), _combine()))


def _list_sources() -> str:
    """Write ``plain_list(work, row)``: the sources of each bit of a target's factors."""
    code = Code("define internal void @plain_list(ptr %work, ptr %row) nounwind")
    k = code.load("i64", code.at("%work", work.K))
    lists, base = code.at("%work", _LISTS), code.load("ptr", code.at("%work", work.BASE))
    sources, order = (code.load("ptr", code.at("%work", place)) for place in (work.SOURCES, work.ORDER))

    def source(j: str, counts: Values) -> Values:
        factor = code.element("i8", "%row", code.element("i8", order, j, "i64"), "i64")
        unit = code.at(base, code.element("i64", sources, j))
        following = []
        for bit, count in enumerate(counts):
            # Written always, kept when the bit is set: no branch to be guessed.
            code.store("ptr", unit, code.at(code.at(lists, bit * COLUMNS, "ptr"), count, "ptr"))
            is_set = code.set(f"and i64 {code.set(f'lshr i64 {factor}, {bit}')}, 1")
            following.append(code.set(f"add i64 {count}, {is_set}"))
        return following

    counts = code.loop(0, k, [("i64", "0")] * _BITS, source)
    for bit, count in enumerate(counts):
        code.store("i64", count, code.at("%work", _COUNTS + 8 * bit))
    return code.text()


def _add_sources() -> str:
    """Write ``plain_sum(work, top, target, offset)``: 64 bytes of a target, from bit ``top`` down."""
    code = Code("define internal void @plain_sum(ptr %work, i64 %top, ptr %target, i64 %offset) nounwind")
    lists, counts = code.at("%work", _LISTS), code.at("%work", _COUNTS)

    def add(bit: str, sums: Values) -> Values:
        some = code.at(lists, code.set(f"mul i64 {bit}, {COLUMNS}"), "ptr")

        def source(i: str, sums: Values) -> Values:
            unit = code.at(code.element("ptr", some, i), "%offset")
            return [code.set(f"xor i64 {each}, {code.element('i64', unit, w)}") for w, each in enumerate(sums)]

        return code.loop(0, code.element("i64", counts, bit), [("i64", each) for each in sums], source)

    def lower(i: str, sums: Values) -> Values:
        return add(code.set(f"sub i64 %top, {i}"), [_double(code, each) for each in sums])

    sums = add("%top", ["0"] * WORDS)
    end = code.set("add i64 %top, 1")
    sums = code.loop(1, end, [("i64", each) for each in sums], lower)
    place = code.at("%target", "%offset")
    for w, each in enumerate(sums):
        code.store("i64", each, code.at(place, w, "i64"))
    return code.text()


def _double(code: Code, value: str) -> str:
    """Return eight bytes times 2, in the field."""
    carry = code.set(f"lshr i64 {code.set(f'and i64 {value}, {_HIGH}')}, 7")
    shifted = code.set(f"shl i64 {code.set(f'and i64 {value}, {_LOW}')}, 1")
    return code.set(f"xor i64 {shifted}, {code.set(f'mul i64 {carry}, {_REDUCTION}')}")


def _sum() -> str:
    """Write ``plain_target(work, target)``: one whole target."""
    code = Code("define internal void @plain_target(ptr %work, ptr %target) nounwind")
    length = code.load("i64", code.at("%work", work.LENGTH))

    def highest(bit: str, top: Values) -> Values:
        used = code.set(f"icmp ne i64 {code.element('i64', code.at('%work', _COUNTS), bit)}, 0")
        return [code.set(f"select i1 {used}, i64 {bit}, i64 {top[0]}")]

    top = code.loop(0, _BITS, [("i64", "0")], highest)[0]
    latest = code.set(f"sub i64 {length}, {WIDTH}")

    def step(offset: str, _: Values) -> Values:
        place = code.set(f"call i64 @llvm.smin.i64(i64 {offset}, i64 {latest})")
        code.do(f"call void @plain_sum(ptr %work, i64 {top}, ptr %target, i64 {place})")
        return []

    code.loop(0, length, [], step, WIDTH)
    return code.text()


def _combine() -> str:
    code = Code("define internal void @combine_plain(ptr %work) nounwind")
    base, targets = (code.load("ptr", code.at("%work", place)) for place in (work.BASE, work.TARGETS))

    def target(p: str, _: Values) -> Values:
        code.do(f"call void @plain_list(ptr %work, ptr {code.element('ptr', code.at('%work', work.ROWS), p)})")
        unit = code.at(base, code.element("i64", targets, p))
        code.do(f"call void @plain_target(ptr %work, ptr {unit})")
        return []

    code.loop(0, code.load("i64", code.at("%work", work.M)), [], target)
    return code.text()
