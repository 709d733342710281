"""The program as a whole, with budgets of nothing; and that a wrong opponent is no opponent."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.bench.contest import Effort
from accel.bench.work import lose, rows_of
from accel.engine import Operation, Suite
from benchmarks import engines, engines_aead, engines_cost, engines_crc, engines_fec, engines_python
from benchmarks.engines_field import Field, Pass, WrongError, engine_pass, in_turn
from benchmarks.engines_rows import Row

TINY = Effort(budget_s=1e-6, sample_s=1e-6)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["fek"], "no area 'fek'"), (["--isal", "/no/such.so"], "no file /no/such.so"), (["--seconds", "0"], "positive")],
)
def test_bad_options(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engines.options_of(arguments)
    assert told in capsys.readouterr().err


def test_all_areas_by_default() -> None:
    assert engines.options_of([]).areas == ["fec", "aead", "crc", "cost"]
    assert engines.options_of(["cost", "fec"]).areas == ["fec", "cost"]


def test_it_writes_json_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_cost, "measure", lambda _: [Row("registry", "x", reason="not here")])
    assert not engines.main(["cost", "--json", str(tmp_path / "new" / "found.json")])
    found = json.loads((tmp_path / "new" / "found.json").read_text(encoding="utf-8"))
    assert {"commit", "cpu", "kernel", "libraries", "cpu_flags", "provenance"} <= set(found)
    assert [each["verdict"] for each in found["requirements"]] == ["", "", ""]
    assert "not measured" not in json.dumps(found["requirements"][0])
    assert (tmp_path / "new" / "found.md").read_text(encoding="utf-8").startswith("# Engines")


def test_who_is_missing_is_a_reason() -> None:
    there = Field(10)
    there.add("a", lambda: int)
    there.add("b", lambda: engines_fec.theirs("give a path", "", Operation.FEC_ENCODE, [], b""))
    found = there.compete(TINY)
    assert found.row(Row("decode", "x", engine="a", against="b")).reason == "give a path"
    assert found.row(Row("decode", "x", engine="c", against="a")).reason == "c did not take part"
    assert found.fastest("b", "b") == "b"
    assert found.fastest("", "b") == "a"
    assert Field(1).compete(TINY).outcome.ns == {}


def test_a_wrong_result_is_no_speed() -> None:
    job, expected = engines_fec.encoded((3, 2), 2)
    with pytest.raises(WrongError, match="different bytes"):
        engines_fec._checked([job], int, Operation.FEC_ENCODE, expected)
    packets = engines_aead.jobs_for(Suite.AES_128_GCM, 2, 200)["seal"]
    sealed = rows_of(packets, 200)
    with pytest.raises(WrongError, match="status"):
        engine_pass(CryptographyAead(), Operation.AEAD_SEAL, [packets])
    with pytest.raises(WrongError, match="different bytes"):
        engines_aead._checked(int, packets, sealed)


def test_a_wrong_result_is_told_and_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> Pass:
        raise WrongError("other bytes")

    there = Field(1)
    there.add("a", wrong)
    row = there.compete(TINY).row(Row("registry", "x", target=1.0, engine="a", against="b"))
    assert row.reason == "wrong result: other bytes"
    monkeypatch.setattr(engines_cost, "measure", lambda _: [row])
    assert engines.main(["cost", "--json", str(tmp_path / "found.json")]) == 1


def test_what_the_cpu_lacks_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_CPU", "avx2,aes")
    with pytest.raises(ValueError, match="the variant avx2 needs avx2, which this CPU does not have"):
        engines_fec.variant("avx2")
    with pytest.raises(ValueError, match=r"the variant vaes needs .*aes"):
        engines_aead.simd("vaes")
    engines_fec.variant("plain")


def test_passes_take_turns() -> None:
    calls: list[str] = []
    run = in_turn([lambda: calls.append("a"), lambda: calls.append("b")])
    for _ in range(3):
        run()
    assert calls == ["a", "b", "a"]


@pytest.mark.parametrize("reads", [False, True])
def test_sums_of_rows(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = engines_crc.Case("a", size=700, count=5, reads=reads)
    row = engines_crc.case_row(case, TINY)
    assert row.reason or {engines_crc.NEW, engines_crc.OLD} <= set(row.rates)
    assert reads == (engines_crc.NEITHER in row.rates) or row.reason
    monkeypatch.setattr(engines_crc, "crc32c", lambda *_: 0)
    with engines_crc._rows(case) as (memory, file), pytest.raises(WrongError, match="by tables"):
        engines_crc._pass("tables", case, memory, file)
    monkeypatch.setenv("VANTUN_CPU", "vpclmulqdq")
    # Others may be missing, too: a processor may have AVX2 and this, but no AVX-512.
    assert re.search(r"the form folding needs .*\bvpclmulqdq\b", engines_crc.case_row(case, TINY).reason)


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler: apt-get install gcc")


@needs_compiler
@pytest.mark.parametrize("operation", [Operation.FEC_ENCODE, Operation.FEC_DECODE], ids=lambda each: each.value)
def test_the_isal_baseline_does_the_same_work(operation: Operation) -> None:
    libraries = engines_fec.find_libraries(None)
    if isinstance(libraries.system, str):
        pytest.skip(libraries.system)
    found = engines_fec.contest((5, 3), 3, operation, libraries, TINY)
    assert {"simd", "isal-system", "memcpy"} <= set(found.outcome.ns)
    assert "--isal PATH" in found.field.reasons["isal-2.32"]


@needs_compiler
@pytest.mark.parametrize("suite", Suite)
def test_the_aead_baselines_do_the_same_work(suite: Suite) -> None:
    """Each was compared with the wheel byte by byte, and had to refuse a damaged packet."""
    for job in engines_aead.jobs_for(suite, 9, 210).values():
        found = engines_aead.contest(suite, job, TINY, masked=False)
        assert "cryptography" in found.outcome.ns
        for name, reason in found.field.reasons.items():
            assert name in ("simd", "ipsec-mb", "openssl"), reason
            assert reason


@pytest.mark.parametrize("what", ["encode", "decode"])
def test_what_python_users_have(what: str) -> None:
    job, _ = engines_fec.encoded((4, 2), 2)
    job = lose(job, 1)
    there = Field(1)
    there.add("pyeclib", lambda: engines_python.pyeclib(job, what, "isa_l_rs_vand"))
    there.add("zfec", lambda: engines_python.zfec(job, what))
    if not there.contestants:
        assert "pip install 'vantun[bench]'" in there.reasons["zfec"]
    for each in there.contestants:
        each.run()
