"""The modules of :mod:`accel.ir` as objects for the library; their functions get names that say whose they are."""

from __future__ import annotations

from typing import Any

from accel.native import compiled_module, exported_name, target_machine


def ir_object(name: str) -> bytes:
    """Return the object file of a module. What a function may use stands in its attributes, so one fits every level."""
    import llvmlite.binding as llvm

    module: Any = compiled_module(name)
    for function in module.functions:
        if not function.is_declaration and function.linkage == llvm.Linkage.external:
            function.name = exported_name(name, function.name)
    made: bytes = target_machine(jit=False).emit_object(module)
    return made
