"""From a module to shared objects: one for each CPU level, position-independent, linked against the C library only."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel.aot.failure import BuildError
from accel.ir import crc
from drivers.cpu import LEVELS

_COUNTING = re.compile(r"^(define [^\n]*@NRT_(?:incref|decref)\([^#\n]*\) [^#\n]*)#\d+", re.MULTILINE)
"""The head of a function that counts references. Numba forbids to inline it until it has removed pairs of calls, which
it has by now; what is left is a comparison with null for all but arrays of a kernel's own."""


def levels_of(machine: str) -> tuple[str, ...]:
    """Return the CPU levels that a library for ``machine`` has."""
    return tuple(LEVELS) if machine == "x86_64" else (machine,)


def emit_object(module: Any, level: str) -> bytes:
    """Return the object file of a module, compiled for a level."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = level if level in LEVELS else "generic"
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features="", opt=3, reloc="pic", codemodel="default", jit=False
    )
    # Parsed again for each level: code generation changes a module.
    fresh = llvm.parse_assembly(_COUNTING.sub(r"\1 alwaysinline nounwind", str(module)))
    fresh.triple = llvm.get_default_triple()
    fresh.data_layout = str(target.target_data)
    machine = "x86_64" if level in LEVELS else level
    # All levels but the last have SSE 4.2.
    forms = crc.forms_for(machine, without_tables=bool(LEVELS.get(level)))
    fresh.link_in(llvm.parse_assembly(crc.text(forms)))
    fresh.get_function(crc.SYMBOL).linkage = llvm.Linkage.internal
    _optimize(fresh, target)
    made: bytes = target.emit_object(fresh)
    return made


def _optimize(module: Any, target: Any) -> None:
    """Optimize a module once more, now that it is whole and all but its entries is internal.

    Numba optimizes what one kernel calls; only here can LLVM see who calls what in the library, and inline it.
    """
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    passes = llvm.create_pass_builder(target, options).getModulePassManager()
    passes.run(module, llvm.create_pass_builder(target, options))


def require_linker() -> None:
    """Raise BuildError when there is no linker."""
    if shutil.which("ld") is None:
        raise BuildError("the linker ld is missing; apt-get install binutils")


def link(objects: Sequence[Path], target: Path) -> None:
    """Link object files into the shared object ``target``.

    Raises
    ------
    BuildError
        When there is no linker, or it fails.
    """
    command = ["ld", "-shared", "-z", "now", "-z", "relro", "-z", "noexecstack", "--no-undefined", "--strip-all"]
    command += ["-soname", target.name, "-o", str(target), *map(str, objects), *_system_libraries()]
    require_linker()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"ld failed on {target.name}: {done.stderr.strip()[-500:]}")


def _system_libraries() -> list[str]:
    """Return the files of the C and mathematics libraries that this process runs with: no headers, no compiler."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        name = Path(path).name
        if name.startswith(("libc.so", "libc-", "libm.so", "libm-", "ld-musl")) and path not in found:
            found.append(path)
    if not any(Path(path).name.startswith(("libc", "ld-musl")) for path in found):
        raise BuildError(f"this process on {platform.system()} runs without a C library that can be linked against")
    return found
