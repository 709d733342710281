from __future__ import annotations

import json
from pathlib import Path

from benchmarks import service


def test_the_overhead_of_a_service_without_a_device(tmp_path: Path) -> None:
    file = tmp_path / "service.json"
    assert service.main(["--batches", "3", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert "without a device" in told["what"]
    assert {(each["work"], each["behind"], each["service"]) for each in told["figures"]} == {
        *((work.name, kind, way) for work in service.WORKS for kind in ("engine", "device") for way in (True, False)),
        ("encode (10,4)", "pinned", True),
    }
    assert all(0 < each["least_us"] <= each["p50_us"] <= each["p99_us"] for each in told["figures"])
