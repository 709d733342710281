"""Where a user's caches are."""

from __future__ import annotations

import os
from pathlib import Path


def cache_base() -> Path:
    """Return VANTUN's folder below ``CACHE_DIRECTORY`` (systemd) or the XDG cache folder; RuntimeError: no home."""
    base = os.environ.get("CACHE_DIRECTORY", "").split(":")[0] or os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base else Path("~").expanduser() / ".cache"
    return folder / "vantun"


def own_folder(folder: Path) -> bool:
    """Make a folder that nobody else may write; return whether it is one.

    What lies in a cache is run: a folder that other users could have filled is none.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError:
        return False
    return facts.st_uid == os.geteuid() and not facts.st_mode & 0o022 and os.access(folder, os.W_OK)
