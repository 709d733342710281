"""Objects of the library: optimized as a whole, for the level that they are for."""

from __future__ import annotations

import platform

import llvmlite.binding as llvm
import pytest

from accel.aot.emit import emit_object, levels_of
from accel.ir import crc

_IR = f"""
declare i32 @{crc.SYMBOL}(i64, i64)

define internal i64 @a_helper_of_the_test(i64 %x) noinline {{
  %y = mul i64 %x, 3
  ret i64 %y
}}

define internal i64 @a_small_helper(i64 %x) {{
  %y = call i64 @a_helper_of_the_test(i64 %x)
  ret i64 %y
}}

define i64 @entry(i64 %x) {{
  %y = call i64 @a_small_helper(i64 %x)
  %crc = call i32 @{crc.SYMBOL}(i64 %x, i64 %y)
  %z = zext i32 %crc to i64
  ret i64 %z
}}
"""


@pytest.mark.parametrize("level", levels_of(platform.machine()))
def test_helpers_are_inlined_across_the_library(level: str) -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    made = emit_object(llvm.parse_assembly(_IR), level)
    assert b"entry" in made
    assert b"a_helper_of_the_test" in made  # it may not be inlined
    assert b"a_small_helper" not in made


@pytest.mark.parametrize("level", levels_of(platform.machine()))
def test_every_level_has_its_crc(level: str) -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    made = emit_object(llvm.parse_assembly(_IR), level)
    assert b"vantun_crc_moves" in made or b"vantun_crc_slices" in made
    assert (b"vantun_crc_slices" in made) == (level not in ("x86-64-v3", "x86-64-v4"))
    assert (b"vantun_crc_heads" in made) == level.startswith("x86-64")
    assert crc.CHOOSE.encode() in made


_COUNTED = f"""
declare i32 @{crc.SYMBOL}(i64, i64)

define internal void @NRT_incref(ptr captures(address_is_null) %.1) local_unnamed_addr #0 {{
  %none = icmp eq ptr %.1, null
  br i1 %none, label %done, label %count
count:
  %before = atomicrmw add ptr %.1, i64 1 monotonic
  br label %done
done:
  ret void
}}

define i64 @entry(ptr %x) {{
  call void @NRT_incref(ptr %x)
  %crc = call i32 @{crc.SYMBOL}(i64 1, i64 2)
  %z = zext i32 %crc to i64
  ret i64 %z
}}

attributes #0 = {{ mustprogress nofree noinline norecurse nounwind willreturn }}
"""


def test_references_are_counted_where_they_are_used_although_numba_forbids_it() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    made = emit_object(llvm.parse_assembly(_COUNTED), levels_of(platform.machine())[0])
    assert b"entry" in made
    assert b"NRT_incref" not in made
