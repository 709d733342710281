from __future__ import annotations

import subprocess
import sys

from accel.child import environment

SCRIPT = """
import resource
from drivers.linux.privileges import shed_privileges
shed_privileges()
lines = open("/proc/thread-self/status").readlines()
print([line.split() for line in lines if line.startswith(("CapEff", "CapPrm", "NoNewPrivs"))])
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_nothing_is_left() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment(), capture_output=True, text=True, check=True)
    nothing = "0" * 16
    facts, core = done.stdout.splitlines()
    assert facts == str([["CapPrm:", nothing], ["CapEff:", nothing], ["NoNewPrivs:", "1"]])
    assert core == "(0, 0)"
