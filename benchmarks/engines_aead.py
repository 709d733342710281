"""The AEAD rows of ``./dev bench engines``: our engine against IPsec-MB and OpenSSL, header protection on both sides.

Packets of 1,350 bytes on the wire: header 13, payload 1,321, tag 16. Everybody must have written the same bytes before
time is taken. Our side of a ratio is ``submit`` from Python; the libraries' side is a loop in C (baselines.c).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from accel.aead.cryptography import CryptographyAead
from accel.aead.simd import SimdAead
from accel.bench.contest import Effort
from accel.bench.work import copier, install_keys, make_packets, rows_of, to_open
from accel.engine import TAG_LENGTH, Engine, OpenJob, Operation, SealJob, Suite
from accel.ir.aead_layout import ISAS as OUR_ISAS
from benchmarks import baselines
from benchmarks.engines_field import Field, Pass, Result, WrongError, engine_pass, need_flags
from benchmarks.engines_rows import Row
from drivers.ipsec_mb import ISAS
from drivers.libcrypto import Libcrypto

SIZE, BATCH = 1350, 64
OURS = ("vaes", "avx2", "aes", "plain")
"""Kernels that a CPU with everything does not choose by itself."""
_THEIRS = ("avx512", "avx_gen4", "sse")
_PEER = {"vaes": "ipsec-mb-avx_gen4", "avx2": "ipsec-mb-avx_gen4", "aes": "ipsec-mb-sse", "plain": "cryptography"}
"""Whom a kernel of ours is compared with: the same instructions, or what serves without ours."""
_CHACHA = Suite.CHACHA20_POLY1305


def simd(isa: str = "") -> Engine:
    """Return our engine, held to one kernel; "" = its own choice."""
    need_flags(f"the variant {isa}", OUR_ISAS.get(isa, ()))
    return SimdAead(isa=isa)


def jobs_for(suite: Suite, batch: int = BATCH, size: int = SIZE) -> dict[str, SealJob | OpenJob]:
    """Return a job that seals packets (done by the wheel), and the one that opens them."""
    sealing = make_packets(size, batch)
    engine_pass(CryptographyAead(), Operation.AEAD_SEAL, [sealing], partial(install_keys, suite=suite))
    return {"seal": sealing, "open": to_open(sealing)}


def _checked(run: Pass, job: SealJob | OpenJob, expected: np.ndarray[Any, Any]) -> Pass:
    """Return ``run`` after it has written the expected rows over zeros, and has refused a packet that was damaged."""
    job.target[:] = 0
    run()
    if (rows_of(job, expected.shape[1]) != expected).any():
        raise WrongError("two ways to protect the same packets came to different bytes")
    if isinstance(job, OpenJob):
        last = int(job.source_offset[-1] + job.length[-1]) - 1
        job.source[last] ^= 1
        run()
        job.source[last] ^= 1
        if rows_of(job, expected.shape[1])[-1].any():
            raise WrongError("a damaged packet was opened")
        run()
    return run


def contest(suite: Suite, job: SealJob | OpenJob, effort: Effort, *, masked: bool = True) -> Result:
    """Let everybody do a job."""
    count, size = len(job.status), int(job.length[0]) + (TAG_LENGTH if isinstance(job, SealJob) else -TAG_LENGTH)
    operation = Operation.AEAD_SEAL if isinstance(job, SealJob) else Operation.AEAD_OPEN
    keys = partial(install_keys, suite=suite)
    wheel = engine_pass(CryptographyAead(), operation, [job], keys)
    expected = rows_of(job, size)
    there = Field(count)
    there.add("simd", lambda: _checked(engine_pass(simd(), operation, [job], keys), job, expected))
    library = Libcrypto()
    if suite is not _CHACHA:
        there.add("ipsec-mb", lambda: _checked(baselines.ipsec_mb(job, suite), job, expected))
    there.add("openssl", lambda: _checked(baselines.openssl(job, suite, library), job, expected))
    there.add("cryptography", lambda: _checked(wheel, job, expected))
    for isa in OURS if masked else ():
        there.add(f"simd-{isa}", partial(_masked, isa, operation, job, keys, expected))
    if masked and suite is not _CHACHA:
        for isa in _THEIRS:
            there.add(f"ipsec-mb-{isa}", partial(_peer, isa, suite, job, expected))
    there.add("memcpy", lambda: copier(count * size))
    return there.compete(effort)


def _masked(isa: str, operation: Operation, job: SealJob | OpenJob, keys: Any, expected: Any) -> Pass:
    return _checked(engine_pass(simd(isa), operation, [job], keys), job, expected)


def _peer(isa: str, suite: Suite, job: SealJob | OpenJob, expected: Any) -> Pass:
    need_flags(f"IPsec-MB's variant {isa}", ISAS[isa])
    return _checked(baselines.ipsec_mb(job, suite, isa), job, expected)


def suite_rows(suite: Suite, effort: Effort) -> list[Row]:
    """Measure seal and open of one suite."""
    rows = []
    for what, job in jobs_for(suite).items():
        found = contest(suite, job, effort)
        if suite is Suite.AES_128_GCM:
            wanted = [
                Row("aes-128", what, target=0.97, against="ipsec-mb"),
                Row("aes-128-evp", what, target=3.0, against="openssl"),
            ]
        elif suite is Suite.AES_256_GCM:
            wanted = [Row("aes-256", what, target=0.97, against="ipsec-mb")]
        else:
            wanted = [Row("chacha20", what, target=2.0, against="openssl")]
        for isa in OURS:
            peer = _PEER[isa]
            if suite is _CHACHA:
                peer = "cryptography" if isa == "plain" else "openssl"
            wanted.append(Row("aead-masked", f"{suite.value} {what}", engine=f"simd-{isa}", against=peer))
        rows += [found.row(row, per_second=False) for row in wanted]
    return rows


def keys_rows(effort: Effort) -> list[Row]:
    """Measure a batch in which every packet has a key of its own against one with a single key."""
    rows = []
    for operation in (Operation.AEAD_SEAL, Operation.AEAD_OPEN):
        there = Field(BATCH)
        for name, keys in (("one key", 1), (f"{BATCH} keys", BATCH)):
            job: SealJob | OpenJob = make_packets(SIZE, BATCH, keys)
            install = partial(install_keys, suite=Suite.AES_128_GCM, keys=keys)
            if operation is Operation.AEAD_OPEN:
                engine_pass(CryptographyAead(), Operation.AEAD_SEAL, [job], install)
                assert isinstance(job, SealJob)
                job = to_open(job)
            there.add(name, partial(engine_pass, simd(), operation, [job], install))
        row = Row("aead-masked", operation.value, engine=f"{BATCH} keys", against="one key")
        rows.append(there.compete(effort).row(row, per_second=False))
    return rows


def measure(effort: Effort) -> list[Row]:
    """Return every row."""
    return [*(row for suite in Suite for row in suite_rows(suite, effort)), *keys_rows(effort)]
