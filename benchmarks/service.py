"""What the GPU service costs by itself, without a device: ``./dev bench service``.

A batch of 64 spans of (10,4), or of 64 packets, goes through a real service in a process of its own, behind which
nothing is computed (:mod:`benchmarks.service_null`). So the figures are the overhead of the service alone: **no GPU, no
copy over a bus and no kernel is in them**, and a real device's batch takes that much longer. They say how much of the
demanded 150 us is left for a device. Prints and writes JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from accel.bench.compare import Candidate, prepare
from accel.child import environment
from accel.engine import Engine, Maturity, Operation, Provenance
from accel.service.client import ServiceEngine
from benchmarks.gpu_report import LATENCY_BATCH, MOST_LATENCY
from benchmarks.gpu_work import DECODE, ENCODE, SEAL, Work, closing
from benchmarks.report import save
from benchmarks.service_null import null_engine
from vantun.kernel_cache import use_kernel_cache

WORKS = (Work(ENCODE), Work(DECODE), Work(SEAL))
KINDS = {
    "engine": "an engine that computes nothing",
    "device": "the host side of a device engine, over a device that takes no time",
    "pinned": "the same, for a device that copies from and to the ring itself",
}
_STARTS = 600.0
"""Seconds that a service may compile kernels."""
_WARM = 200
"""Batches before the first that counts."""


@contextmanager
def service(operation: Operation, kind: str) -> Iterator[tuple[Engine, int]]:
    """Yield an engine behind a service without a device, and the service's process."""
    place = f"@vantun-bench-{os.getpid()}-{secrets.token_hex(4)}"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            words = [place, str(theirs.fileno()), operation.value, kind]
            line = [sys.executable, "-P", "-m", "benchmarks.service_null", *words]
            process = subprocess.Popen(line, pass_fds=[theirs.fileno()], env=environment())
        try:
            ours.settimeout(_STARTS)
            if not ours.recv(100):
                raise RuntimeError("the service ended before it was ready; what it printed stands above")
            engine = ServiceEngine("null", frozenset({operation}), place, Provenance.FAKE, Maturity.UNTESTED)
            yield engine, process.pid
        finally:
            ours.close()  # with which it ends
            process.wait()


def measure(work: Work, kind: str, batches: int, *, behind: bool) -> dict[str, float]:
    """Return latencies of single batches, and processor time of either end, microseconds."""
    if not behind:
        return _times(null_engine(kind), work, batches, 0)
    with service(work.operation, kind) as (engine, process):
        return _times(engine, work, batches, process)


def _times(engine: Engine, work: Work, batches: int, process: int) -> dict[str, float]:
    with closing(Candidate("null", engine, Provenance.FAKE, Maturity.UNTESTED)) as candidate:
        return _time(prepare(work.question(LATENCY_BATCH), candidate, LATENCY_BATCH), batches, process)


def _time(once: Callable[[], object], batches: int, process: int) -> dict[str, float]:
    for _ in range(_WARM):
        once()
    took, before, spent = np.zeros(batches), _cpu_seconds(process), time.process_time()
    for turn in range(batches):
        begun = time.perf_counter()
        once()
        took[turn] = time.perf_counter() - begun
    spent, theirs = time.process_time() - spent, _cpu_seconds(process) - before
    p50, p99 = np.percentile(took, (50, 99)).tolist()
    found = {"p50_us": p50, "p99_us": p99, "least_us": float(took.min()), "client_cpu_us": spent / batches}
    if process:
        found["service_cpu_us"] = theirs / batches
    return {name: round(1e6 * seconds, 1) for name, seconds in found.items()}


def _cpu_seconds(process: int) -> float:
    """Return the processor time of a process, which the kernel counts in hundredths of a second; 0 of none."""
    if not process:
        return 0.0
    after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(prog="./dev bench service", description=__doc__)
    parser.add_argument("--batches", type=int, default=2000, help="that count, for each figure (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write here instead of benchmarks/results/; '-' = print only")
    options = parser.parse_args(arguments)
    if options.batches < 1:
        parser.error("--batches must be positive")
    use_kernel_cache()
    figures = []
    for work in WORKS:
        for kind, meaning in KINDS.items():
            for behind in (True,) if kind == "pinned" else (True, False):
                figure = measure(work, kind, options.batches, behind=behind)
                where = "through the service" if behind else "in this process"
                print(f"{work.name}, {LATENCY_BATCH} rows, {where}, {meaning}: {figure}")
                figures.append({"work": work.name, "rows": LATENCY_BATCH, "behind": kind, "service": behind, **figure})
    results: dict[str, object] = {
        "what": "overhead of the GPU service without a device: nothing is computed, and no bus is crossed",
        "demanded_with_a_device_us": 1e6 * MOST_LATENCY,
        "figures": figures,
    }
    if options.json == "-":
        return 0
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        return 0
    print(f"{save('service', results)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
