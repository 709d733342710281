"""Where the library of kernels is: in the wheel, or where ``vantun accel warm`` has built it."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.kernel_library import MANIFEST, KernelLibrary, NoLibrary, open_library
from vantun.kernel_cache import ROOT, library_folder

SHIPPED = ROOT / "vantun" / "compiled"
"""Where a wheel has its library."""


def find_library(shipped: Path = SHIPPED) -> KernelLibrary | NoLibrary:
    """Return the library that was shipped or, if there is none, the one that was built here. Never raises."""
    try:
        built = library_folder()
    except RuntimeError as error:
        return NoLibrary(f"there is no folder to look in: {error}", "set CACHE_DIRECTORY to a folder of this user")
    if (shipped / MANIFEST).exists():
        found = open_library(shipped, ROOT, built)
        if isinstance(found, KernelLibrary) or not (built / MANIFEST).exists():
            return found
    foreign = _foreign(built)
    if foreign:
        return NoLibrary(foreign, "set CACHE_DIRECTORY to a folder that only this user may write")
    return open_library(built, ROOT, built)


def _foreign(folder: Path) -> str:
    """Return why code in a folder cannot be trusted; empty if only this user or root could have put it there."""
    try:
        facts = folder.stat()
    except OSError:
        return ""  # what is not there is no danger
    if facts.st_uid not in (os.geteuid(), 0) or facts.st_mode & 0o022:
        return f"{folder} can be written by other users"
    return ""
