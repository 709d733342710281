"""The line laboratory itself: its quick run measures, and whatever ends it leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.line_town import SIDES, Town, remove_leftovers
from benchmarks.report import ROOT
from tests.netns import why_not

_MISSING = [tool for tool in ("ip", "ethtool", "taskset", "iperf3") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a first start on a machine compiles the kernels
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
]


def namespaces() -> list[str]:
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in shown.splitlines() if line.strip()]


@contextmanager
def start(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a run that goes on until it is ended, here at the latest."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "benchmarks.line", "--quick", "--seconds", "1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def wait_begun(program: subprocess.Popen[str]) -> None:
    """Read its output until the first subject is up."""
    assert program.stdout is not None
    for line in program.stdout:
        if "direct: up" in line:
            return
    raise AssertionError(f"it has ended with {program.wait()}: {program.communicate()[1]}")


def mine(program: subprocess.Popen[str]) -> list[str]:
    return [name for name in namespaces() if name.startswith(f"vtline{program.pid}")]


def test_the_quick_run_measures_and_leaves_nothing() -> None:
    with start("--only", "direct,vantun") as program:
        output, errors = program.communicate(timeout=500)
    assert program.returncode == 0, f"{output}{errors}"
    rates = dict(re.findall(r"^(direct|vantun) +(?:up|down) +([0-9.]+) Mbit/s", output, re.MULTILINE))
    assert set(rates) == {"direct", "vantun"}
    assert all(float(rate) > 0 for rate in rates.values())
    for stage in ("open", "seal", "schedule"):
        assert re.search(rf"^ +{stage} +[0-9]+ ", output, re.MULTILINE), output
    assert "vantun has" in output
    assert not mine(program)


def test_a_whole_round_without_a_tunnel(tmp_path: Path) -> None:
    words = ["--only", "direct", "--seconds", "0.5", "--rounds", "1", "--json", str(tmp_path / "line.json")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.line", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    found = json.loads((tmp_path / "line.json").read_text(encoding="utf-8"))
    assert found["problems"] == []
    [values] = [each["direct"] for each in found["rounds"]]
    kinds = {name.rpartition("_")[0] for name in values}
    assert {"tcp1_up", "tcp8_down", "udp64", "udpimix", "udp1400", "rtt_idle_p50", "rtt_load_p99"} <= kinds
    assert all(value > 0 for name, value in values.items() if not name.endswith(("cpu", "again")))
    assert {demand["verdict"] for demand in found["demands"]} == {"not measured"}
    assert (tmp_path / "line.md").read_text(encoding="utf-8").startswith("# Line rate")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(how: signal.Signals) -> None:
    with start("--only", "direct", "--rounds", "100") as program:
        wait_begun(program)
        assert len(mine(program)) == len(SIDES)
        program.send_signal(how)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "everything was removed" in errors
    assert not mine(program)


def test_the_next_run_removes_what_a_killed_one_has_left() -> None:
    with start("--only", "direct", "--rounds", "100") as program:
        wait_begun(program)
        program.kill()
        program.communicate()
    left = mine(program)
    assert len(left) == len(SIDES)
    assert set(left) <= set(remove_leftovers())
    assert not mine(program)


def test_links_have_the_profile_that_is_asked_for(tmp_path: Path) -> None:
    with Town(tmp_path, links=2, profile="software") as town:
        for link in range(2):
            for side in SIDES:
                shown = town.run(side, "ethtool", "-k", town.device(side, link))
                assert "tx-udp-segmentation: off" in shown
                assert "tcp-segmentation-offload: on" in shown
        town.set_profile("offload")
        assert "tx-udp-segmentation: on" in town.run("a", "ethtool", "-k", town.device("a"))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_ten_minutes_at_full_rate(tmp_path: Path) -> None:
    words = ["--soak", "600", "--json", str(tmp_path / "soak.json")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.line", *words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))["failed"] == []
