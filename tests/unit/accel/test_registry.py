from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.catalogue import CATALOGUE, Kind, Row
from accel.engine import Engine, Operation, Provenance
from accel.fec.simd import SimdFec
from accel.registry import Choice, Preferences, Registry, choose, probe_all
from accel.sight import Sighting
from drivers.errors import DriverError
from tests.unit.accel import sick
from tests.unit.accel.machine import add_file, add_pci

ROWS = {row.name: row for row in CATALOGUE}
BARE = Path("/nowhere")
"""A machine without the libraries and devices that this one may have."""
ENCODE, DECODE, SEAL, OPEN = Operation


def catalogue(*changed: Row) -> list[Row]:
    """Return the catalogue with some rows replaced."""
    news = {row.name: row for row in changed}
    return [news.get(row.name, row) for row in CATALOGUE]


def served(name: str, make: Callable[[], Engine], kind: Kind, provenance: Provenance = Provenance.CPU) -> Row:
    """Return the row ``name`` as one that is there and has an engine; the engine gets the row's name."""

    def named() -> Engine:
        engine = make()
        engine.name = name
        return engine

    found = Sighting(present=True, seen=("the device",))
    own = "compiled kernels"
    return replace(ROWS[name], look=lambda _: found, make={kind: named}, provenance=provenance, through=own)


SICK_SIMD = replace(ROWS["simd"], make={Kind.FEC: lambda: sick.simd(sick.flip_parity)})
NO_NUMBA = replace(ROWS["simd"], look=lambda _: Sighting(present=False, missing=("Python package numba",)))
SIM_FPGA = served("sim-fpga", SimdFec, Kind.FEC, Provenance.EMULATOR)
ISAL = served("isal", SimdFec, Kind.FEC)


def names(choices: dict[Operation, Choice]) -> list[str]:
    return [choices[operation].engine.name for operation in Operation]


def test_without_instructions_for_aes_the_wheel_encrypts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTUN_CPU", "plain")
    assert names(Registry(BARE).choose(Preferences())) == ["simd", "simd", "cryptography", "cryptography"]
    assert names(Registry(BARE).choose(Preferences(aead="!cryptography"))) == ["simd"] * 4


def test_the_default() -> None:
    chosen = choose(Preferences())
    assert names(chosen) == ["simd"] * 4
    assert not any(choice.degraded for choice in chosen.values())
    assert chosen[ENCODE].engine is chosen[DECODE].engine


@pytest.mark.parametrize(
    ("fec", "aead", "expected", "degraded"),
    [
        ("reference", "reference", ["reference"] * 4, False),
        ("only: reference", "", ["reference", "reference", "simd", "simd"], False),
        ("!simd, !isal", "only: reference", ["reference"] * 4, False),
        ("cuda", "", ["simd"] * 4, True),
        ("?cuda, ?opencl", "?qat", ["simd"] * 4, False),
        ("?cuda, reference", "", ["reference", "reference", "simd", "simd"], False),
        ("reference@128:", "", ["simd"] * 4, False),
        ("reference@1", "", ["reference", "reference", "simd", "simd"], False),
    ],
)
def test_preferences_are_followed(fec: str, aead: str, expected: list[str], degraded: bool) -> None:
    registry = Registry(BARE)
    chosen = registry.choose(Preferences(fec, aead))
    assert names(chosen) == expected
    assert any(choice.degraded for choice in chosen.values()) == degraded


def test_why_an_engine_was_passed_over_is_told() -> None:
    reason = choose(Preferences(aead="qat"), BARE)[SEAL].reason
    assert reason == "first by rank; nothing was measured; passed over: qat: this version of VANTUN has no such engine"


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        (Preferences(fec="smid"), "accel.fec: there is no engine 'smid' for this; did you mean 'simd'?"),
        (Preferences(fec="cryptography"), "accel.fec: there is no engine 'cryptography' for this; there are: "),
        (Preferences(aead="isal"), "accel.aead: there is no engine 'isal' for this"),
        (Preferences(aead="only: qat"), "accel.aead: no engine can do aead.seal (qat: this version of VANTUN has no"),
        (
            Preferences(fec="!simd, !isal, !cuda, !opencl, !reference"),
            "accel.fec: no engine can do fec.encode (every engine is forbidden)",
        ),
    ],
)
def test_what_cannot_be_chosen_is_an_error_and_the_probe_goes_on(preferences: Preferences, message: str) -> None:
    with pytest.raises(DriverError) as caught:
        choose(preferences)
    assert str(caught.value).startswith(message)
    found = Registry().survey(preferences)
    assert found.problems == (str(caught.value),)
    assert found.degraded
    assert len(found.reports) == len(CATALOGUE)
    assert len(found.chosen) == 2


def test_a_sick_engine_never_serves() -> None:
    registry = Registry(BARE, catalogue(SICK_SIMD))
    chosen = registry.choose(Preferences(fec="simd"))
    assert names(chosen)[:2] == ["reference"] * 2
    assert chosen[ENCODE].degraded
    assert "simd: self-test of fec.encode failed" in chosen[ENCODE].reason
    with pytest.raises(DriverError, match=r"self-test of fec\.encode failed"):
        registry.choose(Preferences(fec="only: simd"))


def test_a_missing_library_is_a_value() -> None:
    found = Registry(BARE, catalogue(NO_NUMBA)).survey(Preferences())
    report = found.reports[0]
    assert (report.present, report.usable) == (False, ())
    assert report.reason == "not found: Python package numba"
    assert report.next_step == "it needs the Python package numpy"
    assert found.chosen[ENCODE].engine.name == "reference"
    assert found.degraded


def test_an_engine_that_does_not_load_is_a_value() -> None:
    def broken() -> Engine:
        raise ImportError("libllvm.so is damaged")

    found = Registry(BARE, catalogue(replace(ROWS["simd"], make={Kind.FEC: broken}))).survey(Preferences())
    assert found.reports[0].reason == "it cannot be loaded: ImportError: libllvm.so is damaged"
    assert found.chosen[DECODE].engine.name == "reference"


@pytest.mark.parametrize(
    ("preferences", "serves"),
    [
        (Preferences(), "simd"),
        (Preferences(allow_emulated=True), "simd"),
        (Preferences(fec="!simd, !reference, isal", allow_emulated=True), None),
        (Preferences(fec="sim-fpga"), "simd"),
        (Preferences(fec="sim-fpga", allow_emulated=True), "sim-fpga"),
    ],
)
def test_an_emulator_serves_only_by_name_and_by_leave(preferences: Preferences, serves: str | None) -> None:
    chosen = Registry(BARE, catalogue(SIM_FPGA)).survey(preferences).chosen
    assert (chosen[ENCODE].engine.name if serves else chosen.get(ENCODE)) == serves


def test_an_engine_without_leave_says_what_to_set() -> None:
    registry = Registry(catalogue=catalogue(SIM_FPGA))
    with pytest.raises(DriverError, match=r"sim-fpga: is no real device \(emulator\); set accel\.allow_emulated"):
        registry.choose(Preferences(fec="only: sim-fpga"))


def test_rank_is_the_order_of_the_catalogue() -> None:
    assert Registry(catalogue=catalogue(ISAL)).choose(Preferences(fec="!simd"))[ENCODE].engine.name == "isal"
    assert Registry(catalogue=catalogue(ISAL)).choose(Preferences())[ENCODE].engine.name == "simd"


def test_an_engine_is_made_and_tested_once() -> None:
    made: list[Engine] = []

    def make() -> Engine:
        made.append(CryptographyAead())
        return made[-1]

    registry = Registry(catalogue=catalogue(replace(ROWS["cryptography"], make={Kind.AEAD: make})))
    registry.choose(Preferences())
    registry.survey(Preferences(aead="cryptography"))
    assert len(made) == 1


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        (Preferences(), {"simd": set(Operation)}),
        (Preferences(fec="cuda"), {"cuda": {ENCODE, DECODE}, "simd": {SEAL, OPEN}}),
        (Preferences(fec="cuda@64:, simd"), {"cuda": {ENCODE, DECODE}, "simd": set(Operation)}),
        (Preferences(fec="!cuda"), {"simd": set(Operation)}),
        (Preferences(fec="sim-fpga"), {"simd": set(Operation)}),
        (Preferences(fec="sim-fpga", allow_emulated=True), {"sim-fpga": {ENCODE, DECODE}, "simd": {SEAL, OPEN}}),
        (Preferences(fec="only: isal"), {"simd": {SEAL, OPEN}}),
    ],
)
def test_what_is_planned_is_known_before_anything_is_made(
    preferences: Preferences, expected: dict[str, set[Operation]]
) -> None:
    def unmade() -> Engine:
        raise AssertionError("nobody asked for it")

    rows = [replace(served(name, unmade, Kind.FEC), make={Kind.FEC: unmade}) for name in ("cuda", "sim-fpga")]
    rows[1] = replace(rows[1], provenance=Provenance.EMULATOR)
    assert Registry(BARE, catalogue(*rows)).planned(preferences) == expected


def test_a_row_that_changes_is_looked_for_made_and_tested_anew() -> None:
    registry = Registry(BARE, catalogue(NO_NUMBA))
    assert registry.choose(Preferences())[ENCODE].engine.name == "reference"
    registry.change([ROWS["simd"]])
    assert registry.choose(Preferences())[ENCODE].engine.name == "simd"


def test_every_row_has_a_reason_and_a_next_step(tmp_path: Path) -> None:
    add_file(tmp_path, "usr/lib/libcuda.so.1")
    add_file(tmp_path, "dev/nvidia0")
    add_file(tmp_path, "dev/xdma0_user")
    add_pci(tmp_path, "0000:6b:00.0", 0x8086, 0x4940, 0x0B4000)
    reports = {report.name: report for report in probe_all(Preferences(), tmp_path)}
    assert set(reports) == set(ROWS)
    assert all(report.reason and report.next_step for report in reports.values())
    assert {name for name, report in reports.items() if report.usable} == {"simd", "cryptography", "reference"}
    assert {name for name, report in reports.items() if report.present} >= {"cuda", "qat"}
    assert reports["isal"].reason == "not found: ISA-L (libisal.so.2)"
    assert reports["isal"].next_step == "it needs apt-get install libisal2"
    assert reports["fpga"].reason == "no engine in this version (seen: XDMA character devices: xdma0_user)"
    assert "Python package cupy" in reports["cuda"].reason
    assert "vantun[cuda]" in reports["cuda"].next_step
    assert reports["fpga"].next_step == "a later version brings it"
    assert reports["qat"].missing == ("qatlib (libqat.so.4)", "VFIO groups")
    assert reports["opencl"].reason.startswith("not found: OpenCL driver (ICD) of a device")
    assert "vantun[opencl]" in reports["opencl"].next_step
    assert reports["simd"].selected == (ENCODE, DECODE, SEAL, OPEN)
    assert reports["cryptography"].selected == ()
    assert reports["reference"].selected == ()


POCL = served("pocl", SimdFec, Kind.FEC, Provenance.EMULATOR)


@pytest.mark.parametrize("wanted", ["only: opencl", "opencl", "?opencl@1:"])
def test_an_emulator_stands_in_for_a_device_that_is_named(wanted: str) -> None:
    registry = Registry(BARE, catalogue=catalogue(POCL))
    allowed = registry.choose(Preferences(fec=wanted, allow_emulated=True))
    assert names(allowed)[:2] == ["pocl", "pocl"]
    assert "opencl" in allowed[ENCODE].reason


@pytest.mark.parametrize(
    "preferences",
    [
        Preferences(fec="opencl"),
        Preferences(allow_emulated=True),
        Preferences(fec="?opencl, !pocl", allow_emulated=True),
        Preferences(fec="isal", allow_emulated=True),
    ],
)
def test_no_emulator_comes_by_itself(preferences: Preferences) -> None:
    registry = Registry(BARE, catalogue=catalogue(POCL, ISAL))
    assert "pocl" not in names(registry.choose(preferences))
