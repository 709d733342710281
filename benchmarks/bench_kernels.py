"""The engines that serve, by batches of 64 packets of 1200 bytes. Disabled by default: then each runs once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel.aead.cryptography import CryptographyAead
from accel.engine import HEADER_LENGTH, TAG_LENGTH, KeySpec, OpenJob, Operation, SealJob, SpanJob, Suite
from accel.fec.simd import SimdFec

PACKETS = 64
LENGTH = 1200
STRIDE = 1344


def seal_job() -> SealJob:
    """Return a batch of packets of one key."""
    source = np.random.default_rng(1).integers(0, 256, PACKETS * STRIDE, np.uint8)
    offset = np.arange(PACKETS, dtype=np.int64) * STRIDE
    source[offset] = 0x43
    for byte in range(4):
        source[offset + 9 + byte] = np.arange(PACKETS) >> (24 - 8 * byte) & 0xFF
    return SealJob(
        source=source,
        source_offset=offset,
        length=np.full(PACKETS, HEADER_LENGTH + LENGTH, np.int32),
        target=np.zeros(PACKETS * STRIDE, np.uint8),
        target_offset=offset.copy(),
        slot=np.zeros(PACKETS, np.int32),
        number=np.arange(PACKETS, dtype=np.int64),
        status=np.zeros(PACKETS, np.int8),
    )


def span_job(k: int, m: int) -> SpanJob:
    """Return one span of ``k`` data and ``m`` parity units; the first ``m`` data units count as lost."""
    units = np.arange(k + m, dtype=np.int64) * STRIDE
    return SpanJob(
        memory=np.random.default_rng(2).integers(0, 256, (k + m) * STRIDE, np.uint8),
        data=units[:k],
        parity=units[k:],
        row=np.arange(m, dtype=np.uint8),
        lost=np.arange(m, dtype=np.uint8),
        data_start=np.zeros(1, np.int32),
        parity_start=np.zeros(1, np.int32),
        k=np.full(1, k, np.int32),
        m=np.full(1, m, np.int32),
        column=np.zeros(1, np.int32),
        length=np.full(1, LENGTH, np.int32),
        status=np.zeros(1, np.int8),
    )


@pytest.mark.parametrize("suite", Suite)
def test_seal_and_open(benchmark: Any, suite: Suite) -> None:
    engine = CryptographyAead()
    key = KeySpec(suite, bytes(suite.key_length), bytes(12), bytes(suite.key_length))
    sealing, opening = engine.open(Operation.AEAD_SEAL), engine.open(Operation.AEAD_OPEN)
    for session in (sealing, opening):
        session.install_key(0, key)
    job = seal_job()

    def there_and_back() -> OpenJob:
        engine.submit(sealing, job)
        back = OpenJob(
            source=job.target,
            source_offset=job.target_offset,
            length=job.length + np.int32(TAG_LENGTH),
            target=np.zeros_like(job.target),
            target_offset=job.target_offset,
            slot=job.slot,
            number=np.arange(PACKETS, dtype=np.int64) - 1,
            status=np.zeros(PACKETS, np.int8),
        )
        engine.submit(opening, back)
        return back

    assert (benchmark(there_and_back).status == 1).all()


@pytest.mark.parametrize(("k", "m"), [(10, 4), (64, 8)])
@pytest.mark.parametrize("operation", [Operation.FEC_ENCODE, Operation.FEC_DECODE], ids=lambda o: o.value)
def test_code_1(benchmark: Any, operation: Operation, k: int, m: int) -> None:
    engine = SimdFec()
    session = engine.open(operation)
    job = span_job(k, m)
    benchmark(lambda: engine.submit(session, job))
    assert job.status[0] == 1
