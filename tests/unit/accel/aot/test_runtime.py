"""The known-answer test of every object says which answer was wrong."""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm
import pytest

from accel.aot.runtime import self_test
from accel.ir import crc
from accel.native import target_machine
from drivers.kernel_library import SELF_TEST

_NUMBA = """
define i32 @numba(ptr %result, ptr %e, ptr %a, ptr %b, i64 %c, i64 %d, ptr %f, i64 %g, i64 %h, i64 %i, i64 %j) {{
  store i32 {answer}, ptr %result, align 4
  ret i32 0
}}
"""
_OTHER = f"define i32 @{crc.SYMBOL}(i64 %a, i64 %b) {{\n  ret i32 1\n}}"


@pytest.mark.parametrize(
    ("answer", "symbol", "verdict"),
    [(0xE3069283, crc.text(["tables"]), 0), (0, crc.text(["tables"]), 1), (0xE3069283, _OTHER, 3)],
)
def test_verdicts(answer: int, symbol: str, verdict: int) -> None:
    module = llvm.parse_assembly(self_test("numba"))
    for text in (_NUMBA.format(answer=answer), symbol):
        module.link_in(llvm.parse_assembly(text))
    module.triple = llvm.get_default_triple()
    engine = llvm.create_mcjit_compiler(module, target_machine(jit=True))
    engine.finalize_object()
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(engine.get_function_address(SELF_TEST))() == verdict
