"""The data worker: a process with its own loop that owns the UDP sockets, the streams and the tables of its sessions.

It is forked by the nursery (:mod:`vantun.dataplane.nursery`) or, without one, started by the control process as
``python -m vantun.dataplane.worker --fd N`` with its end of the socket as descriptor N. It ends when the other end
does.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Collection

from vantun.kernel_cache import use_kernel_cache

_TIMER_SLACK = 10_000
"""Nanoseconds that a sleep may take longer than asked."""


def main(arguments: list[str] | None = None) -> int:
    """Run the worker; return its exit status."""
    import argparse  # a worker that was forked has no command line

    parser = argparse.ArgumentParser(prog="python -m vantun.dataplane.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="socket to the control process")
    parser.add_argument("--floors", type=int, required=True, help="page of packet-number floors")
    parser.add_argument("--rates", type=int, default=-1, help="page of rates that paths have over all workers")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the control process, which ends this one in its own time
    use_kernel_cache()
    return live(socket.socket(fileno=given.fd), given.floors, given.rates)


def live(control: socket.socket, floors: int, rates: int, rehearsed: Collection[str] = ()) -> int:
    """Be a worker; return its exit status. ``rehearsed`` are engines that every kernel was called with already."""
    # Everything below may compile kernels, for which the cache folder must be set.
    from drivers.errors import DriverError
    from drivers.kernel import KernelError, compiled_because
    from drivers.linux.heap import give_back, keep_small
    from drivers.linux.wait import die_with_parent, set_timer_slack
    from drivers.shared import SharedPage
    from vantun.config_accel import AccelConfig
    from vantun.dataplane.config import DataplaneConfig
    from vantun.dataplane.pipeline import Dataplane
    from vantun.dataplane.wake import Wake
    from vantun.dataplane.warm import warm
    from vantun.dataplane.worker_engines import EngineRoom
    from vantun.dataplane.worker_loop import WorkerLoop
    from vantun.errors import VantunError
    from vantun.plain_values import from_plain
    from vantun.session.floor_layout import floors_dtype
    from vantun.session.limits import SHARE_PLACES, SLICES
    from vantun.session.path_share import share_dtype
    from vantun.worker_messages import MAX_MESSAGE, Configure, Failed, Ready, decode, encode

    try:
        keep_small()
        die_with_parent(signal.SIGKILL)
        set_timer_slack(_TIMER_SLACK)
        _raise_file_limit()
        control.settimeout(None)
        first = control.recv(MAX_MESSAGE + 1)
        if not first:
            return 0
        settings = decode(first)
        if not isinstance(settings, Configure):
            raise VantunError(f"the first message was {type(settings).__name__}, not Configure; restart the appliance")
        config = from_plain(DataplaneConfig, settings.dataplane)
        accel = from_plain(AccelConfig, settings.accel)
        room = EngineRoom(accel, settings.services, settings.incarnation)
        if not rehearsed or not set(room.names().values()) <= set(rehearsed):
            warm(room.open)
        page = SharedPage.attach(floors, floors_dtype, (1,))
        shares = SharedPage.attach(rates, share_dtype, (SHARE_PLACES, SLICES)) if rates >= 0 else None
        plane = Dataplane(config, room.open(), floors=page.array, rates=shares.array if shares else None)
        plane.begin_handles(settings.incarnation)
    except (VantunError, DriverError, ValueError, OSError, MemoryError, KernelError) as error:
        control.send(encode(Failed(str(error)[:4000] or type(error).__name__)))
        return 1
    try:
        control.send(encode(Ready(room.names(), compiled_because())))
    except OSError:  # the control process has ended meanwhile
        return 1
    gc.collect()
    gc.freeze()  # what start-up left stays; the collector need not look at it again
    give_back()
    loop = WorkerLoop(plane, control, wake=Wake(latency=accel.goal == "latency"))
    loop.use_fast_path()
    loop.retune_by(room.attend(plane.context.engines, loop.watch))
    loop.run()
    return 0


def _raise_file_limit() -> None:
    """Allow as many open files as the hard limit does: a flow is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # streams that are still open end as resets, not in the interpreter's order of destruction
