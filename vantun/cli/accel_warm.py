"""``vantun accel warm``: compile the kernels for this machine, now instead of at the first start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vantun.cli import render
from vantun.errors import EXIT_OK, InstallError, ResourceError

if TYPE_CHECKING:
    from drivers.kernel_library import KernelLibrary


@click.command("warm", short_help="Compile the kernels ahead of time.")
@click.option("--force", is_flag=True, help="Compile although there is a library that fits.")
@click.option("--into", type=click.Path(path_type=Path), help="Write the library here instead; for packagers.")
def warm(force: bool, into: Path | None) -> int:  # noqa: FBT001
    """Compile every kernel into a library, so that workers start in tenths of a second and without a compiler.

    A wheel brings its library, and nothing is done then. Otherwise it takes minutes, once; needs the packages numba and
    llvmlite (pip install 'vantun[jit]') and the linker ld (binutils). Running appliances go on with what they have.
    """
    if into is not None:
        _build(into)
        return EXIT_OK
    from drivers.kernel_library import KernelLibrary
    from vantun.kernel_cache import library_folder
    from vantun.kernel_place import find_library

    found = find_library()
    if isinstance(found, KernelLibrary) and not force:
        render.line(f"{_described(found)}; nothing to do (--force compiles again)")
        return EXIT_OK
    if not isinstance(found, KernelLibrary):
        render.line(f"{found.reason}; building")
    try:
        folder = library_folder()
    except RuntimeError as error:  # no home folder
        raise ResourceError(f"no folder for the library: {error}; set CACHE_DIRECTORY") from error
    started = time.monotonic()
    _build(folder)
    made = find_library()
    if not isinstance(made, KernelLibrary):
        raise ResourceError(f"the library was built but cannot be used: {made.reason}; {made.next_step}")
    render.line(f"{_described(made)}; it took {time.monotonic() - started:.0f} s")
    return EXIT_OK


def _build(folder: Path) -> None:
    from accel.aot.failure import BuildError

    try:
        from vantun.kernel_build import build_library

        build_library(folder, render.line)
    except ImportError as error:
        raise InstallError(f"{error.name} is missing, which compiles the kernels; pip install 'vantun[jit]'") from error
    except BuildError as error:
        raise ResourceError(str(error)) from error


def _described(found: KernelLibrary) -> str:
    return f"{len(found.entries)} kernels for {found.level} in {found.folder}"
