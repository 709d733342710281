"""A service over the stand-in of a device as a process: ``python -m tests.service_child NAME FD OPERATIONS``."""

from __future__ import annotations

import sys

from accel.engine import Operation
from accel.service.main import Offer, live_as_child, serve
from tests.host_device import host_engine


def main(name: str, control: str, operations: str) -> int:
    """Be the service."""
    live_as_child()
    return serve(host_engine, lambda: 1, Offer(tuple(map(Operation, operations.split(","))), name, int(control)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
