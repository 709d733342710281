"""What every benchmark writes down beside its figures, and where (CONTRIBUTING.md, "Measurements")."""

from __future__ import annotations

import atexit
import itertools
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

from benchmarks.processor import Processor, parse

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_SAME = ("commit", "cpu", "processor", "kernel", "cores")
"""What two results agree in when one is the other's repetition."""
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


def processor() -> Processor:
    """Return the processor by its numbers."""
    return parse(Path("/proc/cpuinfo").read_text(encoding="utf-8"))


def circumstances() -> dict[str, object]:
    """Return what a figure is worth nothing without."""
    return {
        "command": [Path(word).name if word.startswith("/") else word for word in sys.argv],  # no paths of a machine
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "processor": {"name": processor().name, **processor()._asdict()},
        "cores": len(os.sched_getaffinity(0)),
        "virtual_machine": "hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_before": os.getloadavg()[0],
    }


def machine_name() -> str:
    """Return a name that describes the machine and is no host name, e.g. ``amd-zen5-2core-vm``."""
    facts = circumstances()
    return f"{processor().name}-{facts['cores']}core-{'vm' if facts['virtual_machine'] else 'host'}"


def result_name(benchmark: str, folder: Path = RESULTS) -> Path:
    """Return the file for results: benchmark, machine, date, and a number where others' results have that name.

    A repetition of the same commit on the same machine takes the place of the run before.
    """
    facts = circumstances()
    base = f"{benchmark}-{machine_name()}-{datetime.now(UTC).date().isoformat()}"
    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return next(path for path in (folder / f"{name}.json" for name in names) if _is_free(path, facts))


def _is_free(path: Path, facts: dict[str, object]) -> bool:
    """Tell whether a file may be written: nobody has it, or a run in the same circumstances."""
    if not path.exists():
        return not path.with_suffix(".md").exists()
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(there, dict) and all(there.get(name) == facts[name] for name in _SAME)


def save_at(path: Path, results: dict[str, object], text: str) -> Path:
    """Write results, which have their circumstances, and beside them a text with the ending ``.md``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return path


def save(benchmark: str, results: dict[str, object], folder: Path = RESULTS) -> Path:
    """Write the results with their circumstances; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = result_name(benchmark, folder)
    path.write_text(json.dumps({**circumstances(), **results}, indent=2) + "\n", encoding="utf-8")
    return path
