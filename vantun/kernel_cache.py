"""Where compiled kernels lie: the library made ahead of time, and what numba keeps where there is none.

The library is part of the wheel, or was built on this machine by ``vantun accel warm``, which keeps it beside numba's
cache (:mod:`vantun.kernel_place`). numba's own choice is ``__pycache__`` beside the source, which an installed
appliance cannot write and a checkout should not have. It must be told before it is imported, hence this module, which
imports nothing heavy.

numba looks at the file of a kernel alone, not at the files of the kernels that it calls: after a change in one file it
would go on using what it compiled from the old one into another. So the folder's name holds a digest of the files whose
kernels are called from elsewhere.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.cache import cache_base, own_folder
from drivers.checksum import checksum
from drivers.kernel import use_library
from vantun import __version__

if TYPE_CHECKING:
    from drivers.kernel_library import KernelLibrary, NoLibrary

ROOT = Path(__file__).resolve().parent.parent
"""The folder of our three packages."""

SHARED_KERNELS = (
    "accel/device/packet_rows.py",
    "accel/device/parts.py",
    "accel/device/runs.py",
    "accel/engine.py",
    "accel/gf256",
    "accel/ir/aead_code.py",
    "accel/ir/crc.py",
    "accel/ir/crc_fold.py",
    "accel/kernels",
    "accel/service/columns.py",
    "drivers/arena.py",
    "drivers/batch.py",
    "drivers/linux/libc.py",
    "drivers/linux/tun.py",
    "vantun/dataplane/context.py",
    "vantun/dataplane/tun_tables.py",
    "vantun/dataplane/udp_bodies.py",
    "vantun/dataplane/udp_table.py",
    "vantun/tun_messages.py",
    "vantun/udp_messages.py",
    "drivers/linux/tun_kernel.py",
    "drivers/linux/udp_kernel.py",
    "drivers/linux/udp_lent.py",
    "drivers/linux/wait_kernel.py",
    "drivers/linux/stream_kernel.py",
    "vantun/dataplane/fast_state.py",
    "vantun/dataplane/fast_wait.py",
    "vantun/dataplane/steady_clock.py",
    "vantun/dataplane/stream_kernels.py",
    "vantun/dataplane/tun_filter.py",
    "vantun/dataplane/tun_merge.py",
    "vantun/dataplane/tun_parse.py",
    "vantun/dataplane/tun_pump.py",
    "vantun/dataplane/tun_routes.py",
    "vantun/dataplane/tun_vnet.py",
    "vantun/dataplane/turn_kernels.py",
    "vantun/dataplane/wake.py",
    "vantun/lab/link.py",
    "vantun/session",
    "vantun/wire",
)
"""Files and folders whose kernels or constants are compiled into kernels of other files; tests/layering finds what is
missing."""
_COMPILER = ("BOUNDSCHECK", "CPU_FEATURES", "CPU_NAME", "DEBUGINFO", "DISABLE_JIT", "OPT")
"""Settings of numba (``NUMBA_...``) that make other code of the same source, which numba's cache does not look at."""


def source_digest() -> str:
    """Return hex digits that change whenever one of SHARED_KERNELS does (by size and time)."""
    facts = [str(ROOT), *(os.environ.get(f"NUMBA_{name}", "") for name in _COMPILER)]
    for name in SHARED_KERNELS:
        place = ROOT / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            seen = path.stat()
            facts.append(f"{path.relative_to(ROOT)} {seen.st_size} {seen.st_mtime_ns}")
    return checksum("\n".join(facts).encode())


def kernel_cache_folder() -> Path:
    """Return this user's cache folder for this version: below ``CACHE_DIRECTORY`` (systemd) or the XDG cache folder."""
    return cache_base() / f"kernels-{__version__}-{sys.implementation.cache_tag}-{source_digest()}"


def library_folder() -> Path:
    """Return where ``vantun accel warm`` puts the library of this installation. Raises RuntimeError without a home."""
    return cache_base() / f"library-{__version__}-{checksum(str(ROOT).encode())}"


def _find_library() -> KernelLibrary | NoLibrary:
    from vantun.kernel_place import find_library

    return find_library()


def use_kernel_cache() -> Path | None:
    """Have kernels looked for in the library, and point numba at :func:`kernel_cache_folder`.

    A folder that the user has chosen stays. Returns the folder in force.

    The cache holds code that numba loads without question, so a folder that other users could have filled is refused:
    None is returned, and numba decides for itself.
    """
    use_library(_find_library)
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    try:
        folder = kernel_cache_folder()
    except (OSError, RuntimeError):  # no source, or no home folder
        return None
    if not own_folder(folder):
        return None
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder
