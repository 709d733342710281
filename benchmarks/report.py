"""What every benchmark writes down beside its figures, and where (CONTRIBUTING.md, "Measurements")."""

from __future__ import annotations

import atexit
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("aioquic", "cryptography", "llvmlite", "numba", "numpy")


@cache
def scratch() -> Path:
    """Return a folder for files of this run; it goes when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="vantun-bench-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


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
        "command": [Path(word).name if word.startswith("/") else word for word in sys.argv],  # no paths of a machine
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


def cpu_name() -> str:
    """Return the processor's name as a part of a file's name, e.g. ``amd-epyc``."""
    plain = re.sub(r"\((r|tm)\)|\b(processor|cpu)\b|@.*", " ", cpu_model().lower())
    return "-".join(re.findall(r"[a-z0-9]+", plain)) or "cpu"


def result_name(benchmark: str, folder: Path = RESULTS) -> Path:
    """Return the file for results that depend on the processor: benchmark, processor, machine, date."""
    return folder / f"{benchmark}-{cpu_name()}-{machine_name()}-{datetime.now(UTC).date().isoformat()}.json"


def save_at(path: Path, results: dict[str, object], text: str) -> Path:
    """Write results, which have their circumstances, and beside them a text with the ending ``.md``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return path


def save(benchmark: str, results: dict[str, object], folder: Path = RESULTS) -> Path:
    """Write the results with their circumstances; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark}-{machine_name()}-{datetime.now(UTC).date().isoformat()}.json"
    path.write_text(json.dumps({**circumstances(), **results}, indent=2) + "\n", encoding="utf-8")
    return path
