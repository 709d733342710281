"""Makes a control process believe what a file says about its workers' load (tests/net/test_tun_stealing.py).

Python imports it in every process whose PYTHONPATH begins with this folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from vantun.control.busy import BusyTimes

_FILE = Path(os.environ["VANTUN_TEST_BUSY"])


def _look(self: BusyTimes, pids: Sequence[int], now: float) -> list[float]:
    """Return the shares that the file has; without one, nobody has anything to do."""
    del self, now
    found = json.loads(_FILE.read_text()) if _FILE.exists() else [0.0] * len(pids)
    return [float(each) for each in found]


BusyTimes.look = _look  # type: ignore[method-assign]
