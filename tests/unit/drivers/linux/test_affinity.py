"""Where workers run: machines of several shapes as trees of files, and this one."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from drivers.linux import affinity
from drivers.linux.affinity import ANYWHERE, Place, System, core_of, node_of_interface, nodes, parse_list, pin, quota


def machine(root: Path, files: dict[str, str], usable: Collection[int] = range(4)) -> System:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return System(root, lambda: usable)


def two_sockets(root: Path, usable: Collection[int] = range(16)) -> System:
    """Two sockets x four cores x two threads: 0-3 and 4-7 are cores, 8-15 their siblings; a card at the second."""
    files = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 8},{cpu % 8 + 8}"
        for cpu in range(16)
    }
    files |= {
        "sys/devices/system/node/online": "0-1",
        "sys/devices/system/node/node0/cpulist": "0-3,8-11",
        "sys/devices/system/node/node1/cpulist": "4-7,12-15",
        "sys/class/net/far/device/numa_node": "1",
        "sys/class/net/virtual/device/numa_node": "-1",
    }
    return machine(root, files, usable)


def cpus(places: list[Place]) -> list[int]:
    return [place.cpu for place in places]


def test_cores_come_before_siblings(tmp_path: Path) -> None:
    system = two_sockets(tmp_path)
    assert core_of(3, system) == core_of(11, system) == (3, 11)
    places = affinity.plan_affinity(10, system=system)
    assert cpus(places) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [place.node for place in places] == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert places[7].why == "a core of its own"
    assert "sibling" in places[8].why


def test_workers_come_near_their_card(tmp_path: Path) -> None:
    system = two_sockets(tmp_path)
    assert node_of_interface("far", system) == 1
    places = affinity.plan_affinity(9, "far", system)
    assert cpus(places) == [4, 5, 6, 7, 0, 1, 2, 3, 12]
    assert places[0].why == "a core of its own, in the node of far"
    assert places[4].why == "a core of its own, outside the node of far"
    for name in ("virtual", "missing"):
        assert node_of_interface(name, system) == ANYWHERE
        assert cpus(affinity.plan_affinity(2, name, system)) == [0, 1]


def test_only_what_may_be_used(tmp_path: Path) -> None:
    """A cpuset with one sibling of each core leaves cores; with both of one, that is one core."""
    assert cpus(affinity.plan_affinity("auto", system=two_sockets(tmp_path, {9, 10, 15}))) == [9, 10, 15]
    assert cpus(affinity.plan_affinity("auto", system=two_sockets(tmp_path, {2, 10}))) == [2]


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    system = machine(tmp_path, {})
    assert nodes(system) == {}
    assert quota(system) == math.inf
    assert affinity.plan_affinity("auto", system=system) == [
        Place(cpu, ANYWHERE, "a core of its own") for cpu in range(4)
    ]


def test_more_workers_than_processors_are_tied_to_none(tmp_path: Path) -> None:
    places = affinity.plan_affinity(5, system=machine(tmp_path, {}))
    assert cpus(places) == [ANYWHERE] * 5
    assert "more workers (5) than processors (4)" in places[0].why


@pytest.mark.parametrize(
    ("files", "granted"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, math.inf),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "100000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000",
            },
            1.0,
        ),
        ({"proc/self/cgroup": "0::/../x", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/unified/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/host/path\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            math.inf,
        ),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/cpu.max": "nonsense"}, math.inf),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], granted: float) -> None:
    system = machine(tmp_path, files)
    assert quota(system) == granted
    assert len(affinity.plan_affinity("auto", system=system)) == max(1, min(4, int(min(granted, 99))))


def test_lists_as_the_kernel_writes_them(tmp_path: Path) -> None:
    assert parse_list("0-3,8,10-11") == [0, 1, 2, 3, 8, 10, 11]
    assert parse_list("") == []
    broken = machine(tmp_path, {"sys/devices/system/node/online": "a-b"})
    assert nodes(broken) == {}


def test_no_more_workers_than_slices(tmp_path: Path) -> None:
    assert len(affinity.plan_affinity("auto", system=machine(tmp_path, {}, range(64)))) == 16


def test_this_machine_and_this_process() -> None:
    before = os.sched_getaffinity(0)
    places = affinity.plan_affinity("auto")
    assert {place.cpu for place in places} <= before
    try:
        assert pin(0, places[-1].cpu) == ""
        assert os.sched_getaffinity(0) == {places[-1].cpu}
        assert pin(0, ANYWHERE) == ""
        assert os.sched_getaffinity(0) == {places[-1].cpu}
    finally:
        os.sched_setaffinity(0, before)


def test_a_process_that_cannot_be_tied_is_a_reason() -> None:
    assert "not tied to processor 4000: Invalid argument" in pin(0, 4000)
    assert f"process {2**22 + 1} is not tied" in pin(2**22 + 1, 0)
