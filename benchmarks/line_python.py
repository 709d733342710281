"""How much of a worker's busy time is Python's: sampled by ``perf``, by the file that the code is of.

Python's are the interpreter, the C modules that it calls the world through (ctypes, libffi, select, time) and numpy's;
compiled kernels are in the library of kernels, system calls in the kernel. What ``perf`` is not there for, or may not
see, is told with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

_LINE = re.compile(r"^\s*(\d+(?:\.\d+)?)%\s+(\S+)")
_PYTHON = re.compile(
    r"^(lib)?python3?[\d.]*(\.so[\d.]*)?$|^_?(ctypes|select|time|math|umath|multiarray|_multiarray_umath|struct|socket)"
    r"(\.|$)|^libffi"
)
_RATE = 997
"""Samples per second: a prime, so that it keeps step with nothing."""


def python_share(report: str) -> float:
    """Return the share of samples that are Python's in what ``perf report --sort dso`` wrote; 0 of an empty one."""
    found = [(float(match[1]), match[2]) for match in map(_LINE.match, report.splitlines()) if match]
    every = sum(share for share, _ in found)
    return sum(share for share, name in found if _PYTHON.match(name)) / every if every else 0.0


class Samples:
    """Samples of a process while it is measured: made when it begins, asked when it has ended."""

    def __init__(self, pid: int, seconds: float, file: Path) -> None:
        """Begin to sample ``pid`` for so long."""
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which("perf") is not None:
            command = ["perf", "record", "-q", "-F", str(_RATE), "-o", str(file), "-p", str(pid)]
            self._process = subprocess.Popen(
                [*command, "--", "sleep", f"{seconds:g}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

    def tell(self) -> str:
        """Return the share as a sentence, or why there is none; waits for the end."""
        if self._process is None:
            return "Python's share is not known: there is no perf"
        _, said = self._process.communicate(timeout=60)
        command = ["perf", "report", "-i", str(self._file), "--sort", "dso", "--stdio", "-q"]
        report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if self._process.returncode or not _LINE.search(report.strip()):
            why = said.decode(errors="replace").strip().splitlines() or ["it has seen nothing"]
            return f"Python's share is not known: perf: {why[-1]}"
        return f"{python_share(report):.0%} of the worker's busy time is Python's (perf)"
