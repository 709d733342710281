"""What every benchmark writes down beside its figures, and where (CONTRIBUTING.md, "Measurements")."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("aioquic", "cryptography", "llvmlite", "numba", "numpy")


def commit() -> str:
    """Return the commit that is measured, with ``+`` when files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else platform.machine()


def circumstances() -> dict[str, object]:
    """Return what a figure is worth nothing without."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "virtual_machine": "hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_before": os.getloadavg()[0],
    }


def machine_name() -> str:
    """Return a name that describes the machine and is no host name, e.g. ``2core-vm``."""
    facts = circumstances()
    return f"{facts['cores']}core-{'vm' if facts['virtual_machine'] else 'host'}"


def save(benchmark: str, results: dict[str, object], folder: Path = RESULTS) -> Path:
    """Write the results with their circumstances; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark}-{machine_name()}-{datetime.now(UTC).date().isoformat()}.json"
    path.write_text(json.dumps({**circumstances(), **results}, indent=2) + "\n", encoding="utf-8")
    return path
