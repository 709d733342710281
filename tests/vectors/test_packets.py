"""Whole data packets against known answers of aioquic, for every AEAD engine."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from accel.aead.cryptography import CryptographyAead
from accel.aead.simd import SimdAead
from accel.engine import Engine, KeySpec, Operation, Status, Suite
from accel.known_answers import SEALED_PACKETS
from accel.reference.engine import ReferenceEngine
from accel.trials import OpenRow, SealRow, open_job, rows_of, run, seal_job

FOLDER = Path(__file__).parent
DOCUMENT = json.loads((FOLDER / "packets.json").read_text(encoding="utf-8"))
SUITES = list(DOCUMENT["keys"])
KEYS = {
    2 * slot + phase: KeySpec(
        Suite(suite), *(bytes.fromhex(DOCUMENT["keys"][suite][name]) for name in ("key", "iv", "hp"))
    )
    for slot, suite in enumerate(SUITES)
    for phase in range(2)
}
PLAIN = [
    SealRow(2 * SUITES.index(answer["suite"]), answer["number"], bytes.fromhex(answer["packet"]))
    for answer in DOCUMENT["answers"]
]
SEALED = [bytes.fromhex(answer["sealed"]) for answer in DOCUMENT["answers"]]


@pytest.mark.parametrize("engine", [ReferenceEngine(), CryptographyAead(), SimdAead()], ids=lambda engine: engine.name)
class TestPackets:
    def test_seal(self, engine: Engine) -> None:
        session = engine.open(Operation.AEAD_SEAL)
        for slot, spec in KEYS.items():
            session.install_key(slot, spec)
        job = seal_job(PLAIN)
        run(engine, session, job)
        assert set(job.status.tolist()) == {Status.DONE}
        assert rows_of(job) == SEALED

    def test_open(self, engine: Engine) -> None:
        session = engine.open(Operation.AEAD_OPEN)
        for slot, spec in KEYS.items():
            session.install_key(slot, spec)
        job = open_job([OpenRow(row.slot, row.number - 1, data) for row, data in zip(PLAIN, SEALED, strict=True)])
        run(engine, session, job)
        assert set(job.status.tolist()) == {Status.DONE}
        assert job.number.tolist() == [row.number for row in PLAIN]
        assert rows_of(job) == [row.packet for row in PLAIN]


def test_the_self_test_knows_them() -> None:
    stored = {(row.number, row.packet): data for row, data in zip(PLAIN, SEALED, strict=True)}
    assert {answer.keys.suite for answer in SEALED_PACKETS} == set(Suite)
    for answer in SEALED_PACKETS:
        assert answer.sealed in SEALED
        assert (answer.row.number, answer.row.packet) in stored


def test_the_generator_makes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generate_packets.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / "generate_packets.py"), run_name="__main__")
    assert ended.value.code == 0
