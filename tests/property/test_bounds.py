"""Properties once more where an index out of bounds is an error: compiled kernels do not look.

Codecs run as plain Python; the session runs compiled with bounds checks, in a kernel cache of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_tests(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=1100", *arguments]
    # no options of the outer run: they may need the plugin that is switched off here
    settings = {"HYPOTHESIS_PROFILE": "dev", "PYTEST_ADDOPTS": ""} | environment
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_codecs_without_compiler() -> None:
    run_tests(
        {"NUMBA_DISABLE_JIT": "1", "VANTUN_KERNELS": "jit"},
        "tests/property/test_wire.py",
        "tests/property/test_checksum.py",
    )


@pytest.mark.soak  # it compiles every kernel once more: four minutes of a core, ten on an old one
def test_session_with_bounds_checks(tmp_path: Path) -> None:
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or tmp_path) / "bounds"
    run_tests(
        {"NUMBA_BOUNDSCHECK": "1", "VANTUN_KERNELS": "jit", "NUMBA_CACHE_DIR": str(cache)},
        "tests/property/test_received.py",
        "tests/property/test_span_store.py",
        "tests/property/test_flows.py",
        "tests/lab/test_hostile.py",
        "-k",
        "window or range or blocks or edges or Flows or violation or contradict or nonsense or abandoned",
    )
