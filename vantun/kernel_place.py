"""Where the library of kernels is: in the wheel, or where ``vantun accel warm`` has built it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from drivers.kernel_library import MANIFEST, KernelLibrary, NoLibrary, open_library
from vantun.kernel_cache import ROOT, library_folder

SHIPPED = ROOT / "vantun" / "compiled"
"""Where a wheel has its library."""


def find_library(shipped: Path = SHIPPED) -> KernelLibrary | NoLibrary:
    """Return the library that was built here or, if there is none that fits, the one that was shipped. Never raises."""
    built: Path | None = None
    try:
        built = library_folder()
        found = _built_library(built) if (built / MANIFEST).exists() else None
    except RuntimeError as error:
        found = NoLibrary(f"there is no folder to look in: {error}", "set CACHE_DIRECTORY to a folder of this user")
    except OSError as error:
        found = NoLibrary(f"{built}: {error.strerror}", "set CACHE_DIRECTORY to a folder of this user")
    if isinstance(found, KernelLibrary) or (found is not None and not (shipped / MANIFEST).exists()):
        return found
    if (shipped / MANIFEST).exists():
        return open_library(shipped, ROOT, built)
    assert built is not None
    return open_library(built, ROOT, built)  # says what is missing where


def _built_library(folder: Path) -> KernelLibrary | NoLibrary:
    for path in (folder, *folder.parents, *folder.iterdir()):
        foreign = _foreign(path)
        if foreign:
            return NoLibrary(foreign, "set CACHE_DIRECTORY to a folder that only this user may write")
    return open_library(folder, ROOT, folder)


def _foreign(path: Path) -> str:
    """Return why others could have put code at a path; empty if only this user, its own group or root could."""
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user"
    everybody = facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX
    if everybody or (facts.st_mode & stat.S_IWGRP and facts.st_gid not in (os.getegid(), 0)):
        return f"{path} can be written by other users"
    return ""
