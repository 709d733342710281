"""What the engines cost beside the work: a batch of one, the registry's share of a batch, and the process itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

from accel.bench.contest import Contestant, Effort, compete, spread
from accel.bench.work import install_keys
from accel.engine import Operation, Suite
from benchmarks.engines_aead import SIZE, jobs_for, simd
from benchmarks.engines_field import engine_pass
from benchmarks.engines_rows import Row
from benchmarks.report import ROOT
from drivers.errors import DriverError

MOST_US, MOST_MB, MOST_CPU_S = 0.6, 35.0, 0.15
_OVERHEAD_US = 0.5
_PROCESSES = 7

_CHILD = """
import json, resource, sys, time
from accel.aead.simd import SimdAead
from accel.engine import Operation
from accel.fec.simd import SimdFec
for engine in (SimdFec(), SimdAead()):
    for operation in Operation:
        if operation in engine.operations:
            engine.open(operation)
used = time.process_time()
with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
names = {name.split(".")[0] for name in sys.modules}
print(json.dumps({
    "cpu_s": used, "rss_mb": int(status["VmRSS"].split()[0]) * 1024 / 1e6,
    "peak_mb": int(status["VmHWM"].split()[0]) * 1024 / 1e6, "compilers": sorted(names & {"numba", "llvmlite"}),
}))
"""


def single_rows(effort: Effort) -> list[Row]:
    """Measure jobs of one packet."""
    rows = []
    suite = Suite.AES_128_GCM
    for what, job in jobs_for(suite, batch=1).items():
        operation = Operation.AEAD_SEAL if what == "seal" else Operation.AEAD_OPEN
        row = Row("batch-1", f"{what}, {SIZE} B", unit="us", target=MOST_US)
        try:
            run = engine_pass(simd(), operation, [job], partial(install_keys, suite=suite))
        except (DriverError, ValueError) as error:
            rows.append(replace(row, reason=str(error)))
            continue
        ns = compete([Contestant("simd", run)], effort).ns["simd"]
        rows.append(replace(row, measured=spread([each / 1e3 for each in ns])))
    return rows


def process_rows() -> list[Row]:
    """Start processes that load the engines, and read what each of them has used."""
    memory = Row("process", "memory (RSS)", unit="MB", target=MOST_MB)
    time = Row("process", "CPU at start", unit="s", target=MOST_CPU_S)
    found = []
    reason = ""
    for _ in range(_PROCESSES):
        done = subprocess.run([sys.executable, "-c", _CHILD], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            break
        found.append(json.loads(done.stdout.splitlines()[-1]))
        if found[-1]["compilers"]:
            reason = f"{' and '.join(found[-1]['compilers'])} imported: build the library by `vantun accel warm`"
            break
    rates = {name: spread([each[name] for each in found]).median for name in ("rss_mb", "peak_mb", "cpu_s") if found}
    if reason:
        return [replace(row, reason=reason, rates=rates) for row in (memory, time)]
    columns = {"rss_mb": memory, "cpu_s": time}
    return [replace(row, measured=spread([each[name] for each in found]), rates=rates) for name, row in columns.items()]


def registry_rows(effort: Effort) -> list[Row]:
    """Measure a batch by way of the registry against the same batch given to the engine."""
    row = Row("registry", "one packet", unit="us", target=_OVERHEAD_US, engine="registry")
    del effort
    return [replace(row, reason="this version serves by the engine itself")]


def measure(effort: Effort) -> list[Row]:
    """Return every row."""
    return [*single_rows(effort), *registry_rows(effort), *process_rows()]
