"""Settings that every test shares: hypothesis profiles, and a place for compiled kernels outside the source tree.

``HYPOTHESIS_PROFILE`` chooses a profile; without it CI (``CI`` is set) runs more examples than a developer's machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

from vantun.kernel_cache import use_kernel_cache

if "NUMBA_CACHE_DIR" not in os.environ and sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
    # Before anything imports numba. Processes that tests start inherit it, so only the first one compiles.
    os.environ.setdefault("CACHE_DIRECTORY", str(Path(sys.prefix) / "state"))
use_kernel_cache()  # in every process: it also says where the library is

if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
    os.environ.setdefault("XDG_STATE_HOME", str(Path(sys.prefix) / "state"))
os.environ.setdefault("VANTUN_ACCEL", "calibration=off")  # it takes seconds, for each machine, not for each test

# No deadline: the first example of a compiled kernel pays for the compiler, and tests never judge by wall time.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", max_examples=200, deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.register_profile("soak", max_examples=10_000, deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))
