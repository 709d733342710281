"""Every FEC engine equals the reference, byte for byte of the whole memory: units, gaps between them, sources."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.catalogue import Kind
from accel.engine import Engine, Operation, Status
from accel.reference.fec import coefficient, eliminate
from accel.trials import SpanRow, difference, lose_units, span_job
from tests.engines.engine_list import ENGINES, finish, refer, spans

each_engine = pytest.mark.parametrize("engine", ENGINES[Kind.FEC])


@each_engine
@given(rows=st.lists(spans(), min_size=1, max_size=4))
def test_encode(engine: Engine, rows: list[SpanRow]) -> None:
    job = span_job(rows)
    assert not difference(finish(engine, Operation.FEC_ENCODE, job), refer(Operation.FEC_ENCODE, job))


@each_engine
@given(rows=st.lists(spans(decode=True), min_size=1, max_size=4))
def test_decode_gives_back_what_was_lost(engine: Engine, rows: list[SpanRow]) -> None:
    whole = refer(Operation.FEC_ENCODE, span_job(rows))
    job = whole._replace(memory=whole.memory.copy())
    lose_units(job)
    assert not difference(finish(engine, Operation.FEC_DECODE, job), whole)


@given(row=spans(decode=True))
def test_the_reference_agrees_with_elimination(row: SpanRow) -> None:
    """Closed form against solving the linear system."""
    job = refer(Operation.FEC_ENCODE, span_job([row]))
    units = [np.frombuffer(unit, np.uint8) for unit in row.units]
    matrix = [[coefficient(i, (row.column + q) % 128) for q in row.lost] for i in row.rows]
    right = []
    for p, i in enumerate(row.rows):
        side = job.memory[job.parity[p] : job.parity[p] + job.length[0]].copy()
        without = span_job([SpanRow(row.units, row.column, (i,))])
        for q in row.lost:
            without.memory[without.data[q] : without.data[q] + without.length[0]] = 0
        known = refer(Operation.FEC_ENCODE, without)
        right.append(side ^ known.memory[known.parity[0] : known.parity[0] + known.length[0]])
    solved = eliminate(matrix, right)
    assert solved is not None
    assert [unit.tobytes() for unit in solved] == [units[q].tobytes() for q in row.lost]
    lost = job._replace(memory=job.memory.copy())
    lose_units(lost)
    assert not difference(refer(Operation.FEC_DECODE, lost), job)


@each_engine
@pytest.mark.parametrize(("k", "column"), [(128, 0), (127, 3)])
def test_everything_lost_that_can_be(engine: Engine, k: int, column: int) -> None:
    units = tuple(bytes([j, 255 - j, j ^ 0x5A]) for j in range(k))
    whole = refer(Operation.FEC_ENCODE, span_job([SpanRow(units, column, tuple(range(127)), tuple(range(k)[-127:]))]))
    job = whole._replace(memory=whole.memory.copy())
    lose_units(job)
    assert not difference(finish(engine, Operation.FEC_DECODE, job), whole)


@each_engine
@pytest.mark.parametrize(
    ("rows", "lost"),
    [((4, 4), (0, 1)), ((4, 5), (1, 1)), ((4,), (3,)), ((127,), (0,)), ((255,), (0,)), ((0, 1, 2, 3), (0, 1, 2, 0))],
    ids=["row twice", "lost twice", "lost beyond k", "row 127", "row 255", "more lost than units"],
)
def test_what_cannot_be_decoded_is_rejected_untouched(
    engine: Engine, rows: tuple[int, ...], lost: tuple[int, ...]
) -> None:
    units = (b"one", b"two", b"tre")
    good = SpanRow(units, 7, (0, 9), (2, 0))
    job = span_job([good, SpanRow(units, 7, rows, lost), good])
    before = finish(engine, Operation.FEC_ENCODE, job)
    after = finish(engine, Operation.FEC_DECODE, before)
    assert after.status.tolist() == [Status.DONE, Status.REJECTED, Status.DONE]
    assert np.array_equal(after.memory, before.memory)


@each_engine
@pytest.mark.parametrize("k", [-1, 0, 129])
@pytest.mark.parametrize("operation", Kind.FEC.operations, ids=lambda operation: operation.value)
def test_a_span_that_is_no_part_of_the_matrix_is_rejected(engine: Engine, operation: Operation, k: int) -> None:
    job = span_job([SpanRow((b"abc",) * 129, 0, (0,), (0,))])._replace(k=np.array([k], np.int32))
    done = finish(engine, operation, job)
    assert done.status.tolist() == [Status.REJECTED]
    assert np.array_equal(done.memory, job.memory)
    assert refer(operation, job).status.tolist() == [Status.REJECTED]


@each_engine
def test_nothing_to_do(engine: Engine) -> None:
    empty = span_job([SpanRow((b"abc",), 0, ())])
    assert finish(engine, Operation.FEC_DECODE, empty).status.tolist() == [Status.DONE]
    none = empty._replace(**{name: getattr(empty, name)[:0] for name in ("k", "m", "column", "length", "status")})
    assert not len(finish(engine, Operation.FEC_ENCODE, none).status)
