"""The compiled packing of a ring against a slow reference, with slots so small that jobs go in parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.engine import OpenJob, SealJob, SpanJob, Status
from accel.service import packet_rows, span_rows
from accel.service.columns import Slot
from accel.trials import OpenRow, SealRow, SpanRow, copy_job, open_job, seal_job, span_job
from tests.unit.accel.service import slow_rows

ROOM = 4096
VERDICTS = st.sampled_from((Status.DONE, Status.DONE, Status.REJECTED, Status.FAULT))


def small_slot(seed: int) -> Slot:
    """Return a slot for 7 rows and 12 parity units, full of rubbish."""
    rubbish = np.random.default_rng(seed)
    return Slot(
        number=rubbish.integers(0, 1 << 40, 7),
        words=rubbish.integers(0, 99, (4, 7)).astype(np.int32),
        status=np.zeros(7, np.int8),
        row=rubbish.integers(0, 255, 12, np.uint8),
        lost=rubbish.integers(0, 255, 12, np.uint8),
        source=rubbish.integers(0, 256, ROOM, np.uint8),
        target=rubbish.integers(0, 256, ROOM, np.uint8),
    )


def same(one: Slot, other: Slot) -> None:
    for name in Slot._fields:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def same_job(one: SpanJob | SealJob | OpenJob, other: SpanJob | SealJob | OpenJob) -> None:
    for name in one._fields:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def answer(slot: Slot, copy: Slot, verdicts: list[Status], seed: int) -> None:
    """Write the same rubbish, as results, into both."""
    rubbish = np.random.default_rng(seed)
    for each in (slot, copy):
        each.status[:] = verdicts
    slot.source[:], slot.target[:] = rubbish.integers(0, 256, (2, ROOM), np.uint8)
    copy.source[:], copy.target[:] = slot.source, slot.target
    slot.number[:] = rubbish.integers(0, 1 << 40, 7)
    copy.number[:] = slot.number


@st.composite
def odd_spans(draw: st.DrawFn) -> SpanJob:
    """Draw spans, some of which nobody can compute, or no slot holds."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        k, length = draw(st.integers(1, 5)), draw(st.sampled_from((0, 1, 15, 16, 17, 100, 1000, 2100)))
        m = draw(st.integers(0, 4))
        units = tuple(bytes([draw(st.integers(0, 255))]) * length for _ in range(k))
        matrix = tuple(draw(st.integers(0, 128)) for _ in range(m))
        lost = tuple(draw(st.integers(0, 5)) for _ in range(m))
        rows.append(SpanRow(units, draw(st.integers(0, 127)), matrix, lost))
    job = span_job(rows)
    wrong = draw(st.sampled_from((None, ("k", 0), ("k", 129), ("m", -1), ("m", 128), ("length", -1))))
    if wrong is not None:
        getattr(job, wrong[0])[draw(st.integers(0, len(job.status) - 1))] = wrong[1]
    return job


@given(job=odd_spans(), decode=st.booleans(), verdicts=st.lists(VERDICTS, min_size=7, max_size=7))
def test_spans(job: SpanJob, decode: bool, verdicts: list[Status]) -> None:
    expected = copy_job(job)
    for i in range(len(job.status)):
        expected.status[i] = slow_rows.verdict_on_span(job, i, ROOM, decode=decode)
    pending = span_rows.choose_spans(job, int(decode), ROOM)
    same_job(job, expected)
    assert pending == (job.status == Status.PENDING).sum()
    begin = turn = 0
    while pending:
        slot, copy, rows = small_slot(turn), small_slot(turn), np.zeros(7, np.int64)
        count, parities, after = span_rows.pack_spans(job, int(decode), begin, slot, rows)
        found = slow_rows.pack_spans(expected, begin, copy, decode=decode)
        assert (rows[:count].tolist(), parities, after) == found
        same(slot, copy)
        answer(slot, copy, verdicts, turn)
        span_rows.unpack_spans(job, int(decode), slot, rows, count)
        slow_rows.unpack_spans(expected, copy, found[0], decode=decode)
        same_job(job, expected)
        pending, begin, turn = pending - count, after, turn + 1
    assert not (job.status == Status.PENDING).any()


LENGTHS = st.sampled_from((0, 13, 16, 17, 32, 33, 48, 100, 1400, 4079, 4080, 4081, 4096, 5000))


@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=12),
    opening=st.booleans(),
    verdicts=st.lists(VERDICTS, min_size=7, max_size=7),
)
def test_packets(lengths: list[int], opening: bool, verdicts: list[Status]) -> None:
    job: SealJob | OpenJob
    if opening:
        job = open_job([OpenRow(i, 3 * i, bytes([i]) * length) for i, length in enumerate(lengths)])
    else:
        job = seal_job([SealRow(i, 5 * i, bytes([i]) * length) for i, length in enumerate(lengths)])
    expected, columns = copy_job(job), SealJob(*job)
    growth, shortest = (-16, 33) if opening else (16, 17)
    slow_rows.choose_packets(expected, ROOM)
    pending = packet_rows.choose_packets(columns, growth, shortest, ROOM)
    same_job(job, expected)
    begin = turn = 0
    while pending:
        slot, copy, rows = small_slot(turn), small_slot(turn), np.zeros(7, np.int64)
        count, parities, after = packet_rows.pack_packets(columns, growth, begin, slot, rows)
        found = slow_rows.pack_packets(expected, begin, copy)
        assert (rows[:count].tolist(), after) == found
        assert parities == 0
        same(slot, copy)
        answer(slot, copy, verdicts, turn)
        packet_rows.unpack_packets(columns, growth, slot, rows, count)
        slow_rows.unpack_packets(expected, copy, found[0])
        same_job(job, expected)
        pending, begin, turn = pending - count, after, turn + 1
    assert not (job.status == Status.PENDING).any()
