"""Every AEAD engine equals the reference, byte for byte of every column: rows, gaps between them, numbers, status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.catalogue import Kind
from accel.engine import Engine, Operation, SealJob, Status, Suite
from accel.trials import OpenRow, SealRow, difference, open_job, packet, rows_of, run, seal_job
from tests.engines.engine_list import (
    ENGINES,
    KEYS,
    NO_KEY,
    NUMBERS,
    PHASE_0_ONLY,
    SUITE_SLOT,
    finish,
    refer,
    seal_rows,
    session_of,
)

each_engine = pytest.mark.parametrize("engine", ENGINES[Kind.AEAD])
each_suite = pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.value)
KEYED = tuple(SUITE_SLOT.values())


def sealed(rows: list[SealRow]) -> list[bytes]:
    return rows_of(refer(Operation.AEAD_SEAL, seal_job(rows)))


@each_engine
@given(rows=st.lists(seal_rows(), min_size=1, max_size=5))
def test_seal(engine: Engine, rows: list[SealRow]) -> None:
    job = seal_job(rows)
    assert not difference(finish(engine, Operation.AEAD_SEAL, job), refer(Operation.AEAD_SEAL, job))


@each_engine
@given(rows=st.lists(seal_rows(KEYED), min_size=1, max_size=4), data=st.data())
def test_open(engine: Engine, rows: list[SealRow], data: st.DataObject) -> None:
    """Packets arrive in another slot, with other numbers expected, with bits flipped, cut short."""
    arrived = []
    for row, octets in zip(rows, sealed(rows), strict=True):
        slot = data.draw(st.sampled_from((row.slot, row.slot, row.slot, PHASE_0_ONLY, NO_KEY, -1)))
        largest = data.draw(st.one_of(st.just(row.number - 1), st.integers(-1, (1 << 62) - 1)))
        damaged = bytearray(octets)
        if data.draw(st.booleans()):
            damaged[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
        size = data.draw(st.one_of(st.just(len(octets)), st.integers(0, len(octets))))
        arrived.append(OpenRow(slot, largest, bytes(damaged[:size])))
    job = open_job(arrived)
    assert not difference(finish(engine, Operation.AEAD_OPEN, job), refer(Operation.AEAD_OPEN, job))


@each_engine
@given(rows=st.lists(seal_rows(KEYED), min_size=1, max_size=4))
def test_open_undoes_seal(engine: Engine, rows: list[SealRow]) -> None:
    job = finish(engine, Operation.AEAD_SEAL, seal_job(rows))
    arrived = [OpenRow(row.slot, row.number - 1, octets) for row, octets in zip(rows, rows_of(job), strict=True)]
    opened = finish(engine, Operation.AEAD_OPEN, open_job(arrived))
    assert opened.status.tolist() == [Status.DONE] * len(rows)
    assert opened.number.tolist() == [row.number for row in rows]
    assert rows_of(opened) == [row.packet for row in rows]


@each_engine
@pytest.mark.parametrize(
    "ahead", [-(1 << 31) - 2, -(1 << 31) - 1, -(1 << 31), 1 - (1 << 31), -1, 0, 5, (1 << 31) - 1, 1 << 31, 1 << 32]
)
@given(number=NUMBERS)
def test_numbers_far_from_the_expected(engine: Engine, ahead: int, number: int) -> None:
    """On both sides of the half windows of RFC 9000, appendix A.3, and of every power of two."""
    row = SealRow(0, number, packet(number, 0, b"text"))
    largest = min(max(-1, number + ahead), (1 << 62) - 1)
    job = open_job([OpenRow(0, largest, octets) for octets in sealed([row])])
    done = finish(engine, Operation.AEAD_OPEN, job)
    assert not difference(done, refer(Operation.AEAD_OPEN, job))
    if abs(number - largest - 1) < 1 << 31:
        assert done.number.tolist() == [number]


@each_engine
@each_suite
def test_no_byte_may_change(engine: Engine, suite: Suite) -> None:
    """Each byte of a packet in turn, each of the hidden bits too; the rejected rows come back as zeros."""
    row = SealRow(SUITE_SLOT[suite], 9, packet(9, 0, b"twenty bytes of text"))
    (good,) = sealed([row])
    bad = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    bad += [bytes([good[0] ^ bit]) + good[1:] for bit in (2, 4, 8, 16, 32, 64, 128)]
    opened = finish(engine, Operation.AEAD_OPEN, open_job([OpenRow(row.slot, 8, octets) for octets in (good, *bad)]))
    assert opened.status.tolist() == [Status.DONE] + [Status.REJECTED] * len(bad)
    assert opened.number.tolist() == [9] + [8] * len(bad)
    assert rows_of(opened) == [row.packet] + [bytes(len(row.packet))] * len(bad)


@each_engine
@pytest.mark.parametrize("size", range(34))
def test_short_packets_are_rejected(engine: Engine, size: int) -> None:
    row = SealRow(0, 1, packet(1, 0, b"text"))
    (octets,) = sealed([row])
    opened = finish(engine, Operation.AEAD_OPEN, open_job([OpenRow(0, 0, octets[:size])]))
    assert opened.status.tolist() == [Status.DONE if size == len(octets) else Status.REJECTED]
    assert size == len(octets) or not any(rows_of(opened)[0])


@each_engine
@pytest.mark.parametrize("size", [0, 1, 13, 16])
def test_short_rows_are_not_sealed(engine: Engine, size: int) -> None:
    job = seal_job([SealRow(0, 1, packet(1, 0, b"text")[:size])])
    done = finish(engine, Operation.AEAD_SEAL, job)
    assert done.status.tolist() == [Status.REJECTED]
    assert rows_of(done) == [bytes(size + 16)]
    assert not difference(done, refer(Operation.AEAD_SEAL, job))


@each_engine
def test_without_a_key_nothing_leaves(engine: Engine) -> None:
    rows = [
        SealRow(slot, 5, packet(5, phase, b"secret"))
        for slot, phase in ((NO_KEY, 0), (PHASE_0_ONLY, 1), (-1, 0), (-1, 1), (1 << 30, 0))
    ]
    done = finish(engine, Operation.AEAD_SEAL, seal_job(rows))
    assert set(done.status.tolist()) == {Status.REJECTED}
    assert rows_of(done) == [bytes(len(row.packet) + 16) for row in rows]


@each_engine
@pytest.mark.parametrize("removed", [0, 1])
def test_a_removed_key_is_gone(engine: Engine, removed: int) -> None:
    """Slot 0 has the header-protection key of both phases."""
    session = session_of(engine, Operation.AEAD_SEAL)
    session.remove_key(removed)
    job = seal_job([SealRow(0, 5, packet(5, phase, b"text")) for phase in range(2)])
    run(engine, session, job)
    kept = Status.REJECTED if removed == 0 else Status.DONE
    assert job.status.tolist() == [kept, Status.REJECTED]
    session.install_key(removed, KEYS[removed])
    run(engine, session, job)
    assert job.status.tolist() == [Status.DONE] * 2
    session.close()
    run(engine, session, job)
    assert job.status.tolist() == [Status.REJECTED] * 2


@each_engine
def test_no_rows(engine: Engine) -> None:
    assert not len(finish(engine, Operation.AEAD_SEAL, seal_job([])).status)
    assert not len(finish(engine, Operation.AEAD_OPEN, open_job([])).status)


@each_engine
@pytest.mark.parametrize("slot", [0, 63, 64, 200])
def test_slots_grow(engine: Engine, slot: int) -> None:
    """The slot of the second phase may be the first of a bigger table."""
    session = engine.open(Operation.AEAD_SEAL)
    session.install_key(slot, KEYS[0])
    session.install_key(slot + 1, KEYS[1])
    rows = [SealRow(slot, 7, packet(7, phase, b"text")) for phase in range(2)]
    job = seal_job(rows)
    run(engine, session, job)
    assert rows_of(job) == sealed([SealRow(0, row.number, row.packet) for row in rows])
    assert isinstance(job, SealJob)
