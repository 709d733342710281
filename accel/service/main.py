"""The service's process: ``python -m accel.service.main``. It ends with whoever started it.

It reports over a socket that it was born with, of the kind SEQPACKET, one JSON object a message: ``ready``, with how
many devices there are; what it has done since, twice a second while that changes; and, last, ``failed`` with why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from accel.engine import Engine, Operation
from accel.selftest import choices, self_test
from accel.service.devices import SERVED
from accel.service.messages import listen
from accel.service.server import GATHER_US, Server
from drivers.errors import DriverError
from drivers.linux.privileges import shed_privileges
from drivers.linux.wait import die_with_parent, name_process, set_timer_slack

REPORT_EVERY = 0.5
"""Seconds."""
_TIMER_SLACK = 10_000
"""Nanoseconds that a sleep may take longer than asked: budgets are of a few hundred microseconds."""
_LONGEST = 60_000


@dataclass(frozen=True)
class Offer:
    """What a service is to offer.

    Attributes
    ----------
    name
        Of its socket; ``@`` at its beginning = in no folder.
    control
        Descriptor of the socket to whoever started it; it ends when the other end does.
    gather_us
        Microseconds that a submission waits for company.
    """

    operations: tuple[Operation, ...]
    name: str
    control: int
    gather_us: float = GATHER_US


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the service; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m accel.service.main", description=__doc__)
    parser.add_argument("--engine", required=True, choices=sorted(SERVED))
    parser.add_argument("--device", type=int, default=0, help="number of the device")
    parser.add_argument("--operations", required=True, help="separated by commas")
    parser.add_argument("--name", required=True, help="of the socket")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the socket to the parent")
    parser.add_argument("--parent", type=int, required=True, help="process that it ends with")
    parser.add_argument("--gather-us", type=float, default=GATHER_US)
    given = parser.parse_args(arguments)
    die_with_parent(signal.SIGKILL)
    if os.getppid() != given.parent:
        return 0
    live_as_child()
    operations = tuple(Operation(each) for each in given.operations.split(","))
    served = SERVED[given.engine]
    make = partial(served.make, frozenset(operations), given.device)
    return serve(make, served.devices, Offer(operations, given.name, given.control, given.gather_us))


def serve(make: Callable[[], Engine], count: Callable[[], int], offer: Offer) -> int:
    """Offer an engine until whoever has the other end of the socket closes it; return the exit status."""
    with socket.socket(fileno=offer.control) as control:
        devices = 0
        try:
            devices = count()
            engine = make()
            _prove(engine, offer.operations)
            server = Server(engine, offer.operations, partial(listen, offer.name), gather_us=offer.gather_us)
        except Exception as error:  # a library may raise whatever it likes; the parent tells people
            _tell(control, {"failed": str(error) or type(error).__name__, "devices": devices})
            return 1
        shed_privileges()
        server.watch(control.fileno())
        _tell(control, {"ready": True, "devices": devices, "kernels": choices(engine), **server.report()})
        try:
            _run(server, control)
        except DriverError as error:
            _tell(control, {"failed": str(error)})  # first: a device that hangs may let nobody close it
            server.close(str(error))
            return 1
        server.close()
        return 0


def live_as_child() -> None:
    """Have signals, timers and the name be those of a child that its parent ends in its own time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal, or systemd, sends them to everybody
    name_process("vantun-gpu")
    set_timer_slack(_TIMER_SLACK)


def _prove(engine: Engine, operations: Sequence[Operation]) -> None:
    """Raise DriverError unless an engine computes as the reference does; whatever is loaded late is loaded then."""
    for operation in operations:
        verdict = self_test(engine, operation)
        if not verdict.passed:
            raise DriverError(verdict.reason)


def _run(server: Server, control: socket.socket) -> None:
    """Serve, and report, until the other end of ``control`` is closed."""
    told, when = server.report(), time.monotonic()
    while not _closed(control):
        now = server.report()
        if now != told and time.monotonic() - when >= REPORT_EVERY:
            _tell(control, now)
            told, when = now, time.monotonic()
        server.turn(math.inf if now == told else REPORT_EVERY)


def _tell(control: socket.socket, what: dict[str, object]) -> None:
    with suppress(OSError):  # nobody listens, or reads too slowly: the next one says it, too
        control.send(json.dumps(what).encode()[:_LONGEST], socket.MSG_DONTWAIT)


def _closed(control: socket.socket) -> bool:
    try:
        return control.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    sys.exit(main())
