"""Which kernels serve a shape: both ways are tried on the device that is there, and the faster one is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from accel.device import spans
from accel.device.compiled_code1 import compiled_text
from accel.device.port import Device, Lane, TimedLane
from accel.device.program import HORNER, KERNELS, program
from accel.device.span_rows import HEADER
from accel.device.strips import BY_HORNER, Shape
from accel.engine import SpanJob
from drivers.errors import DriverError
from drivers.lanes import Batch, Room

REHEARSAL = 300.0
"""Seconds that compiling at the first launch may take."""
TURNS = 5
"""Times that each way is measured, in turn."""
_UNIT = 1408
"""Bytes of a unit, as long as a packet."""
MOST_SPANS = 4096
"""Of a launch that is timed."""
TIMES = 4
"""Launches that the device times together."""
SLOWER = "slower here"
"""Reason of kernels that are right."""

Measure = Callable[[Lane, Batch], float]
"""Returns the seconds of a batch that a lane has just done, launched again without copies."""


class Choice(NamedTuple):
    """What came of a shape.

    Attributes
    ----------
    k, m
        The shape that was tried; it stands for all of up to m rows.
    general, compiled
        Median seconds of a launch, of the kernel for all shapes (the faster one, where Horner's was tried too) and of
        the kernels that are to be chosen; 0 = not tried.
    spans
        How many a launch had.
    reason
        Why those do not serve, in words; empty when they do.
    way
        What they are called.
    repair
        Whether it is for decoding.
    """

    k: int
    m: int
    general: float = 0.0
    compiled: float = 0.0
    spans: int = 0
    reason: str = ""
    way: str = "compiled"
    repair: bool = False

    def __str__(self) -> str:
        figures = f"general {1e6 * self.general:.1f} us, {self.way} {1e6 * self.compiled:.1f} us for {self.spans} spans"
        what = f"{'repair of ' * self.repair}({self.k}, {self.m})"
        shape = f"{what}: {'general' if self.reason else self.way}"
        return f"{shape} ({self.reason})" if not self.spans else f"{shape} ({figures})"


def choose(
    device: Device,
    lane: Lane,
    room: Room,
    shape: Shape,
    measure: Measure,
    known: Choice | None = None,
    *,
    repair: bool = False,
) -> Choice:
    """Compile the kernels of a shape, see that they are right, and time them, unless that is ``known`` from before.

    To ``repair``, spans of the shape have lost as many units as they have parity units.
    Raises DriverError when the device fails at what it did before; kernels that do not compile, or are wrong, are a
    reason of the choice.
    """
    if known is not None and known.reason:
        return known
    choice = Choice(shape.k, shape.m, way="compiled" if shape.kernels else "Horner", repair=repair)
    try:
        if shape.horner:
            device.add(program(HORNER), KERNELS[HORNER])
        for kernel in shape.kernels:
            device.add(compiled_text(kernel), (kernel.name,))
    except DriverError as error:
        return choice._replace(reason=str(error).partition("\n")[0])  # a compiler's log follows
    job = _job(shape, room)
    if not len(job.k):
        return choice._replace(reason="a lane has no room for it")
    ways = [_Way(job, lane, shapes, repair=repair) for shapes in ((), (shape,))]
    if shape.horner and shape.kernels:
        ways.append(_Way(job, lane, BY_HORNER))
    if len({way.compute() for way in ways}) > 1:
        names = [kernel.name for kernel in shape.kernels] or KERNELS[HORNER]
        return choice._replace(reason=f"{', '.join(names)}: results differ")
    if known is not None:
        return known
    times: dict[_Way, list[float]] = {way: [] for way in ways}
    for turn in range(TURNS):
        for way in ways if turn % 2 == 0 else reversed(ways):
            times[way].append(way.time(measure))
    import statistics  # with fractions; a machine without a device has no use for them

    general, compiled, *by_horner = (statistics.median(times[way]) for way in ways)
    choice = choice._replace(general=min((general, *by_horner)), compiled=compiled, spans=len(job.k))
    return choice if choice.compiled < choice.general else choice._replace(reason=SLOWER)


class _Way:
    """A job in a lane, laid out for some kernels."""

    def __init__(self, job: SpanJob, lane: Lane, shapes: tuple[Shape, ...], *, repair: bool = False) -> None:
        self._lane = lane
        self._batch = spans.lay_out(job, np.arange(len(job.k)), lane, decode=repair, shapes=shapes).batch
        self._work = lane.work[: self._batch.work].copy()

    def compute(self) -> bytes:
        """Return what it computes."""
        self._begin(self._batch)
        wait(self._lane, "compute spans of a trial")
        return self._lane.target[: self._batch.target].tobytes()

    def time(self, measure: Measure) -> float:
        """Return the seconds of what it launches; what is read lies on the device already, and is not taken back."""
        batch = Batch(self._batch.launches, 0, 0, self._batch.work)
        self._begin(batch)
        wait(self._lane, "launch kernels of a trial")
        return measure(self._lane, batch)

    def _begin(self, batch: Batch) -> None:
        self._lane.work[: batch.work] = self._work
        self._lane.begin(batch)


def device_seconds(lane: Lane, batch: Batch) -> float:
    """Return the seconds by the device's clock; where it has none, those of the host."""
    if isinstance(lane, TimedLane):
        return lane.compute_seconds(batch, TIMES)
    start = time.perf_counter()
    lane.begin(batch)
    wait(lane, "launch kernels of a trial", pause=0)
    return time.perf_counter() - start


def wait(lane: Lane, doing: str, pause: float = 1e-3) -> None:
    """Wait for what a lane has begun, and look after every ``pause`` seconds.

    Raises DriverError when the device fails, or takes more than REHEARSAL seconds.
    """
    end = time.monotonic() + REHEARSAL
    while not lane.done():
        if time.monotonic() > end:
            raise DriverError(f"the device did not {doing} within {REHEARSAL:g} s; restart it")
        time.sleep(pause)


def _job(shape: Shape, room: Room) -> SpanJob:
    """Return as many spans of a shape as a lane holds."""
    k, m = shape.k, shape.m
    need = spans.needs(_spans(k, m, 1), np.zeros(1, np.int64))[0]
    left = np.array((room.source, room.target, room.work - HEADER, room.scratch))
    return _spans(k, m, min(MOST_SPANS, int((left // need).min())))


def _spans(k: int, m: int, count: int) -> SpanJob:
    units = np.arange(count * (k + m), dtype=np.int64) * _UNIT
    same = np.ones(count, np.int32)
    number = np.arange(count, dtype=np.int32)
    memory = np.random.default_rng(k).integers(0, 256, len(units) * _UNIT, np.uint8)
    return SpanJob(
        memory=memory, data=units[: count * k], parity=units[count * k :],
        row=np.tile(np.arange(m, dtype=np.uint8), count), lost=np.tile(np.arange(m, dtype=np.uint8), count),
        data_start=number * k, parity_start=number * m, k=same * k, m=same * m, column=same * 0,
        length=same * _UNIT, status=np.zeros(count, np.int8),
    )  # fmt: skip
