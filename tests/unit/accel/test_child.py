from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from accel import child
from accel.catalogue import Kind
from accel.child import try_in_child
from accel.engine import Operation
from accel.profile import Finding, Profile, load_profile
from accel.registry import Preferences, Registry
from accel.selftest import Verdict
from tests.unit.accel import test_registry as lists
from tests.unit.accel.test_registry import SEAL, catalogue

ENCODE, DECODE = Operation.FEC_ENCODE, Operation.FEC_DECODE
ISAL = replace(lists.ISAL, through="ctypes")
SCRIPT = """
import json, os, signal, sys, time
print("a library says hello")
for trial in sys.argv[1:]:
    name = trial.split("=")[0]
    if name == "abort":
        os.abort()
    if name == "exit":
        sys.exit(7)
    if name == "hang":
        time.sleep(1000)
    print(json.dumps({"trial": trial, "passed": name == "good", "reason": name}), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "child.py"
    file.write_text(SCRIPT)
    monkeypatch.setattr(child, "command", lambda *told, **_: [sys.executable, "-I", "-S", str(file), *told[3:]])


@pytest.mark.usefixtures("script")
def test_whoever_dies_does_not_take_the_others_along() -> None:
    trials = [(name, ENCODE) for name in ("good", "abort", "bad", "exit", "hang", "good2")]
    found = {name: tested for (name, _), tested in try_in_child(trials, limit=1.0).items()}
    assert found == {
        "good": Finding(passed=True, reason="good"),
        "abort": Finding(passed=False, reason="it killed the child process that tried it (SIGABRT)"),
        "bad": Finding(passed=False, reason="bad"),
        "exit": Finding(passed=False, reason="it ended the child process that tried it (status 7)"),
        "hang": Finding(passed=False, reason="it did not finish within 1 s in a child process"),
        "good2": Finding(passed=False, reason="good2"),
    }


@pytest.mark.slow
def test_the_real_child() -> None:
    found = try_in_child([("reference", ENCODE), ("cryptography", SEAL), ("nobody", ENCODE)])
    assert found["reference", ENCODE].passed
    assert found["cryptography", SEAL].passed
    assert not found["nobody", ENCODE].passed


def test_a_foreign_library_is_tried_outside_first() -> None:
    asked: list[object] = []

    def attempt(trials: object, plugins: object, limit: float) -> dict[tuple[str, Operation], Finding]:
        asked.append((trials, plugins))
        return {
            ("isal", operation): Finding(passed=False, reason="it killed the child") for operation in (ENCODE, DECODE)
        }

    made: list[Kind] = []
    registry = Registry(Path("/nowhere"), catalogue(ISAL), attempt=attempt)
    chosen = registry.choose(Preferences(fec="isal"))
    assert chosen[ENCODE].engine.name == "simd"
    assert "passed over: isal: it killed the child" in chosen[ENCODE].reason
    assert asked == [([("isal", ENCODE), ("isal", DECODE)], ())]
    assert made == []


def test_what_is_known_is_not_tried_again() -> None:
    def attempt(trials: object, plugins: object, limit: float) -> dict[tuple[str, Operation], Finding]:
        raise AssertionError("it was tried before")

    known = {"isal": {operation.value: Finding(passed=True, reason="fine") for operation in (ENCODE, DECODE)}}
    registry = Registry(Path("/nowhere"), catalogue(ISAL), Profile({}, 0.0, (), known), attempt=attempt)
    assert registry.glance("isal", ENCODE) == Verdict(passed=True, reason="fine")
    assert registry.choose(Preferences(fec="isal"))[ENCODE].engine.name == "isal"
    assert registry.verdict("isal", ENCODE).reason.startswith("self-test passed (")


@pytest.mark.slow
def test_a_child_measures_everything_and_writes_it_down(tmp_path: Path) -> None:
    import subprocess
    import time

    from accel.fingerprint import fingerprint

    file = tmp_path / "state" / "engines.json"
    line = child.command("calibrate", "--budget", "0.1", str(file))
    subprocess.run(line, check=True, env=child.environment(), timeout=120)
    profile = load_profile(file, fingerprint(), time.time())
    assert isinstance(profile, Profile)
    assert {cell.operation for cell in profile.cells} == {operation.value for operation in Operation}
    assert profile.tested["simd"]["fec.encode"].passed
    registry = Registry(profile=profile)
    chosen = registry.survey(Preferences()).chosen
    assert all("measured" in choice.reason for choice in chosen.values())
