"""The walk over the spans of a job: checks, what goes in and what comes out, statuses; kernels do the rest.

The context is the block of a :class:`accel.engine.SpanJob` (accel/job_block.py). Beyond what the contract asks, a span
whose units do not lie in the job's memory, or its descriptors not in the job's columns, is REJECTED: a kernel works on
addresses, and a wrong one would be memory corruption.
"""

from __future__ import annotations

from accel.engine import SpanJob, Status
from accel.gf256 import COLUMNS, ROWS
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_tables import MATRIX_STRIDE

_STAGE_UNIT = 64


def text() -> str:
    """Return ``walk_encode`` and ``walk_decode`` (context, combine, width) and what they call."""
    return "\n".join(
        (
            _sources(),
            _parities(decode=False),
            _parities(decode=True),
            _encode_rows(),
            _encode_span(),
            _decode_span(),
            _copy(),
            _staged(),
            _run(),
            _walk("encode"),
            _walk("decode"),
        )
    )


class Job:
    """Columns of a job, by the name of the field."""

    def __init__(self, code: Code, context: str = "%context") -> None:
        self._code = code
        self._context = context

    def column(self, name: str) -> str:
        """Return where a column begins."""
        return self._code.load("ptr", self._word(2 * SpanJob._fields.index(name)))

    def elements(self, name: str) -> str:
        """Return how many elements it has."""
        return self._code.load("i64", self._word(2 * SpanJob._fields.index(name) + 1))

    def number(self, name: str, span: str) -> str:
        """Return element ``span`` of an int32 column as an i64."""
        return self._code.element("i32", self.column(name), span, "i64", signed=True)

    def _word(self, index: int) -> str:
        return self._code.at(self._context, index, "i64")


def _within(code: Code, first: str, count: str, size: str) -> str:
    """Return whether 0 <= first and first + count <= size, for 0 <= count."""
    room = code.set(f"sub i64 {size}, {count}")
    fits = code.set(f"icmp sle i64 {first}, {room}")
    positive = code.set(f"icmp sge i64 {first}, 0")
    return code.set(f"and i1 {fits}, {positive}")


def _all(code: Code, *conditions: str) -> str:
    together = conditions[0]
    for each in conditions[1:]:
        together = code.set(f"and i1 {together}, {each}")
    return together


def _sources() -> str:
    """Write ``sources(work, context, span) -> i1``: addresses of data units; false when the span is not allowed."""
    code = Code("define internal i1 @sources(ptr %work, ptr %context, i64 %span) nounwind")
    job = Job(code)
    k, length = job.number("k", "%span"), job.number("length", "%span")
    first = job.number("data_start", "%span")
    memory, size = job.column("memory"), job.elements("memory")
    positive, fits = code.set(f"icmp sge i64 {k}, 1"), code.set(f"icmp sle i64 {k}, {COLUMNS}")
    some = code.set(f"icmp sge i64 {length}, 0")
    good = _all(code, positive, fits, some, _within(code, first, k, job.elements("data")))
    units = code.at("%work", work.SOURCES)

    def fill() -> Values:
        offsets = code.at(job.column("data"), first, "i64")

        def unit(j: str, state: Values) -> Values:
            offset = code.element("i64", offsets, j)
            code.store("ptr", code.at(memory, offset), code.at(units, j, "ptr"))
            return [_all(code, state[0], _within(code, offset, length, size))]

        return code.loop(0, k, [("i1", "true")], unit)

    return code.text(f"ret i1 {code.when(good, [('i1', 'false')], fill)[0]}")


def _parities(*, decode: bool) -> str:
    """Write ``parities_<operation>(work, context, span) -> i1``: whether its rows and lost positions are allowed."""
    name = "decode" if decode else "encode"
    code = Code(f"define internal i1 @parities_{name}(ptr %work, ptr %context, i64 %span) nounwind")
    job = Job(code)
    k, m, length = (job.number(field, "%span") for field in ("k", "m", "length"))
    first, size = job.number("parity_start", "%span"), job.elements("memory")
    positive = code.set(f"icmp sge i64 {m}, 0")
    good = _all(code, positive, *(_within(code, first, m, job.elements(each)) for each in ("parity", "row")))
    if decode:
        few = code.set(f"icmp sle i64 {m}, {k}")
        good = _all(code, good, few, _within(code, first, m, job.elements("lost")))
        for word in range(8):
            code.store("i64", 0, code.at("%work", work.SEEN + 8 * word))

    def check() -> Values:
        offsets = code.at(job.column("parity"), first, "i64")
        rows, lost = code.at(job.column("row"), first), code.at(job.column("lost"), first)

        def parity(p: str, state: Values) -> Values:
            row = code.element("i8", rows, p, "i64")
            tests = [state[0], code.set(f"icmp slt i64 {row}, {ROWS}")]
            tests.append(_within(code, code.element("i64", offsets, p), length, size))
            if decode:
                position = code.element("i8", lost, p, "i64")
                tests.append(code.set(f"icmp slt i64 {position}, {k}"))
                tests += [_first_time(code, row, 0), _first_time(code, position, 4)]
            return [_all(code, *tests)]

        return code.loop(0, m, [("i1", "true")], parity)

    return code.text(f"ret i1 {code.when(good, [('i1', 'false')], check)[0]}")


def _first_time(code: Code, value: str, base: int) -> str:
    """Return whether a byte was not seen yet, and remember it, in four words from ``base``."""
    word = code.set(f"add i64 {code.set(f'lshr i64 {value}, 6')}, {base}")
    place = code.at(code.at("%work", work.SEEN), word, "i64")
    bit = code.set(f"shl i64 1, {code.set(f'and i64 {value}, 63')}")
    before = code.load("i64", place)
    code.store("i64", code.set(f"or i64 {before}, {bit}"), place)
    return code.set(f"icmp eq i64 {code.set(f'and i64 {before}, {bit}')}, 0")


def _encode_rows() -> str:
    """Write ``encode_rows(work, context, span, begin, count)``: targets and coefficients of some parity units.

    A row 0 is put first, where kernels take it as the plain sum.
    """
    code = Code(
        "define internal void @encode_rows(ptr %work, ptr %context, i64 %span, i64 %begin, i64 %count) nounwind"
    )
    job = Job(code)
    first = code.set(f"add i64 {job.number('parity_start', '%span')}, %begin")
    k, memory = job.number("k", "%span"), job.column("memory")
    column = code.set(f"and i64 {job.number('column', '%span')}, {COLUMNS - 1}")
    offsets, rows = code.at(job.column("parity"), first, "i64"), code.at(job.column("row"), first)
    targets, coefficients = code.at("%work", work.TARGETS), code.at("%work", work.ROWS)
    matrix = code.at("@matrix", column)

    def find(p: str, state: Values) -> Values:
        is_zero = code.set(f"icmp eq i8 {code.element('i8', rows, p)}, 0")
        return [code.set(f"select i1 {is_zero}, i64 {p}, i64 {state[0]}")]

    zero = code.loop(0, "%count", [("i64", "-1")], find)[0]
    ones = code.set(f"icmp sge i64 {zero}, 0")
    swap = code.set(f"select i1 {ones}, i64 {zero}, i64 0")

    def parity(p: str, state: Values) -> Values:
        is_first, is_swap = code.set(f"icmp eq i64 {p}, 0"), code.set(f"icmp eq i64 {p}, {swap}")
        other = code.set(f"select i1 {is_swap}, i64 0, i64 {p}")
        taken = code.set(f"select i1 {is_first}, i64 {swap}, i64 {other}")
        code.store("ptr", code.at(memory, code.element("i64", offsets, taken)), code.at(targets, p, "ptr"))
        line = code.set(f"mul i64 {code.element('i8', rows, taken, 'i64')}, {MATRIX_STRIDE}")
        row, place = code.at(matrix, line), code.at(coefficients, p, "ptr")
        same = code.set(f"icmp eq ptr {row}, {code.load('ptr', place)}")
        code.store("ptr", row, place)
        return [_all(code, state[0], same)]

    tests = code.loop(0, "%count", [("i1", "true")], parity)
    shape = ((work.K, k), (work.M, "%count"), (work.ONES, code.set(f"zext i1 {ones} to i64")))
    for field, value in shape:
        place = code.at("%work", field)
        tests.append(code.set(f"icmp eq i64 {code.load('i64', place)}, {value}"))
        code.store("i64", value, place)
    known = code.set(f"zext i1 {_all(code, *tests)} to i64")
    code.store("i64", known, code.at("%work", work.KNOWN))
    return code.text()


def _encode_span() -> str:
    """Write ``span_encode(work, context, span, combine, width)``: an allowed span."""
    code = Code(
        "define internal void @span_encode(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width) nounwind"
    )
    job = Job(code)
    m = job.number("m", "%span")

    def turn(begin: str, _: Values) -> Values:
        rest = code.set(f"sub i64 {m}, {begin}")
        count = code.set(f"call i64 @llvm.smin.i64(i64 {rest}, i64 {work.ROOM})")
        code.do(f"call void @encode_rows(ptr %work, ptr %context, i64 %span, i64 {begin}, i64 {count})")
        code.do("call void @run(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width)")
        return []

    code.loop(0, m, [], turn, work.ROOM)
    return code.text()


def _decode_span() -> str:
    """Write ``span_decode(work, context, span, combine, width)``: an allowed span.

    Parity units take the places of the lost units among the sources.
    """
    code = Code(
        "define internal void @span_decode(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width) nounwind"
    )
    job = Job(code)
    first, m, k = (job.number(field, "%span") for field in ("parity_start", "m", "k"))
    column, memory = job.number("column", "%span"), job.column("memory")
    offsets = code.at(job.column("parity"), first, "i64")
    rows, lost = code.at(job.column("row"), first), code.at(job.column("lost"), first)
    sources, targets = code.at("%work", work.SOURCES), code.at("%work", work.TARGETS)

    def swap(p: str, _: Values) -> Values:
        place = code.at(sources, code.element("i8", lost, p, "i64"), "ptr")
        code.store("ptr", code.load("ptr", place), code.at(targets, p, "ptr"))
        code.store("ptr", code.at(memory, code.element("i64", offsets, p)), place)
        line = code.at(code.at("%work", work.MATRIX), code.set(f"mul i64 {p}, {COLUMNS}"))
        code.store("ptr", line, code.at(code.at("%work", work.ROWS), p, "ptr"))
        return []

    def act() -> Values:
        code.loop(0, m, [], swap)
        single = code.set(f"icmp eq i64 {m}, 1")
        plain = code.set(f"icmp eq i8 {code.load('i8', rows)}, 0")
        ones = _all(code, single, plain)
        fields = ((work.K, k), (work.M, m), (work.KNOWN, "0"), (work.ONES, code.set(f"zext i1 {ones} to i64")))
        for field, value in fields:
            code.store("i64", value, code.at("%work", field))
        code.do(f"call void @closed_form(ptr %work, i64 {k}, i64 {m}, i64 {column}, ptr {rows}, ptr {lost})")
        code.do("call void @run(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width)")
        return []

    code.when(code.set(f"icmp sgt i64 {m}, 0"), [], act)
    return code.text()


def _copy() -> str:
    """Write ``copy(target, source, length)``: fewer bytes than a vector."""
    code = Code("define internal void @copy(ptr %target, ptr %source, i64 %length) nounwind")
    words = code.set("and i64 %length, -8")

    def move(kind: str, step: int) -> None:
        def one(i: str, _: Values) -> Values:
            code.store(kind, code.load(kind, code.at("%source", i)), code.at("%target", i))
            return []

        code.loop(0 if step > 1 else words, words if step > 1 else "%length", [], one, step)

    move("i64", 8)
    move("i8", 1)
    return code.text()


def _staged() -> str:
    """Write ``staged(work, length, combine, width)``: units shorter than a vector, by way of the stage."""
    code = Code("define internal void @staged(ptr %work, i64 %length, ptr %combine, i64 %width) nounwind")
    k, m = code.load("i64", code.at("%work", work.K)), code.load("i64", code.at("%work", work.M))
    sources, targets = code.at("%work", work.SOURCES), code.at("%work", work.TARGETS)
    belong, stage = code.at("%work", work.STAGE_TARGETS), code.at("%work", work.STAGE)
    results = code.at(stage, _STAGE_UNIT * COLUMNS)

    def take(j: str, _: Values) -> Values:
        place, unit = code.at(sources, j, "ptr"), code.at(stage, code.set(f"mul i64 {j}, {_STAGE_UNIT}"))
        code.do(f"call void @copy(ptr {unit}, ptr {code.load('ptr', place)}, i64 %length)")
        code.store("ptr", unit, place)
        return []

    def make_room(p: str, _: Values) -> Values:
        place, unit = code.at(targets, p, "ptr"), code.at(results, code.set(f"mul i64 {p}, {_STAGE_UNIT}"))
        code.store("ptr", code.load("ptr", place), code.at(belong, p, "ptr"))
        code.store("ptr", unit, place)
        return []

    def give(p: str, _: Values) -> Values:
        unit = code.element("ptr", targets, p)
        code.do(f"call void @copy(ptr {code.element('ptr', belong, p)}, ptr {unit}, i64 %length)")
        return []

    code.loop(0, k, [], take)
    code.loop(0, m, [], make_room)
    code.store("i64", "%width", code.at("%work", work.LENGTH))
    code.do("call void %combine(ptr %work)")
    code.loop(0, m, [], give)
    return code.text()


def _run() -> str:
    """Write ``run(work, context, span, combine, width)``: sources, rows and targets are set."""
    code = Code("define internal void @run(ptr %work, ptr %context, i64 %span, ptr %combine, i64 %width) nounwind")
    length = Job(code).number("length", "%span")
    code.store("i64", length, code.at("%work", work.LENGTH))
    short = code.set(f"icmp slt i64 {length}, %width")

    def stage() -> None:
        code.do(f"call void @staged(ptr %work, i64 {length}, ptr %combine, i64 %width)")

    def straight() -> None:
        code.do("call void %combine(ptr %work)")

    code.select_case(code.set(f"zext i1 {short} to i64"), {0: straight, 1: stage})
    return code.text()


def _walk(operation: str) -> str:
    code = Code(f"define internal void @walk_{operation}(ptr %context, ptr %combine, i64 %width) nounwind")
    job = Job(code)
    area = code.set(f"alloca [{work.SIZE} x i8], align 64")
    code.store("i64", 0, code.at(area, work.K))
    statuses = job.column("status")

    def span(i: str, _: Values) -> Values:
        given = code.set(f"call i1 @sources(ptr {area}, ptr %context, i64 {i})")
        allowed = code.set(f"call i1 @parities_{operation}(ptr {area}, ptr %context, i64 {i})")
        good = _all(code, given, allowed)
        some = _all(code, good, code.set(f"icmp ne i64 {job.number('length', i)}, 0"))

        def act() -> Values:
            arguments = f"(ptr {area}, ptr %context, i64 {i}, ptr %combine, i64 %width)"
            code.do(f"call void @span_{operation}{arguments}")
            return []

        code.when(some, [], act)
        verdict = code.set(f"select i1 {good}, i8 {int(Status.DONE)}, i8 {int(Status.REJECTED)}")
        code.store("i8", verdict, code.at(statuses, i))
        return []

    code.loop(0, job.elements("k"), [], span)
    return code.text()
