"""A list of C calls, made one after the other: what a foreign library without batches needs (see accel/calls.py)."""

from __future__ import annotations

ARGUMENTS = 10
"""Integer or pointer arguments of each call; who takes fewer does not see the rest (System V x86-64, AAPCS64)."""
WORDS = 2 + ARGUMENTS
"""int64 words of a record: function, result, arguments."""


def text() -> str:
    """Return the module: ``run_calls(context: records, count) -> count``."""
    loads = "\n".join(
        f"  %place{i} = getelementptr i64, ptr %record, i64 {2 + i}\n  %a{i} = load i64, ptr %place{i}, align 8"
        for i in range(ARGUMENTS)
    )
    arguments = ", ".join(f"i64 %a{i}" for i in range(ARGUMENTS))
    return f"""
define i64 @run_calls(ptr %context) {{
entry:
  %records = load ptr, ptr %context, align 8
  %count_place = getelementptr i64, ptr %context, i64 1
  %count = load i64, ptr %count_place, align 8
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %offset = mul i64 %i, {WORDS}
  %record = getelementptr i64, ptr %records, i64 %offset
  %function = load ptr, ptr %record, align 8
{loads}
  %result = call i64 %function({arguments})
  %result_place = getelementptr i64, ptr %record, i64 1
  store i64 %result, ptr %result_place, align 8
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret i64 %count
}}
"""
