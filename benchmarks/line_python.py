"""Whose a worker's busy time is: sampled by ``perf``, by the file that the code is of.

Python's are the interpreter, the C modules that it calls the world through (ctypes, libffi, select, time) and numpy's;
compiled kernels are in the library of kernels, system calls in the kernel. What ``perf`` is not there for, or may not
see, is told with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.line_town import LineError

PYTHON, KERNELS, LINUX, OTHERS = "Python", "our kernels", "Linux", "others"
OWNERS = (KERNELS, LINUX, PYTHON, OTHERS)
_LINE = re.compile(r"^\s*(\d+(?:\.\d+)?)%\s+(\S+)")
_WHOSE = (
    (
        PYTHON,
        re.compile(
            r"^(lib)?python3?[\d.]*(\.so[\d.]*)?$"
            r"|^_?(ctypes|select|time|math|umath|multiarray|_multiarray_umath|struct|socket)(\.|$)|^libffi"
        ),
    ),
    (KERNELS, re.compile(r"^kernels-.*\.so$")),
    (LINUX, re.compile(r"^\[(?!JIT|anon|heap|stack|vdso|vsyscall|unknown)")),
)
_RATE = 997
"""Samples per second: a prime, so that it keeps step with nothing."""


def owner_shares(report: str) -> dict[str, float]:
    """Return the share of samples of each of OWNERS in what ``perf report --sort dso`` wrote; empty of an empty one."""
    found = [(float(match[1]), match[2]) for match in map(_LINE.match, report.splitlines()) if match]
    every = sum(share for share, _ in found)
    if not every:
        return {}
    shares = dict.fromkeys(OWNERS, 0.0)
    for share, name in found:
        shares[next((owner for owner, pattern in _WHOSE if pattern.match(name)), OTHERS)] += share / every
    return shares


class Samples:
    """Samples of processes while they are measured: made when it begins, asked when it has ended."""

    def __init__(self, pids: Sequence[int], seconds: float, file: Path) -> None:
        """Begin to sample ``pids`` for so long."""
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which("perf") is not None:
            command = ["perf", "record", "-q", "-F", str(_RATE), "-o", str(file), "-p", ",".join(map(str, pids))]
            self._process = subprocess.Popen(
                [*command, "--", "sleep", f"{seconds:g}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

    def shares(self) -> dict[str, float]:
        """Return the share of each of OWNERS; waits for the end.

        Raises
        ------
        LineError
            Why there are no samples.
        """
        if self._process is None:
            raise LineError("there is no perf")
        _, said = self._process.communicate(timeout=60)
        command = ["perf", "report", "-i", str(self._file), "--sort", "dso", "--stdio", "-q"]
        report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        found = owner_shares(report)
        if self._process.returncode or not found:
            why = said.decode(errors="replace").strip().splitlines() or ["it has seen nothing"]
            raise LineError(f"perf: {why[-1]}")
        return found

    def tell(self) -> str:
        """Return Python's share as a sentence, or why there is none; waits for the end."""
        try:
            return f"{self.shares()[PYTHON]:.0%} of the worker's busy time is Python's (perf)"
        except LineError as error:
            return f"Python's share is not known: {error}"
