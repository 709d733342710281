"""Engine ``simd`` of AEAD: which variant it chooses, and that no key stays."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.aead.simd import SimdAead, SimdSession, choose_isa
from accel.engine import KeySpec, Operation, Status, Suite
from accel.ir import aead
from accel.ir.aead_layout import ISAS, RECORD
from accel.trials import SealRow, packet, rows_of, seal_job

_KEY = bytes(range(100, 132))


def spec(suite: Suite = Suite.AES_256_GCM) -> KeySpec:
    size = suite.key_length
    return KeySpec(suite, _KEY[:size], bytes(range(1, 13)), _KEY[-size:])


def session() -> SimdSession:
    opened = SimdAead().open(Operation.AEAD_SEAL)
    assert isinstance(opened, SimdSession)
    return opened


@pytest.mark.parametrize("isa", ISAS)
def test_the_variant_follows_the_flags(isa: str) -> None:
    assert choose_isa(ISAS[isa] | {"fpu"}) == isa


@pytest.mark.parametrize("lost", sorted(ISAS["avx512"]))
def test_no_variant_without_all_of_its_flags(lost: str) -> None:
    assert ISAS[choose_isa(ISAS["avx512"] - {lost})] <= ISAS["avx512"] - {lost}


def test_a_masked_cpu_has_all_suites_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_CPU", "plain")
    sealed = []
    for engine in (SimdAead(), SimdAead("plain")):
        opened = engine.open(Operation.AEAD_SEAL)
        for slot, suite in enumerate(Suite):
            opened.install_key(slot, spec(suite))
        job = seal_job([SealRow(slot, 3, packet(3, 0, bytes(50))) for slot in range(3)])
        engine.submit(opened, job)
        assert job.status.tolist() == [Status.DONE] * 3
        sealed.append(rows_of(job))
    assert sealed[0] == sealed[1]


def test_an_operation_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"engine simd of AEAD cannot do fec\.encode"):
        SimdAead().open(Operation.FEC_ENCODE)


def test_a_variant_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="no variant 'avx3'; there are avx512, vaes"):
        SimdAead("avx3")


@pytest.mark.parametrize("name", ["install", "scrub", *(f"open_{isa}" for isa in ISAS)])
def test_a_part_of_the_module_has_its_functions(name: str) -> None:
    part = aead.text("x86_64", aead.part_of(name))
    assert f"@{name}(" in part
    assert len(part) < len(aead.text("x86_64")) / 2


def test_another_machine_gets_plain_kernels_only() -> None:
    text = aead.text("aarch64")
    assert "@seal_plain(" in text
    assert "llvm.x86" not in text
    assert "target-features" not in text


def test_a_slot_below_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        session().install_key(-1, spec())


def test_keys_are_aligned_and_wiped_with_their_slot() -> None:
    opened = session()
    opened.install_key(1, spec())
    opened.install_key(2, spec())
    records = opened.table.records
    assert records.ctypes.data % 64 == 0
    assert RECORD % 64 == 0
    opened.remove_key(1)
    assert not records[1].any()
    assert records[2].any()
    opened.install_key(2, spec(Suite.CHACHA20_POLY1305))
    assert np.count_nonzero(records[2]) < 100, "an expanded key of AES is still there"
    opened.close()
    assert not records.any()


def test_what_grew_leaves_no_copy() -> None:
    opened = session()
    opened.install_key(0, spec())
    before = opened.table.records
    expanded = before[0].copy()
    opened.install_key(len(before), spec())
    assert not before.any()
    assert np.array_equal(opened.table.records[0], expanded)


def _keep(opened: SimdSession) -> NDArray[np.uint8]:
    opened.install_key(5, spec())
    return opened.table.records


def test_keys_are_wiped_when_nobody_closes() -> None:
    records = _keep(session())
    gc.collect()
    assert not records.any()


def test_the_text_is_the_same_every_time() -> None:
    assert aead.text() == aead.text()


def test_a_running_engine_needs_no_compiler_of_python() -> None:
    script = "import sys, accel.aead.simd; print(*{'numba', 'llvmlite'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
