"""Calls of kernels in the library: from Python arguments to the one pointer that compiled code takes.

The pointer is a row of int64 words. Word 0 holds the address of numpy's array type; then every argument has its words:
a number one, an array two (address of the array object, address of the dtype that it should have), a tuple those of its
items; last come the words of the result. The compiled side of an entry (accel/aot/trampoline.py) reads data address,
shape and strides from the array object itself, after it has seen that type, dtype, dimensions and flags are the right
ones. So Python lays down an address for each array, and never looks into one.

Arrays are read where numpy's and CPython's stable ABI place them (``PyArrayObject_fields``); :func:`layout_fault` looks
once in each process whether they do.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from typing import Any
from weakref import WeakSet

import numpy as np

from drivers.checksum import checksum
from drivers.kernel import KernelError

Arguments = tuple[Any, ...]
Kind = Any
"""Of an argument or a result, as JSON: ``"i8"``, ``"u8"``, ``"f8"``, ``"b1"``, ``["array", dimensions, dtype mark,
flags]``, ``["tuple", [kinds], class]`` (class: ``module:name`` or ""), and of a result ``"none"`` too."""

MISFIT = -1000
"""Status of an entry whose array arguments are not what it was compiled for."""
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
"""numpy's flags of an array."""
OBJECT_TYPE, ARRAY_DATA, ARRAY_NDIM, ARRAY_SHAPE, ARRAY_STRIDES, ARRAY_DTYPE, ARRAY_FLAGS = 8, 16, 24, 32, 40, 56, 64
"""Byte offsets in an array object."""

Refused = Callable[[Arguments, str], Any]


def layout_fault() -> str:
    """Return why array objects cannot be read where this module expects their fields; empty if they can."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"this is not 64-bit CPython but {sys.implementation.name}"
    if hasattr(sys, "_is_gil_enabled"):
        return "" if sys._is_gil_enabled() and _fields_agree() else "array objects of this Python lie differently"
    return "" if _fields_agree() else "array objects of this numpy lie differently"


def _fields_agree() -> bool:
    probe = np.zeros((3, 5), np.int16)[:, 1:4]

    def word(offset: int) -> int:
        return ctypes.c_int64.from_address(id(probe) + offset).value

    return (
        word(OBJECT_TYPE) == id(np.ndarray)
        and word(ARRAY_DTYPE) == id(probe.dtype)
        and word(ARRAY_DATA) == probe.ctypes.data
        and ctypes.c_int32.from_address(id(probe) + ARRAY_NDIM).value == 2
        and list((ctypes.c_int64 * 2).from_address(word(ARRAY_SHAPE))) == [3, 3]
        and list((ctypes.c_int64 * 2).from_address(word(ARRAY_STRIDES))) == [10, 2]
        and ctypes.c_int32.from_address(id(probe) + ARRAY_FLAGS).value & 0x501 == probe.flags.num & 0x501
    )


@cache
def dtype_mark(dtype: np.dtype[Any]) -> str:
    """Return what a dtype looks like to compiled code: its bytes, and of a record a digest of its fields."""
    if dtype.fields is None:
        if dtype.subdtype is not None:
            return f"{dtype_mark(dtype.subdtype[0])}{list(dtype.subdtype[1])}"
        return dtype.str
    fields = ",".join(f"{name}@{dtype.fields[name][1]}:{dtype_mark(dtype.fields[name][0])}" for name in dtype.fields)
    return f"V{dtype.itemsize}-{checksum(fields.encode())}"


def words(kind: Kind) -> int:
    """Return how many words of the row an argument or a result of ``kind`` takes."""
    if isinstance(kind, str):
        return 0 if kind == "none" else 1
    return 2 if kind[0] == "array" else sum(words(item) for item in kind[1])


@dataclass(frozen=True)
class Entry:
    """A kernel of the library: its address, and what it takes and returns."""

    name: str
    address: int
    arguments: tuple[Kind, ...]
    result: Kind

    def bind(self, refused: Refused) -> Callable[..., Any]:
        """Return a function that calls the kernel; what does not fit goes to ``refused`` with the reason.

        A row belongs to a thread: another thread's call gets a function of its own.
        """
        others: dict[int, Callable[..., Any]] = {}

        def other(*arguments: Any) -> Any:
            if get_ident() not in others:
                others[get_ident()] = _Caller(self, refused, other).function
            return others[get_ident()](*arguments)

        return _Caller(self, refused, other).function


_CALLERS: WeakSet[_Caller] = WeakSet()


def forget_arguments() -> None:
    """Let go of the tuples that kernels were called with last, and so of their arrays.

    A worker's rehearsal left 1 MB that way. A tuple that comes again is laid anew.
    """
    for caller in list(_CALLERS):
        caller.forget()


class _Caller:
    """The row of an entry for one thread, and the function that fills it."""

    def __init__(self, entry: Entry, refused: Refused, other: Callable[..., Any]) -> None:
        self._entry = entry
        self._refused = refused
        self._arrays: list[tuple[int, str, Kind]] = []
        self._dtypes: dict[int, np.dtype[Any]] = {}  # alive for as long as their addresses stand in the row
        self._classes: list[Any] = []
        self._lines: list[str] = []
        self._tuples: list[str] = []
        place = 1
        names = [f"a{i}" for i in range(len(entry.arguments))]
        for name, kind in zip(names, entry.arguments, strict=True):
            place = self._lay(name, kind, place, "        ")
        total = place + words(entry.result)
        self._row = np.zeros(total, np.int64)
        self._row[0] = id(np.ndarray)
        self._run = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(entry.address)
        self._address = int(self._row.ctypes.data)
        result = self._result(entry.result, place)[0]
        self.function, self.forget = self._make(names, result, other)
        _CALLERS.add(self)

    def _lay(self, name: str, kind: Kind, place: int, indent: str) -> int:
        """Write the lines that lay an argument into the row from ``place`` on; return the place of the next one."""
        if isinstance(kind, str):
            view = {"f8": "doubles", "u8": "unsigned"}.get(kind, "signed")
            self._lines.append(f"{indent}{view}[{place}] = {name}")
            return place + 1
        if kind[0] == "array":
            self._lines.append(f"{indent}signed[{place}] = id({name})")
            self._arrays.append((place, name, kind))
            return place + 2
        kept = f"kept{len(self._tuples)}"
        self._tuples.append(kept)
        # A tuple never changes, and lives while it is kept: its items are laid once.
        self._lines += [f"{indent}if {name} is not {kept}:", f"{indent}    {kept} = None"]
        good = f"isinstance({name}, tuple) and len({name}) == {len(kind[1])}"
        self._lines.append(f"{indent}    if not ({good}): raise TypeError('no tuple of {len(kind[1])}')")
        for i, item in enumerate(kind[1]):
            place = self._lay(f"{name}[{i}]", item, place, indent + "    ")
        self._lines.append(f"{indent}    {kept} = {name}")
        return place

    def _result(self, kind: Kind, place: int) -> tuple[str, int]:
        if isinstance(kind, str):
            text = {
                "none": "None",
                "f8": f"doubles[{place}]",
                "u8": f"unsigned[{place}]",
                "b1": f"signed[{place}] != 0",
            }
            return text.get(kind, f"signed[{place}]"), place + words(kind)
        items = []
        for item in kind[1]:
            text_of_item, place = self._result(item, place)
            items.append(text_of_item)
        if not kind[2]:
            return f"({', '.join(items)},)", place
        module, _, name = kind[2].partition(":")
        self._classes.append(getattr(importlib.import_module(module), name))
        return f"classes[{len(self._classes) - 1}]({', '.join(items)})", place

    def _make(
        self, names: list[str], result: str, other: Callable[..., Any]
    ) -> tuple[Callable[..., Any], Callable[[], None]]:
        given = ", ".join(names) + ("," if len(names) == 1 else "")
        text = [f"def make(signed, unsigned, doubles, {', '.join(_CONSTANTS)}):"]
        text += [f"  {kept} = None" for kept in self._tuples]
        text.append(f"  def call({', '.join(names)}):")
        text += [f"    nonlocal {kept}" for kept in self._tuples]
        text += ["    if get_ident() != owner:", f"      return other({', '.join(names)})", "    try:"]
        text += self._lines or ["        pass"]
        text += ["    except (TypeError, ValueError, OverflowError) as error:"]
        text += [f"        return misfit(({given}), str(error))", "    status = run(address)"]
        text += ["    if status != 0:", f"        failed = after(status, ({given}))"]
        text += [
            "        if failed is not None:",
            "            return failed[0]",
            f"    return {result}",
            "  def forget():",
            *(f"    nonlocal {kept}" for kept in self._tuples),
            *(f"    {kept} = None" for kept in self._tuples),
            "    pass",
            "  return call, forget",
        ]
        space: dict[str, Any] = {}
        exec("\n".join(text), space)  # made of our own manifest's kinds; a hundred lines of closures otherwise
        view = self._row.data
        constants = {
            "run": self._run,
            "address": self._address,
            "owner": get_ident(),
            "get_ident": get_ident,
            "other": other,
            "misfit": self._misfit,
            "after": self._after,
            "classes": self._classes,
        }
        made: tuple[Callable[..., Any], Callable[[], None]]
        made = space["make"](view, view.cast("B").cast("Q"), view.cast("B").cast("d"), **constants)
        return made

    def _misfit(self, arguments: Arguments, why: str) -> Any:
        return self._refused(arguments, f"called with other arguments than it was compiled for ({why})")

    def _after(self, status: int, arguments: Arguments) -> tuple[Any] | None:
        """Deal with a status that is not 0; return the result of another way of calling, or None to go on."""
        if status != MISFIT:
            raise KernelError(f"kernel {self._entry.name} ended with error {status}; report it, with the log")
        why = self._adopt(arguments)
        if not why:
            status = self._run(self._address)
            if status == 0:
                return None
            why = "an array of another shape" if status == MISFIT else f"error {status}"
        return (self._misfit(arguments, why),)

    def _adopt(self, arguments: Arguments) -> str:
        """Write the dtypes of the arrays into the row if compiled code can take them; return why not."""
        space = {f"a{i}": argument for i, argument in enumerate(arguments)}
        for place, name, (_, dimensions, mark, flags) in self._arrays:
            array = eval(name, {}, space)  # "a1[2]", made by _lay
            if type(array) is not np.ndarray:
                return f"{name} is not an array but {type(array).__name__}"
            if array.ndim != dimensions or array.flags.num & flags != flags or dtype_mark(array.dtype) != mark:
                return f"{name} is {array.ndim}-dimensional {array.dtype.str} with flags {array.flags.num:#x}"
            self._dtypes[place] = array.dtype
            self._row[place + 1] = id(array.dtype)
        return ""


_CONSTANTS = ("run", "address", "owner", "get_ident", "other", "misfit", "after", "classes")
