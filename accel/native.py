"""Addresses of the compiled functions of :mod:`accel.ir`: from the library built ahead of time, else compiled here.

Compiling takes llvmlite and up to seconds; an appliance finds everything in the library.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from drivers.kernel import KernelError, library, mode, note_compiled

_Function = Callable[[int], int]


def exported_name(module: str, name: str) -> str:
    """Return what a function of an IR module is called in the library."""
    return f"vantun_ir_{module}_{name}"


def target_machine(*, jit: bool) -> Any:
    """Return LLVM's code generator.

    No CPU is named: what a function may use stands in its own attributes. LLVM aborts the process otherwise.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    if jit:
        return target.create_target_machine(opt=3, codemodel="jitdefault", jit=True)
    return target.create_target_machine(opt=3, reloc="pic", codemodel="default")


def compiled_module(module: str, function: str = "") -> Any:
    """Return an IR module, parsed and verified, ready for code generation; of a big one, what ``function`` needs."""
    import llvmlite.binding as llvm

    source = importlib.import_module(f"accel.ir.{module}")
    part = source.part_of(function) if function and hasattr(source, "part_of") else ""
    parsed = llvm.parse_assembly(source.text(part=part) if part else source.text())
    parsed.triple = llvm.get_default_triple()
    parsed.data_layout = str(target_machine(jit=False).target_data)
    parsed.verify()
    return parsed


_engines: dict[str, list[Any]] = {}
"""What was compiled here, by module; the objects keep the code alive."""


def _address(module: str, name: str) -> int:
    """Return the address of a function that is compiled, unless it was before."""
    import llvmlite.binding as llvm

    for engine in _engines.get(module, []):
        if address := engine.get_function_address(name):
            return int(address)
    engine = llvm.create_mcjit_compiler(compiled_module(module, name), target_machine(jit=True))
    engine.finalize_object()
    _engines.setdefault(module, []).append(engine)
    return int(engine.get_function_address(name))


@cache
def function(module: str, name: str) -> _Function:
    """Return a compiled function that takes the address of its context and returns an int64.

    Raises
    ------
    KeyError
        When the module has no such function.
    KernelError
        When it is not in the library, and must not or cannot be compiled here.
    """
    found = library()
    address = found.address(exported_name(module, name)) or _compile(module, name, found.reason, found.next_step)
    if not address:
        raise KeyError(f"the IR module {module} has no function {name}")
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(address)


def address_of_function(compiled: _Function) -> int:
    """Return where a function of :func:`function` begins."""
    return ctypes.cast(compiled, ctypes.c_void_p).value or 0  # type: ignore[arg-type] # it is a ctypes function


def _compile(module: str, name: str, why: str, next_step: str) -> int:
    reason = why or "it is of another version"
    if mode() == "native":
        raise KernelError(f"{module}.{name} is not in the library of kernels ({reason}); vantun accel warm")
    try:
        address = _address(module, name)
    except ImportError as error:
        raise KernelError(
            f"{module}.{name} is not in the library of kernels ({reason}), and llvmlite, which would compile it, is "
            "missing; vantun accel warm, or pip install 'vantun[jit]'"
        ) from error
    note_compiled(f"accel.ir.{module}.{name}", reason, next_step)
    return address
