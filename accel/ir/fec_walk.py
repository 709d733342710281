"""The walk over the spans of a job: checks, what goes in and what comes out, statuses; kernels do the rest.

The context is the block of a :class:`accel.engine.SpanJob` (accel/job_block.py). Beyond what the contract asks, a span
whose units do not lie in the job's memory, or its descriptors not in the job's columns, is REJECTED: a kernel works on
addresses, and a wrong one would be memory corruption.
"""

from __future__ import annotations

from accel.engine import Status
from accel.gf256 import COLUMNS
from accel.ir import fec_decode, fec_encode
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values
from accel.ir.fec_job import Job

_STAGE_UNIT = 64


def text() -> str:
    """Return ``walk_encode`` and ``walk_decode`` (context, combine, solve, width) and what they call."""
    return "\n".join(
        (fec_encode.text(), fec_decode.text(), _copy(), _staged(), _run(), _walk("encode"), _walk("decode"))
    )


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
    base, sources, targets = (
        code.load("ptr", code.at("%work", place)) for place in (work.BASE, work.SOURCES, work.TARGETS)
    )
    own_sources, own_targets = code.at("%work", work.OWN_SOURCES), code.at("%work", work.OWN_TARGETS)
    belong, stage = code.at("%work", work.STAGE_TARGETS), code.at("%work", work.STAGE)
    first = code.set(f"sub i64 {code.set(f'ptrtoint ptr {stage} to i64')}, {code.set(f'ptrtoint ptr {base} to i64')}")
    results = code.set(f"add i64 {first}, {_STAGE_UNIT * COLUMNS}")

    def take(j: str, _: Values) -> Values:
        unit = code.set(f"add i64 {first}, {code.set(f'mul i64 {j}, {_STAGE_UNIT}')}")
        given = code.at(base, code.element("i64", sources, j))
        code.do(f"call void @copy(ptr {code.at(base, unit)}, ptr {given}, i64 %length)")
        code.store("i64", unit, code.at(own_sources, j, "i64"))
        return []

    def make_room(p: str, _: Values) -> Values:
        unit = code.set(f"add i64 {results}, {code.set(f'mul i64 {p}, {_STAGE_UNIT}')}")
        code.store("i64", code.element("i64", targets, p), code.at(belong, p, "i64"))
        code.store("i64", unit, code.at(own_targets, p, "i64"))
        return []

    def give(p: str, _: Values) -> Values:
        unit, wanted = code.element("i64", own_targets, p), code.element("i64", belong, p)
        code.do(f"call void @copy(ptr {code.at(base, wanted)}, ptr {code.at(base, unit)}, i64 %length)")
        return []

    code.loop(0, k, [], take)
    code.loop(0, m, [], make_room)
    code.store("ptr", own_sources, code.at("%work", work.SOURCES))
    code.store("ptr", own_targets, code.at("%work", work.TARGETS))
    code.store("i64", "%width", code.at("%work", work.LENGTH))
    code.do("call void %combine(ptr %work)")
    code.loop(0, m, [], give)
    return code.text()


def _run() -> str:
    """Write ``run(work, length, combine, width)``: sources, rows and targets are set."""
    code = Code("define internal void @run(ptr %work, i64 %length, ptr %combine, i64 %width) nounwind")
    code.store("i64", "%length", code.at("%work", work.LENGTH))
    short = code.set("icmp slt i64 %length, %width")

    def stage() -> None:
        code.do("call void @staged(ptr %work, i64 %length, ptr %combine, i64 %width)")

    def straight() -> None:
        code.do("call void %combine(ptr %work)")

    code.select_case(code.set(f"zext i1 {short} to i64"), {0: straight, 1: stage})
    return code.text()


def _walk(operation: str) -> str:
    code = Code(f"define internal void @walk_{operation}(ptr %context, ptr %combine, ptr %solve, i64 %width) nounwind")
    job = Job(code)
    area = code.set(f"alloca [{work.SIZE} x i8], align 64")
    code.store("i64", 0, code.at(area, work.K))
    code.store("ptr", job.column("memory"), code.at(area, work.BASE))
    code.store("ptr", "%solve", code.at(area, work.SOLVE))
    statuses = job.column("status")

    def span(i: str, _: Values) -> Values:
        arguments = f"(ptr {area}, ptr %context, i64 {i}, ptr %combine, i64 %width)"
        good = code.set(f"call i1 @span_{operation}{arguments}")
        verdict = code.set(f"select i1 {good}, i8 {int(Status.DONE)}, i8 {int(Status.REJECTED)}")
        code.store("i8", verdict, code.at(statuses, i))
        return []

    code.loop(0, job.elements("k"), [], span)
    return code.text()
