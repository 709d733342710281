"""Sliding windows on the device path: spans that overlap, from any column on, thousands in a job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from accel.device.strips import common_shapes
from accel.engine import Engine, Operation, SpanJob, Status
from accel.gf256 import COLUMNS, ROWS
from accel.trials import GUARD, copy_job, difference, run
from drivers.errors import UnavailableError
from tests.host_device import host_engine
from tests.spans_of_reference import decoded, encoded

UNITS = 700
"""Of a stream; unit u has column u modulo 128."""
PATIENCE = 120.0


def _pocl() -> Engine:
    pytest.importorskip("pyopencl", reason="pyopencl: pip install 'vantun[opencl]'")
    from accel.device.opencl import opencl_engine
    from drivers.opencl.find import choose_device

    try:
        choose_device(emulated=True)
    except UnavailableError as error:
        pytest.skip(f"PoCL: {error}")
    return opencl_engine(frozenset(Operation), emulated=True)


@pytest.fixture(params=["host", "backwards", "pocl"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "pocl":
        yield _pocl()
        return
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    made = host_engine(*(("REVERSED",) if request.param == "backwards" else ()))
    made.shapes = common_shapes(4)[:1]
    yield made


class Stream:
    """Units behind each other, and spans of the last ``k`` of them wherever one ends, each with parity of its own.

    Attributes
    ----------
    job
        To be encoded.
    """

    def __init__(self, count: int, length: int, seed: int, lost_in: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        first = generator.integers(0, UNITS, count)
        k = np.minimum(generator.choice([1, 2, 10, 32, 64, 127, 128], count), UNITS - first)
        self.lost = generator.random(UNITS) < lost_in
        holes = [np.flatnonzero(self.lost[start : start + size]) for start, size in zip(first, k, strict=True)]
        m = np.array([len(each) for each in holes]) if lost_in else generator.choice([0, 1, 2, 5, 9, 17], count)
        rows = [generator.permutation(ROWS)[:size] for size in m]
        windows = [np.arange(start, start + size) for start, size in zip(first, k, strict=True)]
        total = int(m.sum())
        memory = generator.integers(0, 256, (UNITS + total) * length, np.uint8)
        self.job = SpanJob(
            memory=memory,
            data=np.concatenate(windows) * length,
            parity=(UNITS + np.arange(total)) * length,
            row=np.concatenate(rows).astype(np.uint8),
            lost=np.concatenate(holes).astype(np.uint8) if lost_in else np.zeros(total, np.uint8),
            data_start=(np.cumsum(k) - k).astype(np.int32),
            parity_start=(np.cumsum(m) - m).astype(np.int32),
            k=k.astype(np.int32),
            m=m.astype(np.int32),
            column=(first & (COLUMNS - 1)).astype(np.int32),
            length=np.full(count, length, np.int32),
            status=np.zeros(count, np.int8),
        )
        self._length = length

    def lose(self, job: SpanJob) -> SpanJob:
        """Return a job whose lost units are overwritten."""
        broken = copy_job(job)
        broken.memory[: UNITS * self._length].reshape(UNITS, -1)[self.lost] = GUARD
        broken.status[:] = 0
        return broken


def test_windows_are_encoded(engine: Engine) -> None:
    stream = Stream(count=1500, length=19, seed=1)
    expected = encoded(stream.job)
    session = engine.open(Operation.FEC_ENCODE)
    run(engine, session, stream.job, PATIENCE)
    assert difference(stream.job, expected) == ""
    assert (stream.job.status == Status.DONE).all()
    session.close()


@pytest.mark.parametrize("loss", [0.05, 0.6])
def test_windows_are_rebuilt_and_agree_where_they_overlap(engine: Engine, loss: float) -> None:
    stream = Stream(count=1500 if loss < 0.1 else 60, length=19, seed=2, lost_in=loss)
    whole = encoded(stream.job)
    broken = stream.lose(whole)
    session = engine.open(Operation.FEC_DECODE)
    run(engine, session, broken, PATIENCE)
    reached = np.unique(stream.job.data) // 19
    units = broken.memory[: UNITS * 19].reshape(UNITS, -1)
    assert np.array_equal(units[reached], whole.memory[: UNITS * 19].reshape(UNITS, -1)[reached])
    assert (broken.status == Status.DONE).all()
    session.close()


@pytest.mark.parametrize("m", [1, 64, 127])
def test_the_largest_window_with_every_number_of_losses(engine: Engine, m: int) -> None:
    generator = np.random.default_rng(m)
    stream = Stream(count=1, length=33, seed=3, lost_in=0.5)
    lost = np.sort(generator.permutation(COLUMNS)[:m])
    units = np.arange(COLUMNS, dtype=np.int64) * 33
    job = stream.job._replace(
        memory=generator.integers(0, 256, (COLUMNS + m) * 33, np.uint8),
        data=units,
        parity=(COLUMNS + np.arange(m, dtype=np.int64)) * 33,
        row=generator.permutation(ROWS)[:m].astype(np.uint8),
        lost=lost.astype(np.uint8),
        data_start=np.zeros(1, np.int32),
        parity_start=np.zeros(1, np.int32),
        k=np.array([COLUMNS], np.int32),
        m=np.array([m], np.int32),
        column=np.array([77], np.int32),
    )
    whole = encoded(job)
    broken = copy_job(whole)
    broken.memory[: COLUMNS * 33].reshape(COLUMNS, -1)[lost] = GUARD
    broken.status[:] = 0
    expected = decoded(broken)
    session = engine.open(Operation.FEC_DECODE)
    run(engine, session, broken, PATIENCE)
    assert difference(broken, expected) == ""
    assert np.array_equal(broken.memory, whole.memory)
    session.close()
