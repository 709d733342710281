from __future__ import annotations

import os
from pathlib import Path

from vantun.demo.machine import cpu_seconds, facts


def test_facts_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz: fast\nmodel name\t: other\n")
    (tmp_path / "meminfo").write_text("MemTotal:       2048 kB\nMemFree: 1 kB\n")
    found = facts(tmp_path)
    assert found["cpu"] == "Some CPU @ 2 GHz: fast"
    assert found["memory_bytes"] == 2048 * 1024


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    found = facts(tmp_path)
    assert (found["cpu"], found["memory_bytes"]) == ("", 0)
    assert cpu_seconds(tmp_path) == (0.0, 0.0)


def test_busy_is_all_but_idle(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [ticks * seconds for seconds in (4, 1, 2, 50, 10, 0, 1, 2, 99, 99)]
    (tmp_path / "stat").write_text("cpu  " + " ".join(map(str, fields)) + "\ncpu0 1 2 3\n")
    assert cpu_seconds(tmp_path) == (10.0, 70.0)
