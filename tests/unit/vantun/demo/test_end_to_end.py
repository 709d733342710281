"""The demo itself, small: real processes, real sockets, real losses. Figures are not judged, only that all is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vantun.demo.origin import OriginProcess
from vantun.demo.report import problems
from vantun.demo.run import Demo
from vantun.demo.scene import PHASES, Settings

# The first start on a machine compiles the kernels.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_phase_arrives_intact_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "vantun", "demo", "--json", "--size", "2 MB", "--seed", "3"]
    # not pytest's own folder: its name is so long that no Unix socket could be bound below it
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert list(Path(folder).iterdir()) == []
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert [phase["name"] for phase in found["phases"]] == [phase.name for phase in PHASES]
    for phase, recovers in zip(found["phases"], (False, True, True), strict=True):
        assert phase["download"]["sha256"] == phase["download"]["expected_sha256"]
        assert phase["upload"]["bytes"] == 1_000_000
        assert phase["requests"]["count"] > 0
        assert phase["shards"]["lost"] > 0
        assert recovers or phase["shards"]["recovered"] == phase["shards"]["parity"] == 0
        assert phase["overhead"] > 1.0
        assert phase["engines"]
        assert isinstance(phase["valid"], bool)
    assert found["phases"][1]["shards"]["recovered"] > 0
    assert found["phases"][2]["failover"]["download_s"] >= 0


class TamperingOrigin(OriginProcess):
    """Expects other bytes than it serves: as if one had been changed on the way."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size, seed)
        self.digest = OriginProcess.__name__


def test_a_changed_byte_is_noticed_at_the_end_of_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.demo.run.OriginProcess", TamperingOrigin)
    demo = Demo(Settings(down=1_000_000, up=100_000, phases=PHASES[1:2]))
    for _ in demo.play():
        pass
    assert problems(demo.phases) == ["FEC on: the download arrived with other bytes than were sent (SHA-256 differs)"]
