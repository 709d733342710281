"""What the watch over engines finds, and when: devices that err, under a tunnel and under its audit alone.

Prints and saves two tables: packets until an engine that errs at a rate of 1, 10^-3 and 10^-6 is out of service, and
what every kind of failure does to a transfer in virtual time. Rates at which nothing happens for millions of packets
are drawn from the audit's own sampler; batches then are not computed.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from statistics import mean

from benchmarks.report import save
from vantun.kernel_cache import use_kernel_cache

RATES = (1.0, 1e-3, 1e-6)
BATCH = 64
_COMPUTED = 1e-4
"""Rates below this are drawn, not computed."""


@dataclass(frozen=True)
class Detection:
    """Packets, or spans, until the engine is out; means over runs."""

    engine: str
    operation: str
    rate: float
    method: str
    mean_packets: float
    expected_packets: float
    wrong_released: float
    runs: int


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--size", type=int, default=300_000, help="bytes of each transfer, each way")
    options = parser.parse_args()
    use_kernel_cache()
    print("engine   operation   error rate   packets to detection   expected   wrong ones released   method")
    rows = []
    for trusted in (True, False):
        for operation in ("aead.seal", "aead.open", "fec.encode", "fec.decode"):
            for rate in RATES:
                row = detect(operation, rate, options.runs, trusted=trusted)
                rows.append(row)
                print(
                    f"{row.engine:8} {row.operation:11} {rate:10g} {row.mean_packets:22,.0f}"
                    f" {row.expected_packets:10,.0f} {row.wrong_released:21,.1f}   {row.method}",
                    flush=True,
                )
    drills = [drill(mood, options.size) for mood in moods()]
    print("\nmood          packets   done again   lost   out of service   transfer")
    for each in drills:
        print(
            f"{each['mood']:12} {each['packets']:8} {each['redone']:12} {each['lost']:6}   "
            f"{each['out']} of 8 devices     complete, every byte right"
        )
    print(
        f"\n{save('chaos', {'batch': BATCH, 'detection': [vars(row) for row in rows], 'drills': drills}).name} written"
    )


def detect(operation: str, rate: float, runs: int, *, trusted: bool) -> Detection:
    """Return how long an engine that errs at ``rate`` serves.

    A CPU engine is audited at one row in 1024, one rebuilt span in 8192; in a tunnel a rebuilt shard's CRC finds
    the first mistake. Of a device, one row of every batch, and all parity, is computed again.
    """
    from accel.serving import AUDIT_SHARE, REBUILT_SHARE

    every = operation == "fec.encode" and not trusted
    audited = REBUILT_SHARE if operation == "fec.decode" else AUDIT_SHARE
    share = 1.0 if every else 1 / audited if trusted else 1 / BATCH
    if rate < _COMPUTED:
        found = [_draw(rate, share, random.Random(seed)) for seed in range(200)]
        method = "sampler"
    else:
        found = [_compute(operation, rate, seed, trusted=trusted) for seed in range(runs)]
        method = "computed"
    return Detection(
        "cpu" if trusted else "device",
        operation,
        rate,
        method,
        mean(packets for packets, _ in found),
        1 / (rate * share),
        mean(wrong for _, wrong in found),
        len(found),
    )


def _draw(rate: float, share: float, generator: random.Random) -> tuple[float, float]:
    """Return (packets, wrong ones before) until a wrong row is also one that is computed again."""
    wrong = 0
    packets = 0.0
    while True:
        packets += generator.expovariate(rate)
        if generator.random() < share:
            return packets, wrong
        wrong += 1


def _compute(operation: str, rate: float, seed: int, *, trusted: bool) -> tuple[float, float]:
    """Run batches until the engine is out; return (rows, wrong rows in batches before the one that showed it)."""
    import numpy as np

    from accel.aead.cryptography import CryptographyAead
    from accel.calibration import Shape, make_jobs
    from accel.engine import KeySpec, Operation, Provenance, Suite
    from accel.fec.simd import SimdFec
    from accel.finished import Synchronous
    from accel.serving import Serving
    from accel.trials import copy_job
    from accel.unreliable import Mood, UnreliableEngine

    wanted = Operation(operation)
    fec = operation.startswith("fec")
    device = UnreliableEngine(SimdFec() if fec else CryptographyAead(), seed)
    device.mood, device.rate = Mood.WRONG, rate

    class Erring(Synchronous):
        """The same mistakes by an engine that works on this CPU, in the rows of the pipeline."""

        name, provenance, maturity, operations = "erring", Provenance.CPU, device.maturity, device.operations
        open = device.open

        def submit(self, session: object, job: object) -> object:
            ticket = device.submit(session, job)  # type: ignore[arg-type]
            device.poll()
            return ticket

    engine = Erring() if trusted else device
    serving = Serving(engine, engine.open(wanted), (SimdFec() if fec else CryptographyAead(),), seed=seed)  # type: ignore[arg-type]
    shape = Shape(256, 4, 1) if fec else Shape(64)
    keys = KeySpec(Suite.AES_128_GCM, bytes(range(16)), bytes(12), bytes(range(16, 32)))
    for slot in (0, 1) if not fec else ():
        serving.session.install_key(slot, keys)
    job = make_jobs(wanted, shape, (BATCH,))[BATCH]
    rows, before = 0, 0
    while serving.session.rungs[0].serves:
        before = device.damaged
        again = copy_job(job)
        serving.run(again)
        rows += BATCH
        assert len(np.flatnonzero(again.status != 1)) == 0
    return rows, before


def moods() -> list[str]:
    """Return every kind of failure."""
    from accel.unreliable import Mood

    return [mood.value for mood in Mood]


def drill(mood: str, size: int) -> dict[str, object]:
    """Run a transfer during which all eight devices of a tunnel fall into a mood; every byte is checked."""
    from accel.life import State
    from accel.unreliable import Mood
    from tests.lab.drill import befall, make_drill

    made = make_drill()
    made.run(size, befall(Mood(mood)))
    devices = [rung for serving in made.servings() for rung in serving.session.rungs if not rung.trusted]
    return {
        "mood": mood,
        "packets": sum(nonces.packets for nonces in made.nonces),
        "redone": made.total("redone"),
        "audited": made.total("audited"),
        "lost": made.total("lost"),
        "out": sum(rung.life.state is not State.SERVING for rung in devices),
        "reasons": sorted({rung.life.reason for rung in devices}),
    }


if __name__ == "__main__":
    main()
