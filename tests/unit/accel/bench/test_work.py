from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.aead.cryptography import CryptographyAead
from accel.bench.work import copier, install_keys, lose, make_packets, make_spans, rows_of, stride, to_open
from accel.calls import address_of
from accel.engine import Operation, Status, Suite
from accel.reference.engine import ReferenceEngine


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 200), st.integers(1, 4))
def test_units_lie_apart_at_lines(k: int, m: int, size: int, blocks: int) -> None:
    job = make_spans((k, m), size, blocks)
    places = np.sort(np.concatenate((job.data, job.parity)))
    assert len(places) == blocks * (k + m)
    assert (np.diff(places) >= size).all()
    assert (places % 64 == 0).all()
    assert address_of(job.memory) % 64 == 0
    assert places[-1] + size <= job.memory.size


def test_what_is_lost_can_be_rebuilt() -> None:
    job = make_spans((6, 3), 100, 5)
    engine = ReferenceEngine()
    engine.submit(engine.open(Operation.FEC_ENCODE), job)
    kept = job.memory.copy()
    first, second = lose(job, 1), lose(job, 2)
    assert (first.lost != second.lost).any()
    patterns = first.lost.reshape(5, 3)
    assert len({tuple(row) for row in patterns.tolist()}) > 1
    for span, row in enumerate(patterns.tolist()):
        assert sorted(set(row)) == row
        for unit in row:
            place = int(job.data[6 * span + unit])
            job.memory[place : place + 100] = 0
    engine.submit(engine.open(Operation.FEC_DECODE), first)
    assert (first.status == Status.DONE).all()
    assert (job.memory == kept).all()


def test_cached_spans_share_their_units() -> None:
    job = make_spans((4, 2), 64, 9, cached=True)
    assert job.memory.size == 6 * 64
    assert set(job.data.tolist()) == {0, 64, 128, 192}
    assert len(job.status) == 9


@pytest.mark.parametrize(
    ("shape", "size", "blocks", "told"),
    [
        ((0, 1), 1, 1, "k=0"), ((129, 1), 1, 1, "k=129"), ((1, 0), 1, 1, "m=0"), ((1, 128), 1, 1, "m=128"),
        ((1, 1), 0, 1, "are 0 and 1"), ((1, 1), 1, 0, "are 1 and 0"), ((1, 1), 65_537, 1, "65537"),
    ],
)  # fmt: skip
def test_no_such_spans(shape: tuple[int, int], size: int, blocks: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_spans(shape, size, blocks)


def test_more_parity_than_data_cannot_be_lost() -> None:
    with pytest.raises(ValueError, match="k=1, m=2"):
        lose(make_spans((1, 2), 8, 1), 1)


@pytest.mark.parametrize("suite", Suite)
def test_packets_can_be_sealed_and_opened_again_and_again(suite: Suite) -> None:
    engine = CryptographyAead()
    sealing, opening = engine.open(Operation.AEAD_SEAL), engine.open(Operation.AEAD_OPEN)
    for session in (sealing, opening):
        install_keys(session, suite, keys=3)
    job = make_packets(150, 7, keys=3)
    engine.submit(sealing, job)
    assert (job.status == Status.DONE).all()
    back = to_open(job)
    for _ in range(2):
        engine.submit(opening, back)
        assert (back.status == Status.DONE).all()
        assert back.number.tolist() == list(range(7))
    plain = job.source[job.source_offset[:, None] + np.arange(134)]
    assert (rows_of(back, 134) == plain).all()


@pytest.mark.parametrize(("size", "count"), [(32, 1), (1350, 0), (65_537, 1)])
def test_no_such_packets(size: int, count: int) -> None:
    with pytest.raises(ValueError, match="packets are from"):
        make_packets(size, count)


def test_the_limit_copies() -> None:
    target = copier(100)()
    assert ctypes.string_at(target, 100) == bytes([1]) * 100  # type: ignore[arg-type]


def test_stride() -> None:
    assert [stride(size) for size in (1, 64, 65, 1200)] == [64, 64, 128, 1216]
