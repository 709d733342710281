"""The CRC rows of ``./dev bench engines``: the form by vectors against that by the CRC instruction, for the same rows.

A pass is a loop of compiled code, as in a worker. Where rows are "read", ``pread`` puts each unit into its row and two
bytes are written over its begin before it is summed, as a worker does with what its TUN gives it; the time of the same
loop without a sum is taken off both sides. Rows that lie in 2 MB, one after the other, are in no cache of a core.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from accel.bench.contest import Effort, spread
from accel.ir import crc
from accel.kernels.crc32c import crc32c
from accel.native import target_machine
from benchmarks.engines_field import Field, Pass, WrongError, need_flags
from benchmarks.engines_rows import Row

UNIT, STRIDE, MEMORY = 1400, 1536, 2 << 20
NEW, OLD, NEITHER = "folding", "instruction", "reading alone"
_LOOP = f"""
declare i64 @pread(i32, ptr, i64, i64)

define i64 @run(i64 %begin, i64 %stride, i64 %count, i64 %size, i64 %summed, i64 %file) {{
entry:
  %descriptor = trunc i64 %file to i32
  %reads = icmp sge i64 %file, 0
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %sum ]
  %total = phi i64 [ 0, %entry ], [ %total.next, %sum ]
  %offset = mul i64 %i, %stride
  %row = add i64 %begin, %offset
  br i1 %reads, label %read, label %sum
read:
  %at = inttoptr i64 %row to ptr
  %got = call i64 @pread(i32 %descriptor, ptr %at, i64 %size, i64 0)
  store i8 5, ptr %at, align 1
  %second = getelementptr i8, ptr %at, i64 1
  store i8 114, ptr %second, align 1
  br label %sum
sum:
  %crc = call i32 @{crc.SYMBOL}(i64 %row, i64 %summed)
  %wide = zext i32 %crc to i64
  %total.next = add i64 %total, %wide
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %count
  br i1 %more, label %loop, label %done
done:
  ret i64 %total.next
}}
"""


@dataclass(frozen=True)
class Case:
    """Which rows are summed."""

    name: str
    size: int = UNIT
    stride: int = STRIDE
    count: int = MEMORY // STRIDE
    reads: bool = False


CASES = (
    Case(f"{UNIT} B, one row (L1)", stride=0, count=1000),
    Case(f"{UNIT} B, rows through 2 MB"),
    Case(f"{UNIT} B, rows through 2 MB, each just read", reads=True),
    Case("300 B, one row (L1)", size=300, stride=0, count=4000),
)


def _loop_of(form: str) -> Any:
    """Return the loop over one form, and what keeps its code alive."""
    need_flags(f"the form {form}", crc.FORMS[form])
    module = llvm.parse_assembly(crc.text(crc.forms_for()) + _LOOP)
    module.triple = llvm.get_default_triple()
    engine = llvm.create_mcjit_compiler(module, target_machine(jit=True))
    engine.finalize_object()
    choose = ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address(crc.CHOOSE))
    choose(list(crc.FORMS).index(form))
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 6)(engine.get_function_address("run")), engine


@contextmanager
def _rows(case: Case) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
    """Yield memory for the rows, and the descriptor of a file that they are read from, or -1."""
    memory = np.random.default_rng(5).integers(0, 256, MEMORY, np.uint8)
    if not case.reads:
        yield memory, -1
        return
    file = os.memfd_create("unit")
    try:
        os.write(file, memory[: case.size].tobytes())
        yield memory, file
    finally:
        os.close(file)


def _pass(form: str, case: Case, memory: np.ndarray[Any, Any], file: int, *, summed: bool = True) -> Pass:
    """Return a pass, whose sums were compared with the reference."""
    run, engine = _loop_of(form)
    arguments = (memory.ctypes.data, case.stride, case.count, case.size, case.size if summed else 0, file)
    found = run(*arguments)
    starts = [case.stride * i for i in range(case.count)] if summed else []
    if found != sum(int(crc32c(memory, start, case.size)) for start in starts):
        raise WrongError(f"the CRC by {form} is another one")

    def go(_: object = engine) -> int:
        return int(run(*arguments))

    return go


def case_row(case: Case, effort: Effort) -> Row:
    """Let both forms sum the same rows."""
    row = Row("crc", case.name, engine=NEW, against=OLD)
    with _rows(case) as (memory, file):
        there = Field(case.count)
        for form in (NEW, OLD):
            there.add(form, partial(_pass, form, case, memory, file))
        if case.reads:
            there.add(NEITHER, partial(_pass, OLD, case, memory, file, summed=False))
        found = there.compete(effort)
    row = found.row(row, per_second=False)
    if not case.reads or row.measured is None or NEITHER not in found.outcome.ns:
        return row
    ns = found.outcome.ns
    ratios = [(old - bare) / (new - bare) for new, old, bare in zip(ns[NEW], ns[OLD], ns[NEITHER], strict=True)]
    bare = row.rates[NEITHER]
    rates = {name: rate - bare for name, rate in row.rates.items() if name != NEITHER} | {NEITHER: bare}
    return replace(row, measured=spread(ratios), rates=rates)


def measure(effort: Effort) -> list[Row]:
    """Measure all cases."""
    return [case_row(case, effort) for case in CASES]
