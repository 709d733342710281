"""The life of the nursery (:mod:`vantun.control.nursery`): it loads all that a worker needs, and forks one when asked.

A question is a number, with the three descriptors that a worker is started with; the answer is ``number pid problem``.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

from drivers.errors import DriverError
from drivers.kernel import KernelError
from drivers.linux.heap import give_back, keep_small
from drivers.linux.wait import die_with_parent, name_process
from vantun.config_accel import AccelConfig
from vantun.dataplane.warm import warm
from vantun.dataplane.worker import live
from vantun.dataplane.worker_engines import EngineRoom
from vantun.errors import VantunError

_OURS = AccelConfig(fec="only: ?simd, reference", aead="only: ?simd, ?cryptography, reference", calibration="off")
"""Engines that need nothing but the processor: what a device's library has opened does not survive a fork."""
_ADOPTED_EVERY = 0.0005
_MOST_FILES = 1 << 20


def tend(control: socket.socket, parent: int) -> int:
    """Fork workers for process ``parent`` until it closes its end of ``control``; return the exit status."""
    _begin(control, parent)
    keep_small()
    rehearsed = _rehearse()
    gc.collect()
    gc.freeze()  # a collection in a worker would write to every object, and so copy every page
    give_back()
    while True:
        question, descriptors, _, _ = socket.recv_fds(control, 64, 3)
        if not question:
            return 0
        control.send(b"%s %s" % (question, _bear(control, parent, descriptors, rehearsed)))
        for descriptor in descriptors:
            os.close(descriptor)


def _begin(control: socket.socket, parent: int) -> None:
    """Keep nothing of the control process but its end, and what it writes to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the control process, which ends this one in its own time
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    name_process("vantun-nursery")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, _MOST_FILES)


def _rehearse() -> frozenset[str]:
    """Load every kernel; return the names of the engines that it was done with. What fails, fails in the worker."""
    with suppress(VantunError, DriverError, ValueError, OSError, MemoryError, KernelError):
        room = EngineRoom(_OURS)
        warm(room.open)
        return frozenset(room.names().values())
    return frozenset()


def _bear(control: socket.socket, parent: int, descriptors: Iterable[int], rehearsed: frozenset[str]) -> bytes:
    """Fork a worker; return its process id, or 0 and why not."""
    told, tell = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            os.close(told)
            _between(control, parent, tuple(descriptors), rehearsed, tell)
        os.close(tell)
        tell = -1
        os.waitpid(between, 0)  # the worker has its new parent before the answer leaves
        return os.read(told, 256) or b"0 the process between has ended"
    except OSError as error:
        return b"0 " + (error.strerror or "").encode()
    finally:
        os.close(told)
        if tell >= 0:
            os.close(tell)


def _between(
    control: socket.socket, parent: int, descriptors: tuple[int, ...], rehearsed: frozenset[str], tell: int
) -> NoReturn:
    """Be the process whose end makes the worker a child of the control process."""
    between = os.getpid()
    try:
        worker = os.fork()
    except OSError as error:
        os.write(tell, b"0 " + (error.strerror or "").encode())
        os._exit(1)
    if worker:
        os.write(tell, b"%d " % worker)
        os._exit(0)
    status = 1
    try:
        control.close()
        os.close(tell)
        while os.getppid() == between:
            time.sleep(_ADOPTED_EVERY)
        if os.getppid() == parent:
            name_process("vantun-worker")
            gc.enable()
            link, floors, rates = descriptors
            status = live(socket.socket(fileno=link), floors, rates, rehearsed)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)
