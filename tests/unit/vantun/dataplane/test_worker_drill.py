"""Two worker processes whose encryption is a device, a plug-in's, that fails while megabytes travel."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.vantun.dataplane.worker_pair import WorkerPair, receive, send
from vantun.config_accel import AccelConfig

pytestmark = pytest.mark.slow

SIZE = 2_000_000
DRILL = """
import os
from accel.aead.cryptography import CryptographyAead
from accel.catalogue import Kind
from accel.engine import Maturity, Provenance
from accel.sight import Sighting
from accel.unreliable import Mood, UnreliableEngine


class Device(UnreliableEngine):
    def submit(self, session, job):
        if self.mood is Mood.WELL and os.path.exists(os.environ["DRILL"]):
            with open(os.environ["DRILL"]) as told:
                self.mood = Mood(told.read())
        return super().submit(session, job)


class Factory:
    api, kinds, needs = 1, (Kind.AEAD,), "a drill"
    provenance, maturity = Provenance.FAKE, Maturity.UNTESTED

    def probe(self, sysroot):
        return Sighting(present=True, seen=("a fake",))

    def make(self, kind):
        return Device(CryptographyAead())
"""


@pytest.fixture
def accel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AccelConfig:
    """Install the drill where workers find it, and nobody else; return the configuration that wants it."""
    (tmp_path / "drill.py").write_text(DRILL)
    info = tmp_path / "drill-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: drill\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vantun.accel.engines]\ndrill = drill:Factory\n")
    found = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in found if part))
    return AccelConfig(aead="drill", plugins=("drill",), allow_emulated=True, calibration="off")


@pytest.mark.parametrize("mood", ["hanging", "dying", "denying"])
def test_a_device_fails_in_a_worker(
    mood: str, accel: AccelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRILL", str(tmp_path / "mood"))

    async def scenario() -> None:
        pair = await WorkerPair.start(accel=accel)
        try:
            assert pair.client.engines["aead.seal"] == "drill"
            program, target = await pair.stream()
            first, second = (np.random.default_rng(seed).bytes(SIZE) for seed in (1, 2))
            for data in (first, second):
                sends = send(program, data), send(target, data)
                up, down, *_ = await asyncio.gather(receive(target, SIZE), receive(program, SIZE), *sends)
                assert (up, down) == (data, data)
                (tmp_path / "new").write_text(mood)
                (tmp_path / "new").rename(tmp_path / "mood")
            reports = [await link.snapshot() for link in (pair.client, pair.server)]
            program.close()
            target.close()
        finally:
            await pair.close()
        watch = [each for report in reports for each in report["engine_watch"]]  # type: ignore[attr-defined]
        assert sum(each["lost"] for each in watch) == 0
        hurt = [each for each in watch if each["operation"] in ("aead.seal", "aead.open")]
        assert all(each["fallback"] and each["redone"] for each in hurt)
        assert all("instead of drill" in str(report["fallbacks"]) for report in reports)

    asyncio.run(scenario())


def test_a_new_worker_knows_who_was_wrong(accel: AccelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody clears it: then it is tested, and is suspect first."""
    monkeypatch.setenv("DRILL", str(tmp_path / "mood"))

    def device(snapshot: dict[str, Any]) -> dict[str, Any]:
        rungs = next(each for each in snapshot["engine_watch"] if each["operation"] == "aead.seal")["rungs"]
        found: dict[str, Any] = next(rung for rung in rungs if rung["engine"] == "drill")
        return found

    async def scenario() -> None:
        pair = await WorkerPair.start(accel=accel)
        try:
            program, target = await pair.stream()
            (tmp_path / "mood").write_text("denying")
            for _ in range(100):  # on a busy machine it may miss a deadline first, and rest for a while
                await asyncio.gather(send(program, bytes(SIZE)), receive(target, SIZE))
                if device(await pair.client.snapshot())["until_cleared"]:
                    break
                await asyncio.sleep(0.1)
            assert device(await pair.client.snapshot())["until_cleared"]
            (tmp_path / "mood").unlink()
            os.kill(pair.client.pid, signal.SIGKILL)
            await pair.client_heard.until(lambda: bool(pair.client_heard.lost))
            await pair.client.replace()
            again = device(await pair.client.snapshot())
            assert (again["state"], again["until_cleared"]) == ("quarantined", True)
            pair.client.retune(clear=True)
            assert device(await pair.client.snapshot())["state"] == "suspect"
            program.close()
            target.close()
        finally:
            await pair.close()

    asyncio.run(scenario())
