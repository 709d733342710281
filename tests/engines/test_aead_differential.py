"""Engine ``simd`` against the ``cryptography`` wheel: random batches, and rows at the very edge of mapped memory."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.aead.cryptography import CryptographyAead
from accel.aead.simd import SimdAead
from accel.calls import address_of
from accel.engine import Engine, EngineSession, OpenJob, Operation, SealJob, Status, Suite
from accel.ir.aead_layout import ISAS
from accel.trials import OpenRow, SealRow, copy_job, difference, open_job, packet, rows_of, seal_job
from drivers.cpu import read_cpu
from tests.engines.engine_list import SUITE_SLOT, session_of

_MOST = 64
"""Rows of a random batch."""
FLAGS = read_cpu().flags


@pytest.fixture(params=ISAS)
def engine(request: pytest.FixtureRequest) -> SimdAead:
    lacks = ISAS[request.param] - FLAGS
    if lacks:
        pytest.skip(f"this CPU lacks {', '.join(sorted(lacks))}")
    return SimdAead(request.param)


class Pair:
    """An engine and the wheel, with the same keys."""

    def __init__(self, engine: Engine) -> None:
        wheel = CryptographyAead()
        self.engines = (engine, wheel)
        self.sessions: dict[Operation, tuple[EngineSession, EngineSession]] = {
            operation: (session_of(engine, operation), session_of(wheel, operation))
            for operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN)
        }

    def compare(self, job: SealJob | OpenJob) -> SealJob | OpenJob:
        """Do a job by both; return the wheel's result, which is the engine's."""
        operation = Operation.AEAD_SEAL if isinstance(job, SealJob) else Operation.AEAD_OPEN
        done = [copy_job(job), copy_job(job)]
        for engine, session, each in zip(self.engines, self.sessions[operation], done, strict=True):
            engine.submit(session, each)
        assert not difference(done[0], done[1])
        return done[1]


def random_rows(generator: np.random.Generator, count: int) -> list[SealRow]:
    """Return rows of any suite, mostly packets of a path, some tiny, some jumbo."""
    rows = []
    slots = list(SUITE_SLOT.values())
    for _ in range(count):
        kind = generator.random()
        size = int(generator.integers(4, 1500 if kind < 0.6 else 120 if kind < 0.97 else 9300))
        number = int(generator.integers(0, 1 << 62))
        payload = packet(number, int(generator.integers(0, 2)), generator.bytes(size))
        rows.append(SealRow(int(generator.choice(slots)), number, payload))
    return rows


def damaged(generator: np.random.Generator, octets: bytes) -> bytes:
    """Return a packet, in one of five cases with a bit flipped anywhere."""
    data = bytearray(octets)
    if generator.random() < 0.2:
        data[int(generator.integers(0, len(data)))] ^= 1 << int(generator.integers(0, 8))
    return bytes(data)


def fuzz(engine: Engine, packets: int, seed: int) -> None:
    generator, pair = np.random.default_rng(seed), Pair(engine)
    while packets > 0:
        rows = random_rows(generator, int(generator.integers(1, _MOST)))
        sealed = rows_of(pair.compare(seal_job(rows)))
        arrived = [
            OpenRow(row.slot, max(-1, row.number - int(generator.integers(-50, 50))), damaged(generator, octets))
            for row, octets in zip(rows, sealed, strict=True)
        ]
        opened = pair.compare(open_job(arrived))
        assert (opened.status == Status.DONE).any() or len(rows) < 20
        packets -= len(rows)


def test_a_thousand_packets(engine: SimdAead) -> None:
    fuzz(engine, 1000, seed=1)


def test_rows_that_fill_a_batch_and_one_that_is_longer(engine: SimdAead) -> None:
    """ChaCha20 of many rows is done together as far as memory for its key stream goes."""
    pair, slots = Pair(engine), list(SUITE_SLOT.values())
    sizes = [9000, 40_000, 8000, 9000, 100, 1321, 4, 24_513, 24_512, 1321] * 2
    rows = [SealRow(slots[-1 - i % 2], i, packet(i, 0, bytes([i]) * size)) for i, size in enumerate(sizes)]
    sealed = rows_of(pair.compare(seal_job(rows)))
    opened = pair.compare(open_job([OpenRow(r.slot, r.number - 1, s) for r, s in zip(rows, sealed, strict=True)]))
    assert opened.status.tolist() == [Status.DONE] * len(rows)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_packets(engine: SimdAead) -> None:
    fuzz(engine, 1_000_000, seed=2)


class Cage:
    """Memory of which the byte before the first and the byte behind the last are not mapped."""

    def __init__(self, pages: int) -> None:
        page = mmap.PAGESIZE
        self._map = mmap.mmap(-1, (pages + 2) * page)
        whole = np.frombuffer(self._map, np.uint8)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for place in (0, (pages + 1) * page):
            assert protect(ctypes.c_void_p(address_of(whole) + place), ctypes.c_size_t(page), 0) == 0
        self.memory: NDArray[np.uint8] = whole[page:-page]

    def put(self, job: SealJob | OpenJob, *, target: bool, at_end: bool) -> SealJob | OpenJob:
        """Return a job of one row with its source, or its target, at one end of the cage."""
        growth = 16 if isinstance(job, SealJob) else -16
        size = int(job.length[0]) + (growth if target else 0)
        start = len(self.memory) - size if at_end else 0
        column = "target" if target else "source"
        old = int(getattr(job, f"{column}_offset")[0])
        self.memory[start : start + size] = getattr(job, column)[old : old + size]
        moved: dict[str, Any] = {column: self.memory, f"{column}_offset": np.array([start], np.int64)}
        return job._replace(**moved)


@pytest.mark.parametrize("suite", Suite, ids=lambda suite: suite.value)
@pytest.mark.parametrize("at_end", [False, True], ids=["begins", "ends"])
def test_nothing_beside_a_row_is_touched(engine: SimdAead, suite: Suite, at_end: bool) -> None:
    """A byte read or written outside of the row would end this process."""
    cage, pair = Cage(3), Pair(engine)
    session = {operation: pair.sessions[operation][0] for operation in pair.sessions}
    for size in (4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 100, 127, 128, 200, 511, 600, 1321, 2000):
        plain = seal_job([SealRow(SUITE_SLOT[suite], 7, packet(7, 0, bytes(range(256)) * 8)[: 13 + size])])
        sealed = pair.compare(plain)
        opening = open_job([OpenRow(SUITE_SLOT[suite], 6, rows_of(sealed)[0])])
        opened = pair.compare(opening)
        for operation, job, expected in (
            (Operation.AEAD_SEAL, plain, sealed),
            (Operation.AEAD_OPEN, opening, opened),
        ):
            for target in (False, True):
                caged = cage.put(job, target=target, at_end=at_end)._replace(status=np.zeros(1, np.int8))
                caged = caged._replace(number=caged.number.copy())
                engine.submit(session[operation], caged)
                assert caged.status.tolist() == [Status.DONE]
                assert rows_of(caged) == rows_of(expected)
