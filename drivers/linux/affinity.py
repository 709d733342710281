"""Which processors this process may use, how they lie, and tying a process to one of them.

A worker that stays on its processor keeps its tables in that cache, and its memory in that node: the kernel gives a
page to the node of whoever touches it first. Siblings of one core share its vector units, which sealing and coding
fill; so each worker gets a core of its own, as long as there are any.

Source: Linux, Documentation/admin-guide/cputopology.rst, cgroup-v2.rst (cpu.max), ABI/stable/sysfs-devices-node.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MOST_WORKERS = 16
"""Slices of a session, which more workers could not serve."""
ANYWHERE = -1
"""Of a place: the kernel chooses the processor. Of a node: this machine has none, or does not tell."""


def _usable() -> Collection[int]:
    return os.sched_getaffinity(0)


@dataclass(frozen=True)
class System:
    """Where facts about this machine are read; tests give other roots.

    Attributes
    ----------
    root
        Above ``sys`` and ``proc``.
    usable
        Returns the processors that this process may use.
    """

    root: Path = Path("/")
    usable: Callable[[], Collection[int]] = field(default=_usable)

    def read(self, path: str) -> str:
        """Return a file's text, empty where there is none, or it may not be read: containers hide much."""
        try:
            return (self.root / path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""


HERE = System()


@dataclass(frozen=True)
class Place:
    """Where a worker runs.

    Attributes
    ----------
    cpu
        Number of its processor, or ANYWHERE.
    node
        NUMA node of that, or ANYWHERE.
    why
        In words, for status.
    """

    cpu: int
    node: int
    why: str


def parse_list(text: str) -> list[int]:
    """Return the numbers of a list as the kernel writes it (``0-3,8``); raises ValueError."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _listed(system: System, path: str) -> list[int]:
    try:
        return parse_list(system.read(path))
    except ValueError:
        return []


def core_of(cpu: int, system: System = HERE) -> tuple[int, ...]:
    """Return the processors that share a core with this one, itself among them."""
    siblings = _listed(system, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return tuple(sorted({cpu, *siblings}))


def nodes(system: System = HERE) -> dict[int, int]:
    """Return processor -> NUMA node; empty on machines without them."""
    return {
        cpu: node
        for node in _listed(system, "sys/devices/system/node/online")
        for cpu in _listed(system, f"sys/devices/system/node/node{node}/cpulist")
    }


def node_of_interface(name: str, system: System = HERE) -> int:
    """Return the NUMA node that a network card is at, or ANYWHERE: virtual interfaces are at none."""
    try:
        return max(int(system.read(f"sys/class/net/{name}/device/numa_node")), ANYWHERE)
    except ValueError:
        return ANYWHERE


def quota(system: System = HERE) -> float:
    """Return how many processors' time the control groups of this process grant; inf = as many as there are."""
    least = math.inf
    for line in system.read("proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # cgroup v2
            least = min(least, _walk(system, "sys/fs/cgroup", path, _max_v2), _walk_unified(system, path))
        elif "cpu" in controllers.split(","):
            for folder in (controllers, "cpu"):
                least = min(least, _walk(system, f"sys/fs/cgroup/{folder}", path, _max_v1))
    return least


def _walk_unified(system: System, path: str) -> float:
    """As :func:`_walk`, where both versions are mounted."""
    return _walk(system, "sys/fs/cgroup/unified", path, _max_v2)


def _walk(system: System, mount: str, path: str, limit: Callable[[System, str], float]) -> float:
    """Return the least that a group or one above it grants; a container sees only the end of its path."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return min(limit(system, "/".join([mount, *parts[:depth]])) for depth in range(len(parts) + 1))


def _max_v2(system: System, group: str) -> float:
    allowed, _, period = system.read(f"{group}/cpu.max").partition(" ")
    return _ratio(allowed, period)


def _max_v1(system: System, group: str) -> float:
    return _ratio(system.read(f"{group}/cpu.cfs_quota_us"), system.read(f"{group}/cpu.cfs_period_us"))


def _ratio(allowed: str, period: str) -> float:
    try:
        share = int(allowed) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return math.inf
    return share if share > 0 else math.inf  # -1: no limit (v1)


def order(interface: str = "", system: System = HERE) -> list[tuple[int, int, str]]:
    """Return the usable processors, best first, as (cpu, node, why).

    One of each core before its siblings; within each of these, those of the interface's node first.
    """
    usable = sorted(system.usable())
    node, near = nodes(system), node_of_interface(interface, system) if interface else ANYWHERE
    rank = {cpu: [each for each in core_of(cpu, system) if each in usable].index(cpu) for cpu in usable}
    found = []
    for cpu in sorted(usable, key=lambda cpu: (rank[cpu], near not in (ANYWHERE, node.get(cpu, ANYWHERE)), cpu)):
        at = node.get(cpu, ANYWHERE)
        why = "a core of its own" if rank[cpu] == 0 else "a sibling of another worker's core: there are no more cores"
        if near != ANYWHERE:
            why += f", {'in' if at == near else 'outside'} the node of {interface}"
        found.append((cpu, at, why))
    return found


def plan_affinity(workers: int | Literal["auto"] = "auto", interface: str = "", system: System = HERE) -> list[Place]:
    """Return a place for each worker.

    Parameters
    ----------
    workers
        How many; ``"auto"`` = as many as there are usable cores, no more than the quota of the control group grants
        whole processors, and at most MOST_WORKERS.
    interface
        The network card of the paths, if they use one alone: workers come near it.
    """
    cpus = order(interface, system)
    if workers == "auto":
        cores = sum(1 for _, _, why in cpus if why.startswith("a core"))
        workers = int(max(1, min(cores, quota(system), MOST_WORKERS)))
    places = [Place(*each) for each in cpus[:workers]]
    left = f"there are more workers ({workers}) than processors ({len(cpus)}): the kernel shares them out"
    if len(places) < workers:  # tied to the same one, two would wait for each other while a third is idle
        return [Place(ANYWHERE, ANYWHERE, left)] * workers
    return places


def pin(pid: int, cpu: int) -> str:
    """Tie a process (0 = this one) to a processor; return why not, empty if it is; ANYWHERE changes nothing."""
    if cpu == ANYWHERE:
        return ""
    try:
        os.sched_setaffinity(pid, {cpu})
    except OSError as error:  # EINVAL: outside the cpuset; EPERM: another user's; ESRCH: it has ended
        return f"process {pid or os.getpid()} is not tied to processor {cpu}: {os.strerror(error.errno or 0)}"
    return ""
