"""What compiled kernels expect of numba's runtime, as IR of our own: arrays made inside a kernel, and nothing else.

A memory block (``MemInfo``) is: references, destructor, its argument, data, bytes, allocator: 48 bytes. Compiled code
counts references itself and calls the runtime to make and to free a block.
"""

from __future__ import annotations

from accel.ir import crc
from drivers.kernel_library import SELF_TEST

_HEAD = 48

RUNTIME = f"""
declare ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_Allocate(i64 %size) {{
  %made = call ptr @malloc(i64 %size)
  ret ptr %made
}}

define void @NRT_Free(ptr %block) {{
  call void @free(ptr %block)
  ret void
}}

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %alignment) {{
  %wide = zext i32 %alignment to i64
  %more = add i64 %size, %wide
  %all = add i64 %more, {_HEAD}
  %block = call ptr @malloc(i64 %all)
  %none = icmp eq ptr %block, null
  br i1 %none, label %failed, label %made
failed:
  ret ptr null
made:
  %number = ptrtoint ptr %block to i64
  %first = add i64 %number, {_HEAD}
  %less = sub i64 %wide, 1
  %up = add i64 %first, %less
  %mask = sub i64 0, %wide
  %start = and i64 %up, %mask
  %data = inttoptr i64 %start to ptr
  store i64 1, ptr %block, align 8
  %at1 = getelementptr i64, ptr %block, i64 1
  store ptr null, ptr %at1, align 8
  %at2 = getelementptr i64, ptr %block, i64 2
  store ptr null, ptr %at2, align 8
  %at3 = getelementptr i64, ptr %block, i64 3
  store ptr %data, ptr %at3, align 8
  %at4 = getelementptr i64, ptr %block, i64 4
  store i64 %size, ptr %at4, align 8
  %at5 = getelementptr i64, ptr %block, i64 5
  store ptr null, ptr %at5, align 8
  ret ptr %block
}}

define ptr @NRT_MemInfo_alloc(i64 %size) {{
  %block = call ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 16)
  ret ptr %block
}}

define void @NRT_MemInfo_call_dtor(ptr %block) {{
  call void @free(ptr %block)
  ret void
}}
"""

_LANES = 64
_UNIT = bytes((73 * i * i + 11) & 0xFF for i in range(1403))
"""As long as that of a full packet, and no multiple of what the forms of the CRC take at a time."""


def self_test(crc32c: str) -> str:
    """Return IR of the known-answer test; ``crc32c`` is numba's symbol of accel/kernels/crc32c.py.

    1: CRC-32C of "123456789" (RFC 3720, appendix B.4); 2: sums of bytes, as wide as the level's registers are;
    3: CRC-32C of a unit, by the form that was chosen.
    """
    values = [(37 * i + 11) & 0xFF for i in range(_LANES)]
    mixed = [(a + b ^ 0x5A) & 0xFF for a, b in zip(values, reversed(values), strict=True)]
    elements = ", ".join(f"i8 {value}" for value in values)
    order = ", ".join(f"i32 {i}" for i in reversed(range(_LANES)))
    masks = ", ".join(["i8 90"] * _LANES)
    unit = ", ".join(f"i8 {byte}" for byte in _UNIT)
    return f"""
@vantun_digits = internal constant [9 x i8] c"123456789"
@vantun_lanes = internal global <{_LANES} x i8> <{elements}>
@vantun_unit = internal constant [{len(_UNIT)} x i8] [{unit}]
declare i32 @{crc.SYMBOL}(i64, i64)
declare i32 @"{crc32c}"(ptr, ptr, ptr, ptr, i64, i64, ptr, i64, i64, i64, i64)
declare i64 @llvm.vector.reduce.add.v{_LANES}i64(<{_LANES} x i64>)

define i64 @{SELF_TEST}() {{
  %result = alloca i32, align 8
  %exception = alloca ptr, align 8
  %status = call i32 @"{crc32c}"(ptr %result, ptr %exception, ptr null, ptr null, i64 9, i64 1, ptr @vantun_digits,
                                 i64 9, i64 1, i64 0, i64 9)
  %crc = load i32, ptr %result, align 4
  %right = icmp eq i32 %crc, {0xE3069283 - (1 << 32)}
  br i1 %right, label %lanes, label %wrong
wrong:
  ret i64 1
lanes:
  %given = load volatile <{_LANES} x i8>, ptr @vantun_lanes, align 64
  %turned = shufflevector <{_LANES} x i8> %given, <{_LANES} x i8> poison, <{_LANES} x i32> <{order}>
  %sum = add <{_LANES} x i8> %given, %turned
  %mixed = xor <{_LANES} x i8> %sum, <{masks}>
  %wide = zext <{_LANES} x i8> %mixed to <{_LANES} x i64>
  %total = call i64 @llvm.vector.reduce.add.v{_LANES}i64(<{_LANES} x i64> %wide)
  %same = icmp eq i64 %total, {sum(mixed)}
  br i1 %same, label %unit, label %other
other:
  ret i64 2
unit:
  %unit.crc = call i32 @{crc.SYMBOL}(i64 ptrtoint (ptr @vantun_unit to i64), i64 {len(_UNIT)})
  %sound = icmp eq i32 %unit.crc, {crc.checksum(_UNIT)}
  %verdict = select i1 %sound, i64 0, i64 3
  ret i64 %verdict
}}
"""
