"""Addresses of the compiled functions of :mod:`accel.ir`: from the library built ahead of time, else compiled here.

Compiling takes llvmlite and up to seconds; an appliance finds everything in the library.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

_Function = Callable[[int], int]


@cache
def _engine(module: str) -> Any:
    """Compile an IR module; the object keeps the code alive."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    parsed = llvm.parse_assembly(importlib.import_module(f"accel.ir.{module}").text())
    parsed.verify()
    # No CPU is named: what a function may use stands in its own attributes. LLVM aborts the process otherwise.
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, codemodel="jitdefault", jit=True)
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    return engine


@cache
def function(module: str, name: str) -> _Function:
    """Return a compiled function that takes the address of its context and returns an int64.

    Raises
    ------
    KeyError
        When the module has no such function.
    """
    address = _engine(module).get_function_address(name)
    if not address:
        raise KeyError(f"the IR module {module} has no function {name}")
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(address)
