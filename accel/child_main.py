"""The child process that tries and measures engines (see accel/child.py): ``python -m accel.child_main``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

from accel.calibration import BUDGET, calibrate
from accel.child import MODULE, try_in_child
from accel.engine import Operation
from accel.fingerprint import fingerprint
from accel.plugins import catalogue_with
from accel.profile import Profile, save_profile
from accel.registry import Registry

_NICE = 10


def main(arguments: list[str] | None = None, module: str = MODULE) -> int:
    """Do what the arguments say; return the exit status. Children of this one are of ``module``."""
    parser = argparse.ArgumentParser(prog="python -m accel.child_main", description=__doc__)
    parser.add_argument("--plugins", default="", help="plug-ins whose engines count, too")
    verbs = parser.add_subparsers(dest="verb", required=True)
    trying = verbs.add_parser("try", help="self-test engines")
    trying.add_argument("trials", nargs="+", help="engine=operation")
    measuring = verbs.add_parser("calibrate", help="measure every engine that passes, and write the profile")
    measuring.add_argument("--budget", type=float, default=BUDGET, help="seconds of CPU time")
    measuring.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    plugins = [name for name in given.plugins.split(",") if name]
    if given.verb == "try":
        return _try(given.trials, plugins)
    os.nice(_NICE)
    save_profile(given.file, measure_all(plugins, given.budget, module))
    return 0


def _try(trials: list[str], plugins: list[str]) -> int:
    # A library may print whatever it likes to standard output: the answers have a descriptor of their own.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        registry = Registry(catalogue=catalogue_with(plugins), isolated=True)
        for trial in trials:
            name, _, operation = trial.partition("=")
            verdict = registry.verdict(name, Operation(operation))
            answers.write(json.dumps({"trial": trial, **asdict(verdict)}) + "\n")
            answers.flush()
    return 0


def measure_all(plugins: list[str], budget: float, module: str = MODULE) -> Profile:
    """Return a profile of this machine, measured now, by everything that passes its self-test in a child of its own.

    What was spent so far by this process and its children counts to the budget, seconds of CPU time; where numba has to
    load or compile kernels, that alone exceeds it, and measuring is as short as it can be.
    """
    attempt = partial(try_in_child, module=module)
    registry = Registry(catalogue=catalogue_with(plugins), plugins=plugins, attempt=attempt)
    tested = registry.tested()
    engines = {operation: registry.passed(operation) for operation in Operation}
    used = os.times()
    cells = tuple(calibrate(engines, budget - used.user - used.system - used.children_user - used.children_system))
    return Profile(fingerprint(more=plugins), time.time(), cells, tested)


if __name__ == "__main__":
    sys.exit(main())
