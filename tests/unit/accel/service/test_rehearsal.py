"""The rehearsal of the ring's kernels: one that it does not call would be compiled in a worker, while packets wait."""

from __future__ import annotations

import json
import subprocess
import sys

from accel.child import environment

REHEARSE = """
import json
from drivers.kernel import observe
from vantun.kernel_cache import use_kernel_cache
use_kernel_cache()
seen = set()
observe(lambda kernel, arguments: seen.add(kernel.name.rpartition(".")[2]))
from accel.service import rehearsal
rehearsal.rehearse_ring()
print(json.dumps(sorted(seen)))
"""


def test_every_kernel_that_python_calls_is_called() -> None:
    """In a process of its own: what observes has to be there before the first kernel."""
    line = [sys.executable, "-P", "-c", REHEARSE]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {
        *(f"{verb}_{what}" for verb in ("choose", "pack", "unpack", "look_at", "lay") for what in ("spans", "packets"))
    }
