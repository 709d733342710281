"""A tunnel whose engines are devices that fail on demand, and what must hold whatever they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from accel.aead.cryptography import CryptographyAead
from accel.engine import Engine, KeySpec, Operation, SealJob
from accel.fec.simd import SimdFec
from accel.life import State
from accel.serving import Serving
from accel.unreliable import Mood, UnreliableEngine
from vantun.dataplane.context import Engines
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.lab.transfer import start_transfer

TICK = 100_000
"""Nanoseconds that pass between two looks at the clock."""
LOSSY = LinkProfile(rate=200e6, delay=0.005, queue_bytes=2_000_000, loss=0.03)


class Ticks:
    """A clock that goes on when somebody looks at it."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += TICK
        return self.now


class Nonces:
    """Sees every packet that is sealed: no (key, number) comes twice, except to do the very same packet again."""

    def __init__(self) -> None:
        self.packets = 0
        self.again = 0
        self._seen: dict[tuple[bytes, int], bytes] = {}

    def watch(self, serving: Serving) -> None:
        """See what the stage wants sealed, and whatever an engine is given for it."""
        keys = serving.session.specs
        run = serving.run

        def runs(job: Any) -> None:
            for key, number, plain in self._rows(job, keys):
                assert (key, number) not in self._seen, f"packet number {number} was used twice under one key"
                self._seen[key, number] = plain
                self.packets += 1
            run(job)

        serving.run = runs  # type: ignore[method-assign]
        for rung in serving.session.rungs:
            self._watch_engine(rung.engine, keys)

    def _watch_engine(self, engine: Engine, keys: dict[int, KeySpec]) -> None:
        submit = engine.submit

        def submits(session: Any, job: Any) -> Any:
            if isinstance(job, SealJob) and session.operation is Operation.AEAD_SEAL:
                for key, number, plain in self._rows(job, keys):
                    assert self._seen.get((key, number)) == plain, "an engine was given what no stage wanted sealed"
                    self.again += 1
            return submit(session, job)

        engine.submit = submits  # type: ignore[method-assign]

    @staticmethod
    def _rows(job: SealJob, keys: dict[int, KeySpec]) -> list[tuple[bytes, int, bytes]]:
        columns = (job.slot, job.number, job.source_offset, job.length)
        return [
            (keys[slot + (int(job.source[start]) >> 2 & 1)].key, number, job.source[start : start + size].tobytes())
            for slot, number, start, size in zip(*(column.tolist() for column in columns), strict=True)
        ]


@dataclass
class Drill:
    """A client and a server of which each operation is done by a device of its own.

    Attributes
    ----------
    devices
        (side, operation) -> the device; side 0 is the client.
    """

    devices: dict[tuple[int, Operation], UnreliableEngine]
    network: Network
    nonces: tuple[Nonces, Nonces]

    def servings(self) -> list[Serving]:
        """Return all eight."""
        return [serving for end in (self.network.client, self.network.server) for serving in end.plane.context.engines]

    def run(self, size: int, befall: Callable[[Drill], None]) -> None:
        """Transfer ``size`` bytes each way; a third of the way, let something befall the devices. Check every byte."""
        transfer = start_transfer(self.network, size, size)
        begun = False

        def over() -> bool:
            nonlocal begun
            far = self.network.accepted.get(transfer.target)
            if not begun and far is not None and len(far.received) > size // 3:
                begun = True
                befall(self)
            return transfer.done(self.network)

        assert self.network.run(120.0, over), "the transfer does not come to its end"
        assert begun
        self.network.run(self.network.now + 1.0)
        transfer.check(self.network)
        for end in (self.network.client, self.network.server):
            assert not [event for event in end.events if type(event).__name__ == "SessionViolated"]

    def states(self, operation: Operation) -> set[State]:
        """Return the states of the devices of an operation, at both ends."""
        return {
            rung.life.state
            for serving in self.servings()
            if serving.operation is operation
            for rung in serving.session.rungs
            if not rung.trusted
        }

    def total(self, name: str) -> int:
        """Return a counter, all eight together."""
        return sum(serving.counts[name] for serving in self.servings())


def make_drill(seed: int = 1) -> Drill:
    """Return a tunnel in virtual time over a path that loses 3 %, with devices that are well."""
    devices: dict[tuple[int, Operation], UnreliableEngine] = {}
    nonces = Nonces(), Nonces()

    def engines(side: int) -> Engines:
        clock = Ticks()

        def serving(operation: Operation) -> Serving:
            software = (SimdFec, CryptographyAead)
            make = software[operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN)]
            device = devices[side, operation] = UnreliableEngine(make(), seed)
            served = Serving(device, device.open(operation), (make(),), clock=clock, seed=seed)
            if operation is Operation.AEAD_SEAL:
                nonces[side].watch(served)
            return served

        return Engines(*(serving(operation) for operation in Operation))

    network = Network(seed=seed, engines=engines)
    network.add_path(1, LOSSY)
    return Drill(devices, network, nonces)


def befall(mood: Mood, rate: float = 1.0, *operations: Operation) -> Callable[[Drill], None]:
    """Return what puts the devices of some operations, or of all, into a mood."""

    def strike(drill: Drill) -> None:
        for (_, operation), device in drill.devices.items():
            if not operations or operation in operations:
                device.mood, device.rate = mood, rate

    return strike
