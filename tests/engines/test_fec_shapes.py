"""What can go wrong in a kernel with vectors: tails, alignments, register blocks, windows, spans of all kinds.

Engines are compared with the reference over the whole memory, so a byte outside of a unit that was written fails, too.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accel.catalogue import Kind
from accel.engine import Engine, Operation, SpanJob, Status
from accel.reference import fec as reference
from accel.trials import SpanRow, difference, lose_units, span_job
from drivers.arena import Arena
from tests.engines.engine_list import ENGINES, FEC_VARIANTS, finish, refer

each_engine = pytest.mark.parametrize("engine", ENGINES[Kind.FEC])
each_variant = pytest.mark.parametrize("engine", FEC_VARIANTS)

ENCODE, DECODE = Operation.FEC_ENCODE, Operation.FEC_DECODE


def span(k: int, m: int, length: int, column: int = 0, first_row: int = 0) -> SpanRow:
    """Return a span of random bytes, every second unit of it lost until there are ``m``."""
    generator = np.random.default_rng(1000 * k + length)
    order = [*range(0, k, 2), *range(1, k, 2)]
    units = tuple(generator.bytes(length) for _ in range(k))
    return SpanRow(units, column, tuple(range(first_row, first_row + m)), tuple(order[:m]))


def check(engine: Engine, rows: list[SpanRow]) -> None:
    """Encode, lose and decode; all as the reference has it."""
    job = span_job(rows)
    whole = refer(ENCODE, job)
    assert not difference(finish(engine, ENCODE, job), whole)
    lost = whole._replace(memory=whole.memory.copy())
    lose_units(lost)
    assert not difference(finish(engine, DECODE, lost), whole)


@each_engine
def test_every_tail(engine: Engine) -> None:
    check(engine, [span(3, 2, length) for length in range(1, 131)])


@each_variant
@pytest.mark.parametrize("m", range(1, 21))
def test_every_group_of_rows(engine: Engine, m: int) -> None:
    """With row 0 first, last and not at all; odd and even k; lengths on both sides of every unrolling."""
    rows = [span(k, m, length, first_row=first) for k in (20, 21) for length in (64, 333, 700) for first in (0, 5)]
    check(engine, [*rows, replace(rows[0], rows=rows[0].rows[::-1])])


@each_engine
@pytest.mark.parametrize("k", [1, 2, 9, 128])
def test_a_single_loss_is_a_sum_of_the_others(engine: Engine, k: int) -> None:
    row = replace(span(k, 1, 200, column=77), lost=(k - 1,))
    check(engine, [row, replace(row, rows=(1,))])
    job = refer(ENCODE, span_job([row]))
    total = np.bitwise_xor.reduce([np.frombuffer(unit, np.uint8) for unit in row.units])
    assert np.array_equal(job.memory[job.parity[0] : job.parity[0] + 200], total)


@each_engine
@pytest.mark.parametrize("column", [64, 100, 127, 128, 300, -1])
def test_windows_go_on_after_the_last_column(engine: Engine, column: int) -> None:
    check(engine, [span(k, 5, 97, column) for k in (5, 63, 64, 65, 128)])


@each_engine
def test_every_row_of_the_widest_span(engine: Engine) -> None:
    check(engine, [span(128, 127, 65), span(127, 127, 66, column=5)])


@each_variant
def test_rows_may_repeat_and_be_more_than_the_matrix_has(engine: Engine) -> None:
    """Encode only: 300 parity units, three turns of the kernel's working area."""
    row = SpanRow(span(5, 0, 70).units, 9, tuple(i % 127 for i in range(300)))
    job = span_job([row, span(5, 4, 70), row])
    assert not difference(finish(engine, ENCODE, job), refer(ENCODE, job))


@each_variant
def test_coefficients_are_not_taken_for_those_of_the_span_before(engine: Engine) -> None:
    """Equal in k, m, rows or column, but not in all; and spans between them that are refused, empty or short."""
    rows = [
        *(span(10, 4, 200), span(10, 4, 200), span(10, 4, 200, column=1), span(10, 4, 200, first_row=1)),
        *(span(9, 4, 200), span(10, 5, 200), span(10, 4, 7), span(10, 4, 200), span(10, 0, 50), span(10, 4, 90)),
        *(replace(span(10, 4, 200), rows=(127, 0, 1, 2)), span(10, 4, 200)),
    ]
    job = span_job(rows)
    job.length[3] = 0
    assert not difference(finish(engine, ENCODE, job), refer(ENCODE, job))
    assert finish(engine, ENCODE, job).status.tolist() == [Status.DONE] * 10 + [Status.REJECTED, Status.DONE]


@each_variant
@pytest.mark.parametrize("length", [1, 31, 32, 63, 64, 65, 100, 191, 255, 257])
@pytest.mark.parametrize("at_end", [False, True], ids=["page begins", "page ends"])
def test_nothing_outside_of_a_unit_is_touched(engine: Engine, length: int, at_end: bool) -> None:
    """Units that begin or end where the next page is not mapped: a load outside would end the process."""
    count = 3
    arenas = [Arena(1, 4096) for _ in range(2)]
    for arena in arenas:
        arena.memory[:] = np.arange(4096) & 0xFF
    place = 4096 - length if at_end else 0
    addresses = [arena.address + place for arena in arenas]
    base = min(arena.address for arena in arenas)
    for operation in (ENCODE, DECODE):
        job = SpanJob(
            memory=_reaching(base, max(addresses) + length - base),
            data=np.full(count, addresses[0] - base, np.int64),
            parity=np.array([addresses[1] - base], np.int64),
            row=np.array([3], np.uint8),
            lost=np.array([0], np.uint8),
            data_start=np.zeros(1, np.int32),
            parity_start=np.zeros(1, np.int32),
            k=np.array([count], np.int32),
            m=np.ones(1, np.int32),
            column=np.zeros(1, np.int32),
            length=np.array([length], np.int32),
            status=np.zeros(1, np.int8),
        )
        engine.submit(engine.open(operation), job)
        assert job.status[0] == Status.DONE
    unit = (np.arange(4096) & 0xFF).astype(np.uint8)[place : place + length]
    factors = [reference.coefficient(3, j) for j in range(count)]
    assert np.array_equal(arenas[1].memory[place : place + length], reference.combine([unit] * count, factors, length))


def _reaching(base: int, size: int) -> NDArray[np.uint8]:
    """Return bytes ``base`` to ``base + size`` of the address space, which have holes."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(base))


@each_variant
def test_thousands_of_spans_in_one_job(engine: Engine) -> None:
    generator = np.random.default_rng(5)
    shapes = [span(int(k), int(min(k, m)), int(length)) for k, m, length in _mixed(generator, 40)]
    expected = [refer(ENCODE, span_job([each])) for each in shapes]
    picks = generator.integers(0, len(shapes), 3000).tolist()
    job = span_job([shapes[pick] for pick in picks])
    done = finish(engine, ENCODE, job)
    assert (done.status == Status.DONE).all()
    for i, pick in enumerate(picks):
        for p in range(int(job.m[i])):
            ours, theirs = int(done.parity[done.parity_start[i] + p]), int(expected[pick].parity[p])
            size = int(job.length[i])
            assert np.array_equal(done.memory[ours : ours + size], expected[pick].memory[theirs : theirs + size])
    lost = done._replace(memory=done.memory.copy())
    lose_units(lost)
    assert not difference(finish(engine, DECODE, lost), done)


@st.composite
def shapes(draw: st.DrawFn) -> SpanRow:
    """Return a span of any shape that can be decoded: rows in any order, losses anywhere, units over many vectors."""
    k, length = draw(st.one_of(st.integers(1, 40), st.integers(120, 128))), draw(st.integers(1, 600))
    generator = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    m = draw(st.integers(0, min(k, 20)))
    rows, lost = generator.permutation(127)[:m].tolist(), generator.permutation(k)[:m].tolist()
    if m and 0 not in rows and draw(st.booleans()):
        rows[generator.integers(0, m)] = 0
    units = tuple(generator.bytes(length) for _ in range(k))
    return SpanRow(units, draw(st.integers(0, 127)), tuple(rows), tuple(lost))


@each_variant
@settings(max_examples=40)
@given(rows=st.lists(shapes(), min_size=1, max_size=3))
def test_any_shape(engine: Engine, rows: list[SpanRow]) -> None:
    check(engine, rows)


def _mixed(generator: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    k, m = generator.choice((1, 2, 3, 7, 10, 33), count), generator.integers(0, 9, count)
    return [(*shape,) for shape in np.stack((k, m, generator.integers(1, 150, count)), 1).tolist()]


@each_variant
@pytest.mark.parametrize(
    ("field", "value"),
    [("k", 200), ("k", -5), ("m", -1), ("m", 99), ("length", -1), ("length", 1 << 30), ("data_start", -1),
     ("data_start", 1 << 30), ("parity_start", -(1 << 31)), ("parity_start", 7)],
)  # fmt: skip
@pytest.mark.parametrize("operation", Kind.FEC.operations, ids=lambda operation: operation.value)
def test_descriptors_that_leave_their_columns_are_rejected(
    engine: Engine, operation: Operation, field: str, value: int
) -> None:
    """A kernel works on addresses: what the caller got wrong must not become memory corruption."""
    job = refer(ENCODE, span_job([span(3, 2, 40), span(3, 2, 40), span(3, 2, 40)]))
    getattr(job, field)[1] = value
    done = finish(engine, operation, job)
    assert done.status.tolist() == [Status.DONE, Status.REJECTED, Status.DONE]
    assert np.array_equal(done.memory, job.memory)


@each_variant
@pytest.mark.parametrize("field", ["data", "parity"])
@pytest.mark.parametrize("offset", [-1, 1 << 40, -(1 << 62)])
def test_units_outside_of_the_memory_are_rejected(engine: Engine, field: str, offset: int) -> None:
    job = refer(ENCODE, span_job([span(3, 2, 40), span(3, 2, 40)]))
    getattr(job, field)[1] = offset
    for operation in (ENCODE, DECODE):
        done = finish(engine, operation, job)
        assert done.status.tolist() == [Status.REJECTED, Status.DONE]
        assert np.array_equal(done.memory, job.memory)


@each_variant
@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), field=st.sampled_from(SpanJob._fields[1:-1]))
def test_random_descriptors_never_leave_the_memory(engine: Engine, seed: int, field: str) -> None:
    """Whatever stands in one column: every span gets a verdict, and only parity units of DONE spans change."""
    generator = np.random.default_rng(seed)
    job = refer(ENCODE, span_job([span(4, 2, 33), span(9, 3, 70)]))
    column = getattr(job, field)
    limits = np.iinfo(column.dtype)
    column[:] = generator.integers(limits.min, limits.max, column.shape, column.dtype, endpoint=True)
    if generator.integers(2):
        column[:] = generator.integers(-3 if limits.min else 0, 140, column.shape)
    for operation in (ENCODE, DECODE):
        done = finish(engine, operation, job)
        assert set(done.status.tolist()) <= {Status.DONE, Status.REJECTED}
        if (done.status == Status.REJECTED).all():
            assert np.array_equal(done.memory, job.memory)
