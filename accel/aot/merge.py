"""One LLVM module of every kernel that was recorded, with an entry for each; nothing else is visible from outside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from accel.aot.failure import BuildError
from accel.aot.record import Recorded
from accel.aot.runtime import RUNTIME, self_test
from accel.aot.trampoline import trampoline
from accel.ir import crc
from drivers.kernel_library import SELF_TEST

_C_LIBRARY = (
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "malloc",
    "free",
    "read",
    "readv",
    "writev",
    "__errno_location",
    "clock_gettime",
    "recvmmsg",
    "sendmmsg",
    "epoll_wait",
    "ppoll",
    "nanosleep",
    "sched_yield",
    "getrusage",
)
_NUMBERS = ("pow", "exp", "exp2", "log", "log2", "log10", "sqrt", "floor", "ceil", "trunc", "rint", "round", "fma")
_OF_THE_SYSTEM = frozenset((*_C_LIBRARY, *_NUMBERS, crc.SYMBOL))
"""Functions that kernels may call: of the C library, and the one that every level brings (emit.py)."""
_OF_EXCEPTIONS = frozenset(("PyErr_SetString", "PyObject_Hash", "PyTuple_Pack", "PyUnicode_FromKindAndData"))
"""Functions of Python that numba's code for the text of an exception calls. An entry hands on the status alone, so they
may return nothing; any other function of Python or numba would give a kernel a wrong result, and is refused."""


def entry_symbol(number: int) -> str:
    """Return the exported name of an entry."""
    return f"vantun_kernel_{number}"


def merge(recorded: Iterable[Recorded], crc32c: Any) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Return the module, and for each kernel its entry of the manifest.

    ``crc32c`` is numba's result of compiling the CRC-32C, whose known answer every object is asked for.

    Raises
    ------
    BuildError
        When a kernel needs a function that a library of ours may not need.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly("")
    exported = {SELF_TEST}
    entries: dict[str, dict[str, Any]] = {}
    texts = []
    for number, each in enumerate(recorded):
        inner = _link_in(module, each.compiled)
        symbol = entry_symbol(number)
        sizes = list(_item_sizes(each.types))
        texts.append(trampoline(symbol, inner, each.arguments, sizes, each.result))
        exported.add(symbol)
        entries[each.kernel.name] = {
            "symbol": symbol,
            "arguments": list(each.arguments),
            "result": each.result_kind,
        }
    for text in [*texts, self_test(_link_in(module, crc32c)), RUNTIME]:
        part = llvm.parse_assembly(text)
        part.verify()
        module.link_in(part)
    _hide(module, exported)
    _stand_in(module)
    module.verify()
    return module, entries


def _link_in(module: Any, compiled: Any) -> str:
    """Add what numba has compiled to a module; return the name of its function."""
    import llvmlite.binding as llvm

    inner: str = compiled.fndesc.llvm_func_name
    part = compiled.library._get_module_for_linking().clone()
    part.get_function(inner).linkage = llvm.Linkage.external  # linking would drop a function that nobody calls yet
    module.link_in(part)
    return inner


def _item_sizes(numba_types: Iterable[Any]) -> Iterable[int]:
    from numba import types
    from numba.core.registry import cpu_target

    context = cpu_target.target_context
    for each in numba_types:
        if isinstance(each, types.Array):
            yield context.get_abi_sizeof(context.get_data_type(each.dtype))
        elif isinstance(each, types.BaseTuple):
            yield from _item_sizes(each)


def _hide(module: Any, exported: set[str]) -> None:
    """Make everything but ``exported`` internal, and drop what is not used."""
    import llvmlite.binding as llvm

    for function in module.functions:
        if not function.is_declaration and function.name not in exported:
            function.linkage = llvm.Linkage.internal
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = llvm.Linkage.internal
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_strip_dead_prototype_pass()
    target = llvm.Target.from_default_triple().create_target_machine()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options()))


def _stand_in(module: Any) -> None:
    """Define what remains of Python's interface, which only the texts of exceptions ask for; refuse the rest."""
    import llvmlite.binding as llvm

    stubs = []
    for function in module.functions:
        name = function.name
        if not function.is_declaration or name.startswith("llvm.") or name in _OF_THE_SYSTEM:
            continue
        if name not in _OF_EXCEPTIONS:
            raise BuildError(f"a kernel calls {name}, which neither the C library nor the library of kernels has")
        stubs.append(name)
    words = [each.name for each in module.global_variables if each.is_declaration and each.name.startswith("PyExc_")]
    text = [f'define ptr @"{name}"() {{\n  ret ptr null\n}}' for name in stubs]
    module.link_in(llvm.parse_assembly("\n".join(text + [f'@"{name}" = global ptr null' for name in words])))
    for name in stubs:
        module.get_function(name).linkage = llvm.Linkage.internal
    for name in words:
        module.get_global_variable(name).linkage = llvm.Linkage.internal
