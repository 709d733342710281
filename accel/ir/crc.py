"""CRC-32C of memory, as fast as the processor can: what every shard's unit ends with.

Three forms: ``folding`` by carry-less multiplication of long vectors (:mod:`accel.ir.crc_fold`), the CRC
``instruction``, and ``tables``. No CPU level implies what folding needs, so a module has several forms, and is told
once, by a call of CHOOSE, which one this processor runs; until then it is the last of them.

The instruction takes eight bytes and gives its result three cycles later, so three thirds of a stretch are summed side
by side, and put together by a table: the sum of a third, moved on by as many zero bytes as the other thirds have (the
table is linear: one for each byte of the sum). Eight bytes a step by tables in plain code took 27 % of a sending
worker's time.

Source: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel 2011.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Collection, Sequence
from typing import Any

from accel.ir import crc_fold
from accel.ir.crc_fold import REFLECTED

SYMBOL = "vantun_crc32c"
"""``i32 SYMBOL(i64 address, i64 length)``: what kernels call."""
CHOOSE = "vantun_choose_crc"
"""``void CHOOSE(i64 number)``: the form to use, by its place in FORMS; no form that this processor lacks."""
FORMS: dict[str, frozenset[str]] = {
    "folding": frozenset(
        ["sse4_2", "pclmulqdq", "vpclmulqdq", "avx2", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl"]
    ),
    "instruction": frozenset(["sse4_2"]),
    "tables": frozenset(),
}
"""What each form needs (names of /proc/cpuinfo), the fastest first."""
_FOLDING = "+sse4.2,+crc32,+pclmul,+vpclmulqdq,+avx2,+bmi2,+avx512f,+avx512bw,+avx512dq,+avx512vl"
_STEP = "call i64 @llvm.x86.sse42.crc32.64.64"
_THIRD = 232
"""Bytes of a third: two stretches are most of the unit of a full packet (1400 B)."""


def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (REFLECTED if byte & 1 else 0)
        table.append(byte)
    return table


def _slices(table: list[int]) -> list[int]:
    """Return eight tables of 256: what a byte adds to the sum with 0 to 7 bytes behind it."""
    found = list(table)
    for step in range(1, 8):
        before = found[256 * (step - 1) : 256 * step]
        found += [(value >> 8) ^ table[value & 0xFF] for value in before]
    return found


def _moves(table: list[int], size: int) -> list[int]:
    """Return four tables of 256: what each byte of a sum becomes when ``size`` zero bytes follow."""
    basis = []
    for bit in range(32):
        value = 1 << bit
        for _ in range(size):
            value = (value >> 8) ^ table[value & 0xFF]
        basis.append(value)
    found = []
    for place in range(4):
        for byte in range(256):
            value = 0
            for bit in range(8):
                value ^= basis[8 * place + bit] if byte >> bit & 1 else 0
            found.append(value)
    return found


def _constant(name: str, values: Sequence[int], kind: str = "i32") -> str:
    words = ", ".join(f"{kind} {value}" for value in values)
    return f"@{name} = internal constant [{len(values)} x {kind}] [{words}], align 64"


def _look_up(table: str, index: str, into: str) -> str:
    return f"  {into}at = getelementptr i32, ptr @{table}, i64 {index}\n  {into} = load i32, ptr {into}at, align 4"


def _crossing(value: str, prefix: str) -> str:
    """Return code that moves the sum in ``value`` on by a third, into ``%{prefix}``."""
    lines = [f"  %{prefix}w = zext i32 {value} to i64"]
    for place in range(4):
        lines += [
            f"  %{prefix}s{place} = lshr i64 %{prefix}w, {8 * place}",
            f"  %{prefix}b{place} = and i64 %{prefix}s{place}, 255",
            f"  %{prefix}i{place} = add i64 %{prefix}b{place}, {256 * place}",
            _look_up("vantun_crc_moves", f"%{prefix}i{place}", f"%{prefix}t{place}"),
        ]
    lines += [
        f"  %{prefix}x = xor i32 %{prefix}t0, %{prefix}t1",
        f"  %{prefix}y = xor i32 %{prefix}t2, %{prefix}t3",
        f"  %{prefix} = xor i32 %{prefix}x, %{prefix}y",
    ]
    return "\n".join(lines)


def _instruction_text() -> str:
    return f"""
{_constant("vantun_crc_moves", _moves(_byte_table(), _THIRD))}
declare i64 @llvm.x86.sse42.crc32.64.64(i64, i64)
declare i32 @llvm.x86.sse42.crc32.32.8(i32, i8)

define internal i32 @{_name("instruction")}(i64 %address, i64 %length) "target-features"="+sse4.2,+crc32" {{
entry:
  %begin = inttoptr i64 %address to ptr
  br label %stretch
stretch:
  %at = phi ptr [ %begin, %entry ], [ %at.next, %joined ]
  %left = phi i64 [ %length, %entry ], [ %left.next, %joined ]
  %crc = phi i32 [ -1, %entry ], [ %crc.next, %joined ]
  %long = icmp uge i64 %left, {3 * _THIRD}
  %crc.wide = zext i32 %crc to i64
  br i1 %long, label %thirds, label %words
thirds:
  %i = phi i64 [ 0, %stretch ], [ %i.next, %thirds ]
  %a = phi i64 [ %crc.wide, %stretch ], [ %a.next, %thirds ]
  %b = phi i64 [ 0, %stretch ], [ %b.next, %thirds ]
  %c = phi i64 [ 0, %stretch ], [ %c.next, %thirds ]
  %a.at = getelementptr i8, ptr %at, i64 %i
  %b.at = getelementptr i8, ptr %a.at, i64 {_THIRD}
  %c.at = getelementptr i8, ptr %a.at, i64 {2 * _THIRD}
  %a.word = load i64, ptr %a.at, align 1
  %b.word = load i64, ptr %b.at, align 1
  %c.word = load i64, ptr %c.at, align 1
  %a.next = {_STEP}(i64 %a, i64 %a.word)
  %b.next = {_STEP}(i64 %b, i64 %b.word)
  %c.next = {_STEP}(i64 %c, i64 %c.word)
  %i.next = add i64 %i, 8
  %inside = icmp ult i64 %i.next, {_THIRD}
  br i1 %inside, label %thirds, label %joined
joined:
  %a.sum = trunc i64 %a.next to i32
  %b.sum = trunc i64 %b.next to i32
  %c.sum = trunc i64 %c.next to i32
{_crossing("%a.sum", "m")}
  %ab = xor i32 %m, %b.sum
{_crossing("%ab", "n")}
  %crc.next = xor i32 %n, %c.sum
  %at.next = getelementptr i8, ptr %at, i64 {3 * _THIRD}
  %left.next = sub i64 %left, {3 * _THIRD}
  br label %stretch
{_instruction_end()}
"""


def _instruction_end() -> str:
    """Return what follows the stretches: words, then single bytes."""
    return f"""words:
  %w.at = phi ptr [ %at, %stretch ], [ %w.at.next, %word ]
  %w.left = phi i64 [ %left, %stretch ], [ %w.left.next, %word ]
  %w = phi i64 [ %crc.wide, %stretch ], [ %w.next, %word ]
  %w.some = icmp uge i64 %w.left, 8
  br i1 %w.some, label %word, label %rest
word:
  %w.word = load i64, ptr %w.at, align 1
  %w.next = {_STEP}(i64 %w, i64 %w.word)
  %w.at.next = getelementptr i8, ptr %w.at, i64 8
  %w.left.next = sub i64 %w.left, 8
  br label %words
rest:
  %w.sum = trunc i64 %w to i32
  br label %bytes
bytes:
  %r.at = phi ptr [ %w.at, %rest ], [ %r.at.next, %byte ]
  %r.left = phi i64 [ %w.left, %rest ], [ %r.left.next, %byte ]
  %r = phi i32 [ %w.sum, %rest ], [ %r.next, %byte ]
  %r.some = icmp ne i64 %r.left, 0
  br i1 %r.some, label %byte, label %done
byte:
  %r.byte = load i8, ptr %r.at, align 1
  %r.next = call i32 @llvm.x86.sse42.crc32.32.8(i32 %r, i8 %r.byte)
  %r.at.next = getelementptr i8, ptr %r.at, i64 1
  %r.left.next = sub i64 %r.left, 1
  br label %bytes
done:
  %result = xor i32 %r, -1
  ret i32 %result
}}"""


def _plain_step() -> str:
    """Return code that puts the eight bytes in ``%w.low`` (the sum's half) and ``%w.word`` through the tables."""
    lines = []
    for place in range(8):
        lines += [
            f"  %s{place} = lshr i64 %w.mixed, {8 * place}",
            f"  %b{place} = and i64 %s{place}, 255",
            f"  %i{place} = add i64 %b{place}, {256 * (7 - place)}",
            _look_up("vantun_crc_slices", f"%i{place}", f"%t{place}"),
        ]
    lines.append("  %x1 = xor i32 %t0, %t1")
    lines += [f"  %x{place} = xor i32 %x{place - 1}, %t{place}" for place in range(2, 8)]
    return "\n".join(lines)


def _plain_text() -> str:
    return f"""
{_constant("vantun_crc_slices", _slices(_byte_table()))}

define internal i32 @{_name("tables")}(i64 %address, i64 %length) {{
entry:
  %begin = inttoptr i64 %address to ptr
  br label %words
words:
  %w.at = phi ptr [ %begin, %entry ], [ %w.at.next, %word ]
  %w.left = phi i64 [ %length, %entry ], [ %w.left.next, %word ]
  %w = phi i32 [ -1, %entry ], [ %x7, %word ]
  %w.some = icmp uge i64 %w.left, 8
  br i1 %w.some, label %word, label %bytes
word:
  %w.word = load i64, ptr %w.at, align 1
  %w.low = zext i32 %w to i64
  %w.mixed = xor i64 %w.low, %w.word
{_plain_step()}
  %w.at.next = getelementptr i8, ptr %w.at, i64 8
  %w.left.next = sub i64 %w.left, 8
  br label %words
bytes:
  %r.at = phi ptr [ %w.at, %words ], [ %r.at.next, %byte ]
  %r.left = phi i64 [ %w.left, %words ], [ %r.left.next, %byte ]
  %r = phi i32 [ %w, %words ], [ %r.next, %byte ]
  %r.some = icmp ne i64 %r.left, 0
  br i1 %r.some, label %byte, label %done
byte:
  %r.byte = load i8, ptr %r.at, align 1
  %r.low = trunc i32 %r to i8
  %r.place = xor i8 %r.low, %r.byte
  %r.index = zext i8 %r.place to i64
{_look_up("vantun_crc_slices", "%r.index", "%r.value")}
  %r.shifted = lshr i32 %r, 8
  %r.next = xor i32 %r.shifted, %r.value
  %r.at.next = getelementptr i8, ptr %r.at, i64 1
  %r.left.next = sub i64 %r.left, 1
  br label %bytes
done:
  %result = xor i32 %r, -1
  ret i32 %result
}}
"""


def _folding_text() -> str:
    declared: set[str] = set()
    function = crc_fold.function(_name("folding"), _name("instruction"), f'"target-features"="{_FOLDING}"', declared)
    others = sorted(each for each in declared if ".crc32." not in each)  # the instruction's form declares that
    return "\n".join([_constant(crc_fold.HEADS, crc_fold.heads(), "i64"), function, *others])


def _choice_text(forms: Sequence[str]) -> str:
    """Return SYMBOL and CHOOSE. A form is asked for by its number: nobody can point the call anywhere else."""
    numbers = list(FORMS)
    cases = " ".join(f"i64 {numbers.index(form)}, label %{form}" for form in forms[:-1])
    calls = "\n".join(
        f"""{form}:
  %{form}.sum = tail call i32 @{_name(form)}(i64 %address, i64 %length)
  ret i32 %{form}.sum"""
        for form in forms
    )
    return f"""
@vantun_crc_form = internal global i64 {numbers.index(forms[-1])}, align 8

define void @{CHOOSE}(i64 %number) {{
  store i64 %number, ptr @vantun_crc_form, align 8
  ret void
}}

define i32 @{SYMBOL}(i64 %address, i64 %length) {{
entry:
  %form = load i64, ptr @vantun_crc_form, align 8
  switch i64 %form, label %{forms[-1]} [ {cases} ]
{calls}
}}
"""


def _name(form: str) -> str:
    return f"{SYMBOL}_{form}"


def forms_for(machine: str = "", *, without_tables: bool = False) -> list[str]:
    """Return the forms of a module for ``machine`` (as ``uname -m`` says; default: this one).

    What is compiled for processors that all have the instruction needs no tables.
    """
    if (machine or platform.machine()) not in ("x86_64", "AMD64"):
        return ["tables"]
    return [form for form in FORMS if form != "tables" or not without_tables]


def text(forms: Sequence[str]) -> str:
    """Return a module with SYMBOL and CHOOSE for some forms, which are in the order of FORMS."""
    parts = {"folding": _folding_text, "instruction": _instruction_text, "tables": _plain_text}
    return "\n".join([*(parts[form]() for form in forms), _choice_text(forms)])


def choose_form(flags: Collection[str]) -> int:
    """Return the number of the fastest form that a processor can run."""
    return next(number for number, needs in enumerate(FORMS.values()) if needs <= set(flags))


def jit_address() -> int:
    """Return the address of SYMBOL, compiled here for this processor: for kernels that numba compiles."""
    import llvmlite.binding as llvm

    from accel.native import target_machine
    from drivers.cpu import read_cpu

    if not _compiled:
        module = llvm.parse_assembly(text(forms_for()))
        module.triple = llvm.get_default_triple()
        engine = llvm.create_mcjit_compiler(module, target_machine(jit=True))
        engine.finalize_object()
        choose = ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address(CHOOSE))
        choose(choose_form(read_cpu().flags))
        _compiled.append(engine)
    return int(_compiled[0].get_function_address(SYMBOL))


def checksum(content: bytes) -> int:
    """Return the CRC-32C, byte by byte: for known answers."""
    table = _byte_table()
    value = 0xFFFFFFFF
    for byte in content:
        value = (value >> 8) ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


_compiled: list[Any] = []
"""The object keeps the code alive."""
