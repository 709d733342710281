"""How many data workers a machine is good for, and which processor each of them keeps to."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.linux.reuseport import probe_steering
from vantun.config_life import MOST_AUTO, LifeConfig

_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def worker_count(life: LifeConfig) -> tuple[int, str]:
    """Return the number of workers, and why there is only one although more were wanted (empty if not)."""
    wanted = life.workers or max(1, min(usable_processors() // 2, MOST_AUTO))
    reason = probe_steering() if wanted > 1 else ""
    return (1, reason) if reason else (wanted, "")


def usable_processors(quota: float | None = None) -> int:
    """Return how many processors this process may keep busy: those of its mask, or as many as its cgroup pays for."""
    allowed = len(os.sched_getaffinity(0))
    paid = cgroup_quota() if quota is None else quota
    return max(1, min(allowed, int(paid))) if paid else allowed


def cgroup_quota(own: Path = _CGROUP, root: Path = _CGROUPS) -> float:
    """Return the processors that the cgroup (version 2) of this process may use, the tightest of all above it; 0 = any.

    Source: cgroup-v2.rst of the kernel, ``cpu.max``: "$MAX $PERIOD", or "max" for no limit.
    """
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    path = next((line[3:] for line in lines if line.startswith("0::/")), "")
    if not path:
        return 0.0
    folder = root / path.lstrip("/")
    tightest = 0.0
    for each in (folder, *folder.parents):
        if each != root and root not in each.parents:
            break
        try:
            quota, period = (each / "cpu.max").read_text(encoding="ascii").split()
            share = float(quota) / float(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
        tightest = min(tightest or share, share)
    return tightest
