"""One worker and two workers on two cores: ``python -m benchmarks.line_workers``, Mbit/s of each and their ratio.

Each worker is a process with a core for itself and both ends of a tunnel in it: parity off, everything sealed, sent
through real UDP sockets on loopback with segmentation and receive offload, opened and delivered; the ends of the
streams are memory, so no test program takes a share. Two that do not hinder each other carry twice as much as one. It
needs two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.clients import Sink, Source
from benchmarks.report import ROOT
from drivers.linux.wait import die_with_parent
from vantun.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from drivers.linux.udp import UdpSocket
    from vantun.dataplane.pipeline import Dataplane
    from vantun.lanes import LaneSpec


class Pipeline:
    """A client's and a server's data plane with a UDP socket each, and one download that never ends."""

    def __init__(self) -> None:
        from drivers.linux.udp import UdpSocket
        from vantun.dataplane.config import DataplaneConfig
        from vantun.dataplane.pipeline import Dataplane
        from vantun.lab.network import lab_engines
        from vantun.session.limits import Limits

        config = DataplaneConfig(fec=False, limits=Limits(sessions=4, flows=16, rows=32_768))
        self.sockets = [UdpSocket.bind("127.0.0.1", 0) for _ in range(2)]
        self.planes = [Dataplane(config, lab_engines()) for _ in range(2)]
        self.sink = Sink()
        now = time.monotonic()
        for plane, spec in zip(self.planes, self._lanes(), strict=True):
            plane.add_lane(spec, now)
        self.planes[0].open_flow(1, "bulk", self.sink, now)

    def _lanes(self) -> list[LaneSpec]:
        from accel.engine import Suite
        from vantun.lanes import LaneSpec

        ports = [sock.socket.getsockname()[1] for sock in self.sockets]
        near = LaneSpec(
            session=1,
            path=1,
            socket=0,
            peer=("127.0.0.1", ports[1]),
            receive_cid=b"\0near...",
            send_cid=b"\0far....",
            suite=Suite.AES_128_GCM,
            send_secret=b"n" * 32,
            receive_secret=b"f" * 32,
            client=True,
            mtu=1452,
        )
        far = replace(
            near,
            peer=("127.0.0.1", ports[0]),
            receive_cid=near.send_cid,
            send_cid=near.receive_cid,
            send_secret=near.receive_secret,
            receive_secret=near.send_secret,
            client=False,
        )
        return [near, far]

    def run(self, seconds: float) -> int:
        """Move packets for so long; return the bytes that came out."""
        from vantun.dataplane.events import FlowOpened

        before, end = self.sink.total, time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            moved = 0
            for plane, sock in zip(self.planes, self.sockets, strict=True):
                moved += _send(plane, sock, now) + _receive(plane, sock, now)
            for event in self.planes[1].take_events():
                if isinstance(event, FlowOpened):
                    self.planes[1].attach_flow(event.handle, Source(), now)
            self.planes[0].take_events()
            if not moved:
                due = min(plane.next_event(now) for plane in self.planes)
                time.sleep(min(max(due - now, 0.0), 0.0002))
        return self.sink.total - before


def _send(plane: Dataplane, sock: UdpSocket, now: float) -> int:
    outgoing = plane.transmit(now)
    if outgoing.packets:
        sock.send(outgoing.batch, 0, outgoing.packets)  # what the socket does not take is lost, and repaired
    return outgoing.packets


def _receive(plane: Dataplane, sock: UdpSocket, now: float) -> int:
    batch = sock.receive_batch()
    count = sock.receive(batch)
    if count:
        plane.receive(batch, count, 0, now)
    return count


def serve(core: int) -> None:
    """Be a worker: run for as many seconds as each line of the input says, and tell the bytes."""
    os.sched_setaffinity(0, {core})
    use_kernel_cache()
    pipeline = Pipeline()
    pipeline.run(1.0)  # the rate is found
    print("ready", flush=True)
    for line in sys.stdin:
        cpu, began = time.process_time(), time.monotonic()
        size = pipeline.run(float(line))
        print(size, (time.process_time() - cpu) / (time.monotonic() - began), flush=True)


def measure(seconds: float, repeat: int) -> dict[str, float]:
    """Return the rates of one worker and of two at once, Mbit/s, and the median ratio; empty without two cores.

    ``cpu_share``: of its core, what the worker had that had least while two ran; far below 1, others used the machine.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return {}
    with ExitStack() as stack:
        workers = [stack.enter_context(_start(core)) for core in cores]
        for worker in workers:
            stack.callback(worker.kill)
        for worker in workers:
            if _line(worker) != "ready":
                raise RuntimeError("a worker of benchmarks.line_workers did not start; its error stands above")
        rows: list[tuple[float, float, float]] = []
        for _ in range(repeat):
            alone = [_together([worker], seconds)[0] for worker in workers]
            rows.append((statistics.mean(alone), *_together(workers, seconds)))
    return {
        "one_mbit": round(statistics.median(one for one, _, _ in rows), 1),
        "two_mbit": round(statistics.median(two for _, two, _ in rows), 1),
        "ratio": round(statistics.median(two / one for one, two, _ in rows), 3),
        "cpu_share": round(statistics.median(share for _, _, share in rows), 3),
    }


def _start(core: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.line_workers", "--worker", str(core)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )


def _line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _together(workers: list[subprocess.Popen[str]], seconds: float) -> tuple[float, float]:
    """Have some workers run at the same time; return Mbit/s of all, and the least share of its core that one had."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{seconds}\n")
        worker.stdin.flush()
    found = [_line(worker).split() for worker in workers]
    return sum(int(size) for size, _ in found) * 8 / seconds / 1e6, min(float(share) for _, share in found)


def main() -> None:
    """Measure and print; or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    if options.worker >= 0:
        serve(options.worker)
        return
    print(json.dumps(measure(options.seconds, options.repeat) or {"why_not": "this machine has one core"}))


if __name__ == "__main__":
    main()
