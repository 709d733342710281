from __future__ import annotations

import time
from pathlib import Path

import pytest

from accel.engine import KeySpec, Operation, SealJob, Status, Suite
from accel.fingerprint import fingerprint
from accel.profile import Cell, Finding, Profile, save_profile
from accel.trials import SealRow, packet, seal_job
from vantun.config_accel import AccelConfig
from vantun.dataplane.worker_engines import EngineRoom, close_engines

SPEC = KeySpec(Suite.AES_128_GCM, bytes(16), bytes(12), bytes(16))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "vantun" / "engines.json"


def measured(file: Path, **wall: float) -> None:
    """Write down what engines took for a packet, sealed or opened, in every shape."""
    cells = [
        Cell(name, operation, f"{size} B", size, batch, batch * ns, batch * ns, batch * ns, batch * size)
        for name, ns in wall.items()
        for operation in ("aead.seal", "aead.open")
        for size in (64, 576, 1350)
        for batch in (1, 64)
    ]
    tested = {name: {"aead.seal": Finding(passed=True, reason="fine")} for name in wall}
    save_profile(file, Profile(fingerprint(), time.time(), tuple(cells), tested))


def job() -> SealJob:
    return seal_job([SealRow(0, number, packet(number, 0, bytes(50))) for number in range(20)])


def test_engines_change_while_packets_flow(file: Path) -> None:
    room = EngineRoom(AccelConfig())
    engines = room.open()
    first = engines.seal.engine.name
    for slot in (0, 1):
        engines.seal.session.install_key(slot, SPEC)
    before = job()
    engines.seal.run(before)
    other = {"simd": "cryptography", "cryptography": "simd"}[first]
    measured(file, **{first: 1000.0, other: 10.0})
    room.retune(engines, clear=False)
    assert room.problem == ""
    assert room.names()["aead.seal"] == other
    assert engines.seal.engine.name == other
    after = job()
    engines.seal.run(after)
    assert (after.status == Status.DONE).all()
    assert (after.target == before.target).all()  # the same keys, the same numbers, the same packets
    assert engines.encode.engine.name == room.names()["fec.encode"]
    close_engines(engines)


def test_a_profile_that_holds_counts_from_the_start(file: Path) -> None:
    measured(file, cryptography=10.0, simd=1000.0)
    assert EngineRoom(AccelConfig()).names()["aead.seal"] == "cryptography"
    assert EngineRoom(AccelConfig(aead="simd")).names()["aead.seal"] == "simd"
    assert EngineRoom(AccelConfig(calibration="off")).chosen[Operation.AEAD_SEAL].reason.startswith("first by rank")


def test_a_damaged_profile_is_none(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert EngineRoom(AccelConfig()).chosen[Operation.AEAD_SEAL].reason.startswith("first by rank")
