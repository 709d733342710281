"""What is said of data workers on machines of several shapes."""

from __future__ import annotations

from pathlib import Path

from drivers.linux.affinity import System
from vantun.config_life import LifeConfig
from vantun.doctor.finding import Level
from vantun.doctor.workers import data_workers


def machine(root: Path, cores: int = 8, files: dict[str, str] | None = None) -> System:
    """Return a machine of two nodes, each with half of the cores."""
    half = cores // 2
    tree = {
        "sys/devices/system/node/online": "0-1",
        "sys/devices/system/node/node0/cpulist": f"0-{half - 1}",
        "sys/devices/system/node/node1/cpulist": f"{half}-{cores - 1}",
        **(files or {}),
    }
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="ascii")
    return System(root, lambda: range(cores))


def test_auto_says_why_that_many_and_where(tmp_path: Path) -> None:
    count, place, steering = data_workers(LifeConfig(), machine(tmp_path), "", "")
    assert {count.level, place.level, steering.level} == {Level.OK}
    assert count.text == "4: auto, one for every two of 8 cores (8 usable processors)"
    assert place.text.startswith("0 on processor 0 (node 0), 1 on processor 1 (node 0), ")
    assert "takes the program" in steering.text


def test_workers_in_several_nodes_and_too_many_of_them(tmp_path: Path) -> None:
    _, place, _ = data_workers(LifeConfig(workers=8), machine(tmp_path), "", "")
    assert place.text.endswith("7 on processor 7 (node 1); 2 NUMA nodes")
    count, place, _ = data_workers(LifeConfig(workers=9), machine(tmp_path), "", "")
    assert (count.level, count.fix) == (Level.NOTE, "workers: 8, or auto")
    assert "more workers (9) than processors (8)" in place.text


def test_workers_come_near_the_card_of_the_paths(tmp_path: Path) -> None:
    files = {"sys/class/net/ens1/device/numa_node": "1"}
    _, place, _ = data_workers(LifeConfig(workers=2), machine(tmp_path, files=files), "", "", "ens1")
    assert place.text == "0 on processor 4 (node 1), 1 on processor 5 (node 1); near ens1"
    _, place, _ = data_workers(LifeConfig(workers=2), machine(tmp_path), "", "", "wg0")
    assert place.text == "0 on processor 0 (node 0), 1 on processor 1 (node 0)"


def test_a_sibling_of_a_busy_core_is_named(tmp_path: Path) -> None:
    siblings = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": "0-1" for n in (0, 1)}
    count, place, _ = data_workers(LifeConfig(workers=2), machine(tmp_path, 2, siblings), "", "")
    assert (count.level, place.level) == (Level.NOTE, Level.NOTE)
    assert "1: a sibling of another worker's core" in place.text


def test_a_quota_is_named(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}
    count, place, _ = data_workers(LifeConfig(), machine(tmp_path, files=files), "", "")
    assert count.text.endswith("2 cores (8 usable processors, of which the control group grants 2.5)")
    assert place.text == "wherever the kernel likes (workers.pin)"


def test_without_steering_they_hand_over_and_without_sharing_there_is_one(tmp_path: Path) -> None:
    lacks = "the kernel does not take the steering program: Operation not permitted"
    count, _, steering = data_workers(LifeConfig(workers=4), machine(tmp_path), lacks, "")
    assert (count.level, steering.level) == (Level.OK, Level.WARNING)
    assert f"{lacks}: workers hand over" in steering.text
    count, _, steering = data_workers(LifeConfig(workers=1), machine(tmp_path), lacks, "")
    assert (count.level, steering.level, steering.text) == (Level.OK, Level.NOTE, lacks)
    alone = "the kernel has no SO_REUSEPORT: Protocol not available"
    count, _, _ = data_workers(LifeConfig(workers=4), machine(tmp_path), "", alone)
    assert count.level is Level.WARNING
    assert alone in count.text
