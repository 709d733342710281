"""Spans as they are laid out for a device; that devices compute the right thing from it, the suite of engines tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.device import spans
from accel.device.port import Bytes, Words
from accel.device.span_rows import DESCRIPTOR, HEADER, ITEMS
from accel.engine import Status
from accel.trials import SpanRow, span_job
from drivers.lanes import Batch


@dataclass
class Laid:
    """A lane whose device does nothing."""

    source: Bytes = field(default_factory=lambda: np.full(1 << 16, 0xEE, np.uint8))
    target: Bytes = field(default_factory=lambda: np.full(1 << 16, 0xEE, np.uint8))
    work: Words = field(default_factory=lambda: np.full(1 << 16, 0xEEEEEEEE, np.uint32))

    def begin(self, batch: Batch) -> None:
        """Compute nothing."""

    def done(self) -> bool:
        return True

    def close(self) -> None:
        """Hold nothing."""


ROWS = st.tuples(st.integers(1, 3), st.sampled_from((0, 1, 127, 128)), st.lists(st.integers(0, 3), max_size=3))


@given(rows=st.lists(ROWS, min_size=1, max_size=12), length=st.sampled_from((0, 1, 16, 100)))
def test_spans_with_the_same_matrix_share_it(rows: list[tuple[int, int, list[int]]], length: int) -> None:
    """Every span's units are where its descriptor says, behind the matrices that there are."""
    job = span_job([SpanRow(tuple(bytes([j + 1]) * length for j in range(k)), c, tuple(r)) for k, c, r in rows])
    lane = Laid()
    laid = spans.lay_out(job, np.arange(len(rows)), lane, decode=False)
    matrices = list(dict.fromkeys((k, column, tuple(row)) for k, column, row in rows))
    assert lane.work[:2].tolist() == [len(matrices), len(rows)]
    coefficients = sum(k * len(row) for k, _, row in matrices)
    size = -(-length // 16)
    items = sum(size * -(-len(row) // 4) for _, _, row in rows)
    assert lane.work[ITEMS : ITEMS + 2].tolist() == [coefficients, items]
    assert [each.items for each in laid.batch.launches] == [coefficients, items]
    assert (laid.batch.source, laid.batch.target) == (
        16 * size * sum(k for k, _, _ in rows),
        16 * size * sum(len(row) for _, _, row in rows),
    )
    descriptors = lane.work[HEADER : HEADER + DESCRIPTOR * (len(matrices) + len(rows))].reshape(-1, DESCRIPTOR)
    firsts = {}
    for (k, column, row), words in zip(matrices, descriptors.tolist(), strict=False):
        firsts[k, column, row] = words[0]
        assert words[1:4] == [k, len(row), column & 127]
        assert lane.work[words[4] : words[4] + len(row)].tolist() == list(row)
    for (k, column, row_list), words in zip(rows, descriptors[len(matrices) :].tolist(), strict=True):
        assert words[1:3] == [k, len(row_list)]
        assert words[4:6] == [firsts[k, column, tuple(row_list)], size]
        for j, unit in enumerate(lane.work[words[3] : words[3] + k].tolist()):
            assert (lane.source[16 * unit : 16 * unit + length] == j + 1).all()


@pytest.mark.parametrize("decode", [False, True], ids=["encode", "decode"])
def test_what_is_taken_back(decode: bool) -> None:
    job = span_job([SpanRow((b"a" * 20, b"b" * 20, b"c" * 20), 0, (0, 5), (2, 0))] * 2)
    lane = Laid()
    laid = spans.lay_out(job, np.arange(2), lane, decode=decode)
    lane.target[: laid.batch.target] = np.repeat(np.arange(4, dtype=np.uint8), 32)
    before = job.memory.copy()
    spans.take_back(job, laid, lane.target, decode=decode)
    homes = job.parity if not decode else job.data[[2, 0, 5, 3]]
    for value, home in enumerate(homes.tolist()):
        assert (job.memory[home : home + 20] == value).all()
        before[home : home + 20] = value
    assert np.array_equal(job.memory, before)
    assert job.status.tolist() == [Status.DONE] * 2
