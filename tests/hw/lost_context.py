"""A GPU whose kernel traps while packets go through it: ``python -m tests.hw.lost_context cuda``, or ``stand-in``.

In a process of its own: after cudaErrorLaunchFailure a process has no GPU any more. It prints what came of it as JSON.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence

from accel.aead.simd import SimdAead
from accel.device.engine import DeviceEngine
from accel.device.port import Device
from accel.device.rehearsal import rehearse_device
from accel.engine import Job, Maturity, Operation, Provenance
from accel.serving import Serving
from accel.trials import SealRow, copy_job, difference, packet, run, seal_job
from drivers.cuda.device import CudaProgram
from drivers.cuda.find import find_devices
from tests.engines.engine_list import KEYS
from tests.fake_cupy import FakeCupy

FATAL = 13
"""Packets of a batch that ends the context."""
_ENTRY = re.compile(r"^(KERNEL\(\w+, \d\) \{)", re.MULTILINE)
_BATCHES = (5, 7, FATAL, 5, FATAL, 9)


def trapping_engine() -> DeviceEngine:
    """Return the engine ``cuda`` with kernels that trap in a batch of FATAL packets."""

    def open_device(text: str, kernels: Sequence[str]) -> Device:
        changed, count = _ENTRY.subn(rf"\1 if (work[0] == {FATAL}) __trap();", text)
        assert count >= len(kernels)
        return CudaProgram(find_devices()[0], changed, kernels)

    return DeviceEngine("cuda", frozenset(Operation), open_device, Provenance.SILICON, Maturity.UNTESTED)


def packets(count: int, first: int) -> Job:
    numbers = range(first, first + count)
    return seal_job([SealRow(0, number, packet(number, 0, bytes(800))) for number in numbers])


def main(machine: str) -> None:
    if machine == "stand-in":
        sys.modules["cupy"] = FakeCupy()  # type: ignore[assignment]
    rehearse_device()  # no deadline of a batch is for compiling what lays it out
    device, spare = trapping_engine(), SimdAead()
    right = spare.open(Operation.AEAD_SEAL)
    serving = Serving(device, device.open(Operation.AEAD_SEAL), [spare], clock=time.perf_counter_ns, seed=1)
    for slot in (0, 1):
        serving.session.install_key(slot, KEYS[slot])
        right.install_key(slot, KEYS[slot])
    differences, engines, number = [], [], 0
    for count in _BATCHES:
        job = packets(count, number)
        number += count
        expected = copy_job(job)
        run(spare, right, expected)
        serving.run(job)
        differences.append(difference(job, expected))
        engines.append(serving.engine.name)
    first = serving.session.rungs[0]
    again = ""
    try:
        device.open(Operation.AEAD_SEAL)
    except Exception as error:
        again = str(error)
    reasons = [change.reason for change in first.life.history]
    print(json.dumps({"differences": differences, "engines": engines, "reasons": reasons, "again": again}))  # noqa: T201
    sys.stdout.flush()
    os._exit(0)  # destructors of what lies on a lost device could only complain


if __name__ == "__main__":
    main(sys.argv[1])
