"""A GPU service for the time of a measurement, and an engine behind it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from accel.bench.compare import Candidate
from accel.child import environment
from accel.engine import Operation
from accel.service.client import ServiceEngine
from drivers.errors import DriverError

MODULE = "accel.service.main"
_STARTS = 600.0
"""Seconds that it may compile and prove itself."""


@contextmanager
def served(candidate: Candidate, index: int, operation: Operation) -> Iterator[Candidate]:
    """Yield the candidate behind a service in a process of its own. Raises DriverError when it does not come up."""
    place = f"@vantun-bench-{os.getpid()}-{secrets.token_hex(4)}"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = [sys.executable, "-P", "-m", MODULE, "--engine", candidate.name, "--device", str(index)]
    line += ["--operations", operation.value, "--name", place, "--parent", str(os.getpid())]
    with ours:
        with theirs:
            line += ["--control", str(theirs.fileno())]
            process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment())
        try:
            _await(ours)
            provenance, maturity = candidate.provenance, candidate.maturity
            engine = ServiceEngine(candidate.name, frozenset({operation}), place, provenance, maturity)
            yield replace(candidate, engine=engine)
        finally:
            ours.close()  # with which it ends
            process.wait()


def _await(control: socket.socket) -> None:
    """Wait until a service is ready. Raises DriverError."""
    control.settimeout(_STARTS)
    try:
        said = json.loads(control.recv(60_000) or b'{"failed": "it ended without a word"}')
    except TimeoutError:
        said = {"failed": f"it was not ready within {_STARTS:g} s"}
    if "failed" in said:
        raise DriverError(f"no GPU service: {said['failed']}")
