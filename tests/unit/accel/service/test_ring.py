"""What a hostile client may write into its memory, and that merged jobs are those that were merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from accel.calls import address_of
from accel.engine import Job, OpenJob, Operation, SealJob, SpanJob
from accel.reference.engine import ReferenceEngine
from accel.service import ring as layout
from accel.service.packing import packer
from accel.service.ring import ASKED, DATA, HOW_MANY, PARITIES, SIZE, UnbelievableError, own_columns, ring_of, source_of
from accel.service.trays import look, tray_of
from accel.trials import SpanRow, difference, span_job
from tests.ragged import ragged

MEMORY = np.zeros(2 * SIZE, np.uint8)
BASE = 4096
"""Where the memory of the client begins; before and behind it is somebody else's."""
RING = ring_of(MEMORY[BASE : BASE + SIZE])
ODD = st.one_of(
    st.integers(-3, 40), st.integers((1 << 31) - 3, (1 << 31) - 1), st.sampled_from((-(1 << 31), DATA, DATA + 1))
)
LENGTHS = st.one_of(st.integers(0, 2000), ODD)

OWN = own_columns()
PAGES = np.zeros(1 << 14, np.int32)
TRAYS = {operation: tray_of(operation, MEMORY) for operation in Operation}


def read_job(slot: int, operation: Operation) -> Job:
    """Return what the service makes of a slot."""
    heard = look(RING, slot, operation, OWN)
    tray = TRAYS[operation]
    tray.clear()
    tray.add(OWN, heard, BASE + source_of(slot), PAGES)
    return tray.job()


def extents(job: Job, operation: Operation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where every byte range of a job begins and ends."""
    if isinstance(job, SpanJob):
        units = job.data[ragged(job.data_start, job.k)], job.parity[ragged(job.parity_start, job.m)]
        length = np.concatenate((np.repeat(job.length, job.k), np.repeat(job.length, job.m)))
        start = np.concatenate(units)
        return start, start + length
    start = np.concatenate((job.source_offset, job.target_offset))
    return start, start + np.concatenate((job.length, job.length + layout.growth(operation)))


@given(
    operation=st.sampled_from(Operation),
    rows=st.one_of(st.integers(1, 5), st.sampled_from((0, -1, 8192, 8193, 1 << 62, -(1 << 63)))),
    parities=st.one_of(st.integers(-1, 20), st.sampled_from((32768, 32769, 1 << 40))),
    words=st.lists(st.tuples(LENGTHS, st.one_of(st.integers(0, 9), ODD), ODD, LENGTHS), min_size=5, max_size=5),
    slot=st.integers(0, layout.SLOTS - 1),
)
def test_whatever_a_client_writes_stays_in_its_slot(
    operation: Operation, rows: int, parities: int, words: list[tuple[int, int, int, int]], slot: int
) -> None:
    RING.client[slot] = 0
    RING.client[slot, HOW_MANY], RING.client[slot, PARITIES] = rows, parities
    RING.slots[slot].words[:, 5:8192] = 17
    RING.slots[slot].words[:, :5] = np.array(words, np.int64).T.astype(np.int32)
    try:
        job = read_job(slot, operation)
    except UnbelievableError:
        return
    begin, end = extents(job, operation)
    first = BASE + layout.place_of(slot)
    last = first + layout.place_of(1) - layout.place_of(0)
    assert (begin >= first + address_of(RING.slots[slot].source) - address_of(RING.slots[slot].number)).all()
    assert (end <= last).all()
    assert (end >= begin).all()
    assert len(job.status) == rows
    for name, column in job._asdict().items():
        assert name in ("memory", "source", "target") or not np.shares_memory(column, MEMORY), name
    assert isinstance(job, {Operation.AEAD_SEAL: SealJob, Operation.AEAD_OPEN: OpenJob}.get(operation, SpanJob))


@pytest.mark.parametrize(
    ("word", "value", "why"),
    [(0, 0, "data units"), (0, 129, "data units"), (1, 128, "parity units"), (3, -1, "length"), (3, DATA, "bytes of")],
)
def test_a_span_out_of_bounds(word: int, value: int, why: str) -> None:
    RING.slots[0].words[:, 0] = 4, 2, 0, 100
    RING.slots[0].words[word, 0] = value
    RING.client[0, HOW_MANY], RING.client[0, PARITIES] = 1, RING.slots[0].words[1, 0]
    with pytest.raises(UnbelievableError, match=why):
        read_job(0, Operation.FEC_ENCODE)


def test_parities_that_do_not_add_up() -> None:
    RING.slots[0].words[:, 0] = 4, 2, 0, 100
    RING.client[0, HOW_MANY], RING.client[0, PARITIES] = 1, 3
    with pytest.raises(UnbelievableError, match="another number"):
        read_job(0, Operation.FEC_DECODE)


def test_packets_that_fill_more_than_a_slot() -> None:
    RING.slots[0].words[0, :3] = DATA // 2
    RING.client[0, HOW_MANY] = 3
    with pytest.raises(UnbelievableError, match="bytes of packets"):
        read_job(0, Operation.AEAD_OPEN)


def test_a_number_that_changes_is_one_copy() -> None:
    RING.slots[0].words[0, :2] = 100
    RING.client[0, HOW_MANY], RING.client[0, ASKED] = 2, 1
    job = read_job(0, Operation.AEAD_SEAL)
    RING.slots[0].words[:] = -1
    RING.slots[0].number[:] = -1
    assert job.length.tolist() == [100, 100]


@given(
    shapes=st.lists(
        st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_merged_jobs_compute_what_each_computes(shapes: list[list[tuple[int, int]]]) -> None:
    engine = ReferenceEngine()
    session = engine.open(Operation.FEC_ENCODE)
    jobs, wanted = [], []
    packing = packer(Operation.FEC_ENCODE)
    for slot, shape in enumerate(shapes):
        job = span_job([SpanRow(tuple(bytes([slot, k, j]) for j in range(k)), slot, tuple(range(m))) for k, m in shape])
        alone = job._replace(memory=job.memory.copy(), status=job.status.copy())
        rows = np.zeros(len(shape), np.int64)
        assert packing.choose(job) == len(shape)
        packed = packing.write(job, 0, RING.slots[slot], rows)
        assert packed.rows == packed.after == len(shape)
        RING.client[slot, HOW_MANY], RING.client[slot, PARITIES] = len(shape), packed.parities
        jobs.append((job, rows))
        engine.submit(session, alone)
        wanted.append(alone)
    tray = TRAYS[Operation.FEC_ENCODE]
    tray.clear()
    for slot in range(len(shapes)):
        tray.add(OWN, look(RING, slot, Operation.FEC_ENCODE, OWN), BASE + source_of(slot), None)
    together = tray.job()
    engine.submit(session, together)
    begin = 0
    for slot, ((job, rows), alone) in enumerate(zip(jobs, wanted, strict=True)):
        end = begin + len(job.status)
        RING.slots[slot].status[: end - begin] = together.status[begin:end]
        packing.read(job, RING.slots[slot], rows, len(rows))
        assert difference(job, alone) == ""
        begin = end
