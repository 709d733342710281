"""What the watch over engines costs: nanoseconds per batch that a serving operation adds to a call of its engine.

The engine does nothing but find its rows done; what is measured is everything between a stage and an engine: whom to
call, the look at the statuses, counting down to the next audit. The audit itself is measured apart, with a real engine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

from benchmarks.report import save
from vantun.kernel_cache import use_kernel_cache

BATCHES = (1, 64, 256, 1024)
_CALLS = 20_000


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    use_kernel_cache()
    rows = [overhead(batch, options.rounds) for batch in BATCHES]
    print("batch   plain call ns   served ns   overhead ns   with the watch ns")
    for row in rows:
        print(
            f"{row['batch']:5.0f} {row['plain_ns']:15.0f} {row['served_ns']:11.0f} {row['overhead_ns']:13.0f}"
            f" {row['audited_ns']:16.0f}"
        )
    real = [audit(batch, options.rounds) for batch in BATCHES]
    print("\nseal 1350 B by simd, audited by cryptography\nbatch   ns/packet bare   served and audited")
    for row in real:
        print(f"{row['batch']:5.0f} {row['bare_ns']:16.1f} {row['served_ns']:20.1f}")
    print(f"\n{save('serving', {'batches': rows, 'audited': real}).name} written")


def overhead(batch: int, rounds: int) -> dict[str, float]:
    """Return medians over interleaved rounds, nanoseconds per batch."""
    from accel.calibration import Shape, make_jobs
    from accel.engine import EngineSession, Job, Maturity, Operation, Provenance, Status, Ticket
    from accel.finished import FINISHED, KeylessSession, Synchronous
    from accel.lease import LEFT
    from accel.serving import Serving

    class Nothing(Synchronous):
        """Does nothing."""

        name, provenance, maturity = "nothing", Provenance.CPU, Maturity.UNTESTED
        operations = frozenset(Operation)

        def open(self, operation: Operation) -> EngineSession:
            return KeylessSession(operation)

        def submit(self, session: EngineSession, job: Job) -> Ticket:
            return FINISHED

    engine = Nothing()
    job = make_jobs(Operation.AEAD_SEAL, Shape(64), (batch,))[batch]
    job.status[:] = Status.DONE
    alone = Serving(engine, engine.open(Operation.AEAD_SEAL))
    alone.lease.view[LEFT] = 1 << 60  # never an audit
    audited = Serving(engine, engine.open(Operation.AEAD_SEAL))  # the watch, with nobody to compare with
    submit, session = engine.submit, engine.open(Operation.AEAD_SEAL)
    plain = [_time(lambda: submit(session, job))]
    served, watched = [], []
    for _ in range(rounds):
        plain.append(_time(lambda: submit(session, job)))
        served.append(_time(lambda: alone.run(job)))
        watched.append(_time(lambda: audited.run(job)))
    return {
        "batch": batch,
        "plain_ns": median(plain),
        "served_ns": median(served),
        "overhead_ns": median(served) - median(plain),
        "audited_ns": median(watched) - median(plain),
    }


def audit(batch: int, rounds: int) -> dict[str, float]:
    """Return ns per packet of sealing, by the engine alone and as it is served; medians over interleaved rounds."""
    from accel.aead.cryptography import CryptographyAead
    from accel.aead.simd import SimdAead
    from accel.calibration import Shape, make_jobs
    from accel.engine import KeySpec, Operation, Suite
    from accel.serving import Serving

    engine = SimdAead()
    serving = Serving(engine, engine.open(Operation.AEAD_SEAL), (CryptographyAead(),), seed=1)
    bare = engine.open(Operation.AEAD_SEAL)
    keys = KeySpec(Suite.AES_128_GCM, bytes(range(16)), bytes(12), bytes(range(16, 32)))
    for slot in (0, 1):
        serving.session.install_key(slot, keys)
        bare.install_key(slot, keys)
    job = make_jobs(Operation.AEAD_SEAL, Shape(1350), (batch,))[batch]
    calls = max(20, 20_000 // batch)
    alone, served = [], []
    for _ in range(rounds + 1):
        alone.append(_time(lambda: engine.submit(bare, job), calls) / batch)
        served.append(_time(lambda: serving.run(job), calls) / batch)
    return {"batch": batch, "bare_ns": median(alone[1:]), "served_ns": median(served[1:])}


def _time(work: Callable[[], object], calls: int = _CALLS) -> float:
    begun = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - begun) / calls


if __name__ == "__main__":
    main()
