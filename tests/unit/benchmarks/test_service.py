from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import service
from benchmarks.gpu_work import DECODE


def test_the_overhead_of_a_service_without_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "service.json"
    few = [work for work in service.WORKS if work.operation is not DECODE]  # each takes processes of its own
    monkeypatch.setattr(service, "WORKS", few)
    assert service.main(["--batches", "3", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert "without a device" in told["what"]
    assert {(each["work"], each["behind"], each["service"]) for each in told["figures"]} == {
        *((work.name, kind, way) for work in few for kind in ("engine", "device") for way in (True, False)),
        *((work.name, "pinned", True) for work in few),
    }
    assert all(0 < each["least_us"] <= each["p50_us"] <= each["p99_us"] for each in told["figures"])
