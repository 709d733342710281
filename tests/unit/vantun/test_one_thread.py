"""numpy that is imported late starts no threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vantun.one_thread import VARIABLES, one_thread

_LATE = """
import os, sys
from vantun.one_thread import one_thread
with one_thread():
    import vantun.control.crew_buckets
print("numpy" in sys.modules, len(os.listdir("/proc/self/task")))
"""


def test_variables_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "3")
    monkeypatch.delenv(VARIABLES[1], raising=False)
    with one_thread():
        assert [os.environ[name] for name in VARIABLES] == ["1"] * len(VARIABLES)
    assert os.environ[VARIABLES[0]] == "3"
    assert VARIABLES[1] not in os.environ


def test_numpy_has_no_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    said = subprocess.run([sys.executable, "-c", _LATE], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "1"]
