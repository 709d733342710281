"""What the engines cost beside the work: a batch of one, the registry's share of a batch, and the process itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

from accel.aead.cryptography import CryptographyAead
from accel.bench.contest import Contestant, Effort, Spread, compete, spread
from accel.bench.work import install_keys
from accel.engine import Operation, Status, Suite
from accel.serving import Serving
from benchmarks.engines_aead import BATCH, SIZE, jobs_for, simd
from benchmarks.engines_field import WrongError, engine_pass
from benchmarks.engines_rows import Row
from benchmarks.report import ROOT, scratch
from drivers.errors import DriverError

MOST_US, MOST_OVERHEAD_US, MOST_MB, MOST_CPU_S = 0.6, 0.5, 35.0, 0.15
_ONE_BATCH = 1e-7
"""Seconds of a sample that has room for one pass only."""
_PROCESSES = 7

_CHILD = """
import json, sys, time
from vantun.kernel_cache import use_kernel_cache
use_kernel_cache()
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
    """Start processes that load the engines, and read what each of them has used.

    They have the modules' bytecode, as an installed appliance does; the first one, which makes it, does not count.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(scratch() / "bytecode")
    command = [sys.executable, "-c", _CHILD]
    memory = Row("process", "memory (RSS)", unit="MB", target=MOST_MB)
    time = Row("process", "CPU at start", unit="s", target=MOST_CPU_S)
    found = []
    reason = ""
    for _ in range(1 + _PROCESSES):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            break
        found.append(json.loads(done.stdout.splitlines()[-1]))
        if found[-1]["compilers"]:
            reason = f"{' and '.join(found[-1]['compilers'])} imported: build the library by `vantun accel warm`"
            break
    found = found[1:] or found
    rates = {name: spread([each[name] for each in found]).median for name in ("rss_mb", "peak_mb", "cpu_s") if found}
    if reason:
        return [replace(row, reason=reason, rates=rates) for row in (memory, time)]
    columns = {"rss_mb": memory, "cpu_s": time}
    return [replace(row, measured=spread([each[name] for each in found]), rates=rates) for name, row in columns.items()]


def registry_rows(effort: Effort) -> list[Row]:
    """Measure a batch by way of the registry (accel/serving.py) against the same batch given to the engine.

    Samples of one batch show the path of nearly every batch; longer ones include the audits, the rows that the registry
    computes a second time by other software: about one in 1024.
    """
    rows = []
    for batch in (1, BATCH):
        case = f"{batch} packet{'s' if batch > 1 else ''}"
        wanted = Row("registry", case, unit="us", target=MOST_OVERHEAD_US, engine="registry", against="engine")
        for row, sample_s in ((wanted, _ONE_BATCH), (replace(wanted, case=f"{case}, with audits", target=None), 0.005)):
            try:
                both = _served(batch)
            except (DriverError, ValueError) as error:
                rows.append(replace(row, reason=f"nothing serves through a registry ({error})"))
                continue
            outcome = compete(both, Effort(effort.budget_s, sample_s))
            excess = outcome.excess("registry", over="engine")
            measured = Spread(excess.median / 1e3, excess.low / 1e3, excess.high / 1e3)
            rates = {name: outcome.time(name).median / 1e3 for name in outcome.ns}
            rows.append(replace(row, measured=measured, rates=rates, rate_unit="us/batch"))
    return rows


def _served(batch: int) -> list[Contestant]:
    """Return the same job, by the registry and without."""
    job = jobs_for(Suite.AES_128_GCM, batch)["seal"]
    engine = simd()
    keys = partial(install_keys, suite=Suite.AES_128_GCM)
    direct = engine_pass(engine, Operation.AEAD_SEAL, [job], keys)
    served = Serving(engine, engine.open(Operation.AEAD_SEAL), (CryptographyAead(),))
    keys(served.session)
    served.run(job)
    if not (job.status == Status.DONE).all():
        raise WrongError("the registry came to another result")
    return [Contestant("engine", direct), Contestant("registry", partial(served.run, job))]


def measure(effort: Effort) -> list[Row]:
    """Return every row."""
    return [*single_rows(effort), *registry_rows(effort), *process_rows()]
