"""The entry of a kernel: LLVM IR of a function that takes a row of words and calls what numba has compiled.

numba's calling convention is ``i32 f(result*, exception**, arguments)``, with an array as (meminfo, parent, items, item
size, data, shape ..., strides ...) and a tuple as its items. The row is that of :mod:`drivers.kernel_calls`.
"""

from __future__ import annotations

from typing import Any

from drivers.kernel_calls import (
    ARRAY_DATA,
    ARRAY_DTYPE,
    ARRAY_FLAGS,
    ARRAY_NDIM,
    ARRAY_SHAPE,
    ARRAY_STRIDES,
    MISFIT,
    OBJECT_TYPE,
    Kind,
)

_LLVM_OF = {"i8": "i64", "u8": "i64", "f8": "double"}


class _Writer:
    """The body of one function, and the names in it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.given: list[str] = []
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"%v{self._names}"

    def add(self, operation: str) -> str:
        """Append ``name = operation``; return the name."""
        name = self.name()
        self.lines.append(f"  {name} = {operation}")
        return name

    def load(self, llvm_type: str, base: str, offset: int) -> str:
        place = self.add(f"getelementptr i8, ptr {base}, i64 {offset}")
        return self.add(f"load {llvm_type}, ptr {place}, align {4 if llvm_type == 'i32' else 8}")

    def demand(self, condition: str) -> None:
        """Go on if the i1 is true, else leave with MISFIT."""
        label = f"fits{self._names}"
        self.lines += [f"  br i1 {condition}, label %{label}, label %misfit", f"{label}:"]

    def argument(self, kind: Kind, place: int) -> int:
        """Read an argument from the row; return the place of the next one."""
        if kind == "b1":
            word = self.load("i64", "%row", 8 * place)
            flag = self.add(f"icmp ne i64 {word}, 0")
            self.given.append(f"i8 {self.add(f'zext i1 {flag} to i8')}")
            return place + 1
        if isinstance(kind, str):
            self.given.append(f"{_LLVM_OF[kind]} {self.load(_LLVM_OF[kind], '%row', 8 * place)}")
            return place + 1
        if kind[0] == "array":
            self._array(kind[1], kind[3], place)
            return place + 2
        for item in kind[1]:
            place = self.argument(item, place)
        return place

    def _array(self, dimensions: int, flags: int, place: int) -> None:
        array = self.load("ptr", "%row", 8 * place)
        self._same("ptr", self.load("ptr", array, OBJECT_TYPE), self.load("ptr", "%row", 0))
        dtype = self.load("ptr", array, ARRAY_DTYPE)
        self._same("ptr", dtype, self.load("ptr", "%row", 8 * place + 8))
        self._same("i32", self.load("i32", array, ARRAY_NDIM), str(dimensions))
        self._same("i32", self.add(f"and i32 {self.load('i32', array, ARRAY_FLAGS)}, {flags}"), str(flags))
        shape, strides = self.load("ptr", array, ARRAY_SHAPE), self.load("ptr", array, ARRAY_STRIDES)
        sizes = [self.load("i64", shape, 8 * i) for i in range(dimensions)]
        items = "1"
        for size in sizes:
            items = self.add(f"mul i64 {items}, {size}")
        steps = [self.load("i64", strides, 8 * i) for i in range(dimensions)]
        self.given += [
            "ptr null",
            "ptr null",
            f"i64 {items}",
            "i64 @SIZE@",
            f"ptr {self.load('ptr', array, ARRAY_DATA)}",
        ]
        self.given += [f"i64 {each}" for each in sizes + steps]

    def _same(self, llvm_type: str, one: str, other: str) -> None:
        self.demand(self.add(f"icmp eq {llvm_type} {one}, {other}"))

    def result(self, numba_type: Any, llvm_type: str, base: str, place: int) -> int:
        """Write the result into the row from ``place`` on."""
        from numba import types

        if isinstance(numba_type, types.BaseTuple):
            uniform = isinstance(numba_type, types.UniTuple | types.NamedUniTuple)
            for i, each in enumerate(numba_type):
                inner = value_type(each)
                index = f"i64 0, i64 {i}" if uniform else f"i32 0, i32 {i}"
                place = self.result(each, inner, self.add(f"getelementptr {llvm_type}, ptr {base}, {index}"), place)
            return place
        value = self.add(f"load {llvm_type}, ptr {base}")
        if llvm_type not in ("i64", "double"):
            signed = getattr(numba_type, "signed", False)
            value = self.add(f"{'sext' if signed else 'zext'} {llvm_type} {value} to i64")
        target = self.add(f"getelementptr i64, ptr %row, i64 {place}")
        self.lines.append(f"  store {'double' if llvm_type == 'double' else 'i64'} {value}, ptr {target}, align 8")
        return place + 1


def value_type(numba_type: Any) -> str:
    """Return how numba stores a result: the LLVM type, as text."""
    from numba import types

    if isinstance(numba_type, types.UniTuple | types.NamedUniTuple):
        return f"[{len(numba_type)} x {value_type(numba_type[0])}]"
    if isinstance(numba_type, types.BaseTuple):
        return "{" + ", ".join(value_type(each) for each in numba_type) + "}"
    plain = types.unliteral(numba_type)
    if isinstance(plain, types.Boolean):
        return "i8"
    if isinstance(plain, types.NoneType):
        return "ptr"
    return "double" if isinstance(plain, types.Float) else f"i{plain.bitwidth}"


def trampoline(symbol: str, inner: str, kinds: tuple[Kind, ...], item_sizes: list[int], result: Any) -> str:
    """Return IR that defines ``symbol`` and declares ``inner``.

    ``item_sizes`` are the bytes of an item of each array, in the order in which they stand in ``kinds``; ``result`` is
    numba's type of the result.
    """
    from numba import types

    writer = _Writer()
    place = 1
    for kind in kinds:
        place = writer.argument(kind, place)
    sizes = iter(item_sizes)
    given = [f"i64 {next(sizes)}" if each == "i64 @SIZE@" else each for each in writer.given]
    llvm_type = value_type(result)
    parameters = ", ".join(["ptr", "ptr", *(each.split(" ", 1)[0] for each in given)])
    status = writer.add(f'call i32 @"{inner}"({", ".join(["ptr %result", "ptr %exception", *given])})')
    # 0 and -2 (None) are numba's good statuses; -1 is an exception of its own, above 0 those that a kernel raises.
    good = writer.add(f"icmp eq i32 {status}, 0")
    none = writer.add(f"icmp eq i32 {status}, -2")
    well = writer.add(f"or i1 {good}, {none}")
    writer.lines += [f"  br i1 {well}, label %done, label %failed", "done:"]
    if not isinstance(result, types.NoneType):
        writer.result(result, llvm_type, "%result", place)
    body = "\n".join(writer.lines)
    return f"""
declare i32 @"{inner}"({parameters})
define i64 @"{symbol}"(ptr %row) {{
entry:
  %result = alloca {llvm_type}, align 16
  %exception = alloca ptr, align 8
{body}
  ret i64 0
failed:
  %code = sext i32 {status} to i64
  ret i64 %code
misfit:
  ret i64 {MISFIT}
}}
"""
