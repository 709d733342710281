"""Facts about the machine and the software, without which a figure is worth nothing. No host name."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vantun import __version__

LIBRARIES = ("aioquic", "cryptography", "numba", "numpy")


def facts(proc: Path = Path("/proc")) -> dict[str, object]:
    """Return processor, cores, memory in bytes, kernel and versions."""
    return {
        "cpu": _first(proc / "cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int((_first(proc / "meminfo", "MemTotal").split() or ["0"])[0]) * 1024,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "vantun": __version__,
        **{name: _version(name) for name in LIBRARIES},
    }


def cpu_seconds(proc: Path = Path("/proc")) -> tuple[float, float]:
    """Return the seconds that all cores together were busy, and that passed on them, since the machine started."""
    fields = [int(field) for field in _first(proc / "stat", "cpu ", " ").split()[:8]]
    ticks = float(os.sysconf("SC_CLK_TCK"))
    total = sum(fields)
    return (total - sum(fields[3:5])) / ticks, total / ticks  # idle and waiting for disks


def _first(path: Path, field: str, end: str = ":") -> str:
    """Return the value of the first line that begins with ``field``, empty if there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(end, 1)[1].strip() for line in lines if line.startswith(field) and end in line), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
