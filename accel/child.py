"""Engines of foreign libraries are tried in a child process first: loading one may abort whoever does it.

The child (:mod:`accel.child_main`) writes a line of JSON for each step. What it leaves out when it dies, or hangs, is a
reason that names the engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from accel.catalogue import LIMIT
from accel.engine import Operation
from accel.profile import Finding

MODULE = "accel.child_main"
Trial = tuple[str, Operation]
"""An engine, by name, and what it is tried for."""


def try_in_child(
    trials: Sequence[Trial], plugins: Sequence[str] = (), limit: float = LIMIT, module: str = MODULE
) -> dict[Trial, Finding]:
    """Return the self-tests' verdicts; a crash, an abort or a time-out is a verdict, and the rest goes on.

    ``module`` is the child's program: MODULE, or one that prepares for it.
    """
    left = list(trials)
    found: dict[Trial, Finding] = {}
    while left:
        names = [f"{name}={operation.value}" for name, operation in left]
        told, ending = _run(command("--plugins", ",".join(plugins), "try", *names, module=module), limit)
        answered = [(trial, told[key]) for trial in left if (key := f"{trial[0]}={trial[1].value}") in told]
        found |= dict(answered)
        left = [trial for trial in left if trial not in found]
        if left:
            found[left[0]] = Finding(passed=False, reason=ending)
            left = left[1:]
    return found


def command(*arguments: str, module: str = MODULE) -> list[str]:
    """Return the command line of a child."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return the environment of a child: it finds the same packages."""
    here = [str(Path(__file__).resolve().parent.parent), *(path for path in sys.path if path)]
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(dict.fromkeys(here))}


def _run(line: Sequence[str], limit: float) -> tuple[dict[str, Finding], str]:
    """Return what a child has answered, and why it answered no more."""
    try:
        child = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
    except OSError as error:
        return {}, f"no child process could be started to try it: {error.strerror}"
    late = False

    def end() -> None:
        nonlocal late
        late = True
        child.kill()

    told: dict[str, Finding] = {}
    assert child.stdout is not None
    timer = threading.Timer(limit, end)
    timer.start()
    with child:
        for answer in child.stdout:
            timer.cancel()
            try:
                each = json.loads(answer)
                told[each["trial"]] = Finding.parse(each)
            except (ValueError, KeyError, TypeError, AttributeError):  # a library that prints to standard output
                pass
            timer = threading.Timer(limit, end)
            timer.start()
    timer.cancel()
    return told, f"it did not finish within {limit:g} s in a child process" if late else _explain(child.returncode)


def _explain(status: int) -> str:
    if status < 0:
        return f"it killed the child process that tried it ({signal.Signals(-status).name})"
    return f"it ended the child process that tried it (status {status})"
