"""Whether PoCL works, for tests that need it; a child process is asked, for NVRTC and PoCL in one process crash."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from accel.catalogue import CATALOGUE

_ROOT = Path(__file__).resolve().parent.parent
_ASK = """
from drivers.errors import DriverError
from drivers.opencl.find import choose_device
try:
    choose_device(emulated=True)
except DriverError as error:
    print(error)
"""


@cache
def obstacle() -> str:
    """Return why there is no PoCL, or no use in it; empty when it works."""
    found = next(row for row in CATALOGUE if row.name == "pocl").look(Path("/"))
    if not found.present:
        return f"not found: {', '.join(found.missing)}"
    line = [sys.executable, "-c", _ASK]
    asked = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False, cwd=_ROOT)
    return asked.stdout.strip() if not asked.returncode else f"it crashes ({asked.returncode})"


def works() -> pytest.MarkDecorator:
    """Return the mark that skips a test, with the reason, where PoCL does not work."""
    return pytest.mark.skipif(bool(obstacle()), reason=f"pocl: {obstacle()}")
