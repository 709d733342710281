"""The tables of all machines: which results count, and that what is published is made of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import line, line_machines
from benchmarks.report import RESULTS


def _result(commit: str, date: str, verdict: str = "reached", cases: int = 2) -> dict[str, Any]:
    demand = {"text": "iperf3 TCP through TUN, FEC off, vs others", "target": 2.0, "unit": "x", "verdict": verdict}
    idle = {"text": "idle RTT added, default, as a share", "target": 1.0, "unit": "x", "verdict": "missed"}
    memory = {"text": "memory of a started server", "target": 72.0, "unit": "MB", "verdict": "reached"}
    return {
        "commit": commit,
        "date": date,
        "medians": {"vantun": {"tcp1_up_mbit": 6789.0, "tcp1_down_mbit": 5432.0}},
        "demands": [
            {**demand, "cases": [{"median": 2.5}, {"median": 11.4}][:cases]},
            {**idle, "cases": [{"median": 1.25}]},
            {**memory, "cases": [{"median": 65.04}]},
        ],
    }


def _write(folder: Path, name: str, document: dict[str, Any]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def test_the_newest_full_result_of_each_machine_counts(tmp_path: Path) -> None:
    _write(tmp_path, "line-amd-zen4-2core-vm-2026-11-30-2", _result("old", "2026-11-30T01"))
    _write(tmp_path, "line-amd-zen4-2core-vm-2026-11-30", _result("new", "2026-11-30T02"))
    _write(tmp_path, "line-amd-zen4-2core-vm-2026-12-01", _result("part", "2026-12-01T00", cases=0))
    _write(tmp_path, "line-soak-amd-zen4-2core-vm-2026-12-01", {"date": "2026-12-01T00"})
    _write(tmp_path, "line-intel-xeon-amx-8core-host-2026-12-02", _result("other", "2026-12-02T00"))
    assert [(it.name, it.document["commit"]) for it in line_machines.newest(tmp_path)] == [
        ("intel-xeon-amx-8core-host", "other"),
        ("amd-zen4-2core-vm", "new"),
    ]


def test_what_is_reached_is_bold(tmp_path: Path) -> None:
    _write(tmp_path, "line-amd-zen4-2core-vm-2026-11-30", _result("abc", "2026-11-30T02"))
    text = line_machines.table(line_machines.newest(tmp_path))
    assert "| | demanded | amd-zen4-2core, abc |" in text
    assert "| one TCP stream, Gbit/s | - | 6.8 / 5.4 |" in text
    assert "| one TCP stream, against wireguard-go (2026) | 2.00x | **2.50x / 11x** |" in text
    assert "| idle round trip added, default | <= 1.00x | 1.25x |" in text
    assert "| memory of a started server with one worker | <= 72.0 MB | **65.0 MB** |" in text
    assert "`line-amd-zen4-2core-vm-2026-11-30.json`." in text
    assert "against Hysteria 2" not in text, "a demand that no result has"
    assert "memory" not in line_machines.table(line_machines.newest(tmp_path), short=True)


def test_a_machine_without_perf_counts_all_the_same(tmp_path: Path) -> None:
    text = "Python's share of a worker's busy time at full rate, the end with more of it"
    python = {"text": text, "target": 5.0, "unit": "%", "verdict": "not measured", "cases": []}
    document = _result("abc", "2026-11-30T02")
    document["demands"].append(python)
    _write(tmp_path, "line-amd-zen4-2core-vm-2026-11-30", document)
    row = f"| {text.partition(',')[0]} | <= 5.0 % | - |"
    assert row in line_machines.table(line_machines.newest(tmp_path))


@pytest.mark.parametrize(("page", "short"), [(line.PAGE, False), (line.README, True)])
def test_what_is_published_is_made_of_the_results(page: Path, short: bool, tmp_path: Path) -> None:
    for name in set(re.findall(r"line-[a-z0-9-]+\.json", line.PAGE.read_text(encoding="utf-8"))):
        shutil.copy(RESULTS / name, tmp_path)  # others may be somebody's own, which he does not want to publish
    made = line_machines.table(line_machines.newest(tmp_path), short=short)
    assert made in page.read_text(encoding="utf-8"), "./dev bench line --docs puts it in anew"
