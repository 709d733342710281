"""How much of its time a process had to do something, without asking it: one that is overloaded answers late.

Source: Linux, Documentation/scheduler/sched-stats.rst (/proc/PID/schedstat: nanoseconds on a processor, and nanoseconds
ready to run without one), proc(5) for where that is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_PROC = Path("/proc")


class BusyTimes:
    """Looks at processes again and again; tests give another ``root``."""

    def __init__(self, root: Path = _PROC) -> None:
        self._root = root
        self._seen: dict[int, float] = {}
        self._at = 0.0

    def look(self, pids: Sequence[int], now: float) -> list[float]:
        """Return for each process the share of the time since the last look; 0 for one that is new, or gone."""
        since, self._at = now - self._at, now
        seen = {pid: spent for pid in pids if (spent := self._spent(pid)) is not None}
        shares = [
            max(0.0, seen[pid] - self._seen[pid]) / since if pid in seen and pid in self._seen and since > 0 else 0.0
            for pid in pids
        ]
        self._seen = seen
        return shares

    def _spent(self, pid: int) -> float | None:
        """Return the seconds that a process has run, or has waited for a processor."""
        if pid <= 0:
            return None
        try:
            ran, waited = (self._root / str(pid) / "schedstat").read_text(encoding="ascii").split()[:2]
            return (int(ran) + int(waited)) * 1e-9
        except (OSError, ValueError):
            pass
        try:
            fields = (self._root / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None
