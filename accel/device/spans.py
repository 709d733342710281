"""Spans of code 1 as a device takes them: units packed behind each other, and descriptors as code1.h reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.device.port import Bytes, Lane, Words
from accel.device.program import FEC, HORNER, KERNELS
from accel.device.runs import MOST_RUNS, NOTHING_PINNED
from accel.device.span_rows import COEFFICIENT, DESCRIPTOR, UNIT, find_runs, lay_spans, take_spans
from accel.device.strip_rows import STRIP
from accel.device.strips import Shape, by_horner, shape_of_spans, write_strips
from accel.engine import SpanJob, Status
from accel.gf256 import EXP, LOG
from drivers.lanes import Batch, Launch, Run

_Places = NDArray[np.int64]


class SpanBatch(NamedTuple):
    """Spans that lie in a lane.

    Attributes
    ----------
    batch
        For the lane.
    places
        Spans of the job.
    direct
        Whether the device writes to the job's own memory, which is registered with it.
    """

    batch: Batch
    places: _Places
    direct: bool = False


def field_table() -> Words:
    """Return the table of code 1: logarithms [256] and powers of 2 [512]."""
    return np.concatenate((LOG, EXP)).astype(np.uint32)


def needs(job: SpanJob, places: _Places) -> NDArray[np.int64]:
    """Return [spans, 4] what each takes of a lane, in the order of :class:`Room`; a lane also needs HEADER words."""
    k, m = job.k[places].astype(np.int64), job.m[places].astype(np.int64)
    size = padded(job.length[places])
    needed: NDArray[np.int64] = np.stack((k * size, m * size, 2 * DESCRIPTOR + 3 * m + k, COEFFICIENT * k * m), 1)
    return needed


def padded(length: NDArray[np.integer]) -> _Places:
    """Return lengths up to the next multiple of UNIT."""
    up: _Places = (length.astype(np.int64) + (UNIT - 1)) & -UNIT
    return up


def lay_out(
    job: SpanJob,
    places: _Places,
    lane: Lane,
    *,
    decode: bool,
    shapes: Sequence[Shape] = (),
    pinned: NDArray[np.int64] = NOTHING_PINNED,
) -> SpanBatch:
    """Copy spans of a job into a lane that has room for them; those of ``shapes`` go to kernels of their own.

    Units that lie in ``pinned`` memory as they would in the lane, in few runs, are left to the device: all of them to
    encode, and to decode those that are read, whatever lies where something is lost.
    """
    count = len(places)
    runs = _runs(job, places, pinned) if len(pinned) else None
    if decode and runs is not None and sum(run.size for both in runs for run in both) > len(lane.source):
        runs = None  # the parity units take room beside what they stand for
    coded = () if decode else tuple(shapes)
    shape, strips = shape_of_spans(job, places, coded)
    how = int(decode), STRIP * strips, int(runs is None)
    scratch, table = np.empty((4, count), np.int64), np.zeros(1 << (2 * count).bit_length(), np.int64)
    lane_of = lane.source, lane.work
    source, target, words, coefficients, items, begin = lay_spans(job, places, how, shape, lane_of, scratch, table)
    first, second = KERNELS[HORNER if by_horner(job, places, shapes) else FEC]
    launches = [Launch(first, coefficients), Launch(second, items)]
    if coded:
        launches += write_strips(job, places, coded, (shape, scratch[0]), lane.work, begin)
    inward, outward = runs or ((), ())
    if decode:  # what is rebuilt goes to places far apart
        inward, outward = inward + outward, ()
    return SpanBatch(Batch(tuple(launches), source, target, words, inward, outward), places, bool(outward))


def _runs(job: SpanJob, places: _Places, pinned: NDArray[np.int64]) -> tuple[tuple[Run, ...], tuple[Run, ...]] | None:
    """Return the runs of memory that data and parity are; None when the device cannot take them directly."""
    found = []
    for parity in (0, 1):
        runs = np.empty((MOST_RUNS, 2), np.int64)
        count = find_runs(job, places, parity, pinned, runs)
        if count <= 0:
            return None
        found.append(runs_of(runs, count))
    return found[0], found[1]


def runs_of(runs: NDArray[np.int64], count: int) -> tuple[Run, ...]:
    """Return the first ``count`` of ``runs`` [most, 2], as a batch has them."""
    return tuple(Run(*each) for each in runs[:count].tolist())


def take_back(job: SpanJob, laid: SpanBatch, target: Bytes, *, decode: bool) -> None:
    """Copy what a lane has computed to where the job wants it; the spans are DONE then."""
    if laid.direct:
        job.status[laid.places] = Status.DONE
    else:
        take_spans(job, laid.places, int(decode), target, Status.DONE.value)
