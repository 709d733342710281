from __future__ import annotations

import subprocess
import sys

import pytest

from accel.engine import Operation, SpanJob
from accel.fec.simd import ISAS, SimdFec, choose_isa
from accel.ir import fec_plain, fec_vector
from accel.trials import SpanRow, copy_job, span_job
from drivers.cpu import Cpu, read_cpu

EVERYTHING = frozenset().union(*ISAS.values())


def job() -> SpanJob:
    return span_job([SpanRow((b"one unit", b"two unit"), 0, (0, 1))])


@pytest.mark.parametrize(
    ("mask", "isa"),
    [("", "gfni512"), ("avx512", "gfni256"), ("gfni", "avx512"), ("avx512bw,gfni", "avx2"), ("avx", "plain"),
     ("bmi2", "plain"), ("plain", "plain")],
)  # fmt: skip
def test_the_best_variant_for_a_processor_is_chosen(mask: str, isa: str) -> None:
    hidden = [word for word in mask.split(",") if word]
    flags = frozenset(flag for flag in EVERYTHING if not any(flag.startswith(word) for word in hidden))
    assert choose_isa(Cpu("x86_64", "", "", frozenset() if mask == "plain" else flags)) == isa


def test_another_machine_has_the_plain_kernel() -> None:
    assert choose_isa(Cpu("aarch64", "", "", frozenset({"asimd", "sve"}))) == "plain"


@pytest.mark.parametrize("mask", ["avx512,gfni", "plain"])
def test_the_environment_masks_what_the_processor_has(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_CPU", mask)
    expected = choose_isa(read_cpu(mask=mask))
    assert expected in ("avx2", "plain")
    session = SimdFec().open(Operation.FEC_ENCODE)
    assert session.isa == expected  # type: ignore[attr-defined]
    monkeypatch.delenv("VANTUN_CPU")
    assert SimdFec().open(Operation.FEC_ENCODE).isa == choose_isa(read_cpu(mask=""))  # type: ignore[attr-defined]


def test_a_variant_can_be_forced() -> None:
    engine = SimdFec("plain")
    session = engine.open(Operation.FEC_DECODE)
    assert session.isa == "plain"  # type: ignore[attr-defined]


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="no variant 'neon'; there are gfni512, gfni256, avx512, avx2, plain"):
        SimdFec("neon")


def test_variants_are_those_of_the_kernels() -> None:
    assert {*ISAS} == {variant.name for variant in fec_vector.VARIANTS} | {fec_plain.NAME}
    for variant in fec_vector.VARIANTS:
        assert set(variant.features.replace("+", "").split(",")) == ISAS[variant.name]


def test_the_same_job_may_be_submitted_again() -> None:
    engine, again = SimdFec(), job()
    session = engine.open(Operation.FEC_ENCODE)
    expected = copy_job(again)
    engine.submit(session, expected)
    for fill in (1, 2):
        again.memory[again.parity[0] : again.parity[0] + 8] = fill
        again.status[:] = 0
        engine.submit(session, again)
        assert bytes(again.memory) == bytes(expected.memory)
        assert again.status.tolist() == [1]


def test_numba_is_not_needed() -> None:
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "from accel.engine import Operation\nfrom accel.fec.simd import SimdFec\n"
        "SimdFec().open(Operation.FEC_ENCODE); print(sys.modules['numba'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
