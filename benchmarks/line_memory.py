"""What a server holds: started, and more for every idle path and every idle flow (PSS of its control and its workers).

The server is looked at before there is a client, because pages that both have would count half. What paths and flows
add is the difference of two looks, without pages of files: how many others share a library changes from run to run.

Two servers are never quite alike: CPython copies pages that it only reads, and which ones is chance. That is 0.5 MB of
60, and 70 kB for each of seven paths, hence medians of several servers.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from statistics import median

from benchmarks.line_full import Lab
from benchmarks.line_measure import pss_bytes
from benchmarks.line_stream import HOLD, connect
from benchmarks.line_subjects import STREAM_PORT, Running, Vantun
from benchmarks.line_town import LineError, wait_until

PATHS = 8
ROUNDS = 3
"""Servers with one path, and with all."""
FLOWS = 1000
_OWN = ("Pss_Anon", "Pss_Shmem")
"""What paths and flows take."""
_REST = 2.0
"""Seconds from the last event to a look: what was allocated for it has been given back."""


@dataclass(frozen=True)
class Looked(Vantun):
    """A VANTUN whose server is weighed before its client starts."""

    weighed: list[int] = field(default_factory=list)

    def server_ready(self, running: Running) -> None:
        """Weigh it."""
        time.sleep(_REST)
        self.weighed.append(pss_bytes(running.pids("b")))


def measure(lab: Lab) -> dict[str, float]:
    """Return ``server_mb``, ``path_kb`` and ``flow_kb``."""
    ones, alls = zip(*((_with_paths(lab, 1), _with_paths(lab, PATHS)) for _ in range(ROUNDS)), strict=True)
    started = median(it["started"] for it in ones + alls)
    paths = median(it["connected"] for it in alls) - median(it["connected"] for it in ones)
    flows = median(it["flows"] - it["connected"] for it in ones)
    return {
        "server_mb": round(started / 1e6, 1),
        "path_kb": round(paths / (PATHS - 1) / 1e3, 1),
        "flow_kb": round(flows / FLOWS / 1e3, 2),
    }


def _with_paths(lab: Lab, paths: int) -> dict[str, float]:
    subject = Looked(paths=paths, same_server=True)
    try:
        running = subject(lab.town)
        time.sleep(_REST)
        found: dict[str, float] = {"started": subject.weighed[0], "connected": pss_bytes(running.pids("b"), *_OWN)}
        if paths == 1:
            found["flows"] = _with_flows(lab, running)
    finally:
        lab.town.end_others(lab.ends)
    return found


def _with_flows(lab: Lab, running: Running) -> float:
    """Return the memory of the server while FLOWS proxied connections are open that say nothing."""
    holder = lab.town.spawn("a", sys.executable, "-m", "benchmarks.line_memory", lab.town.address("b"), name="flows")
    wait_until(lambda: holder.log.read_text(encoding="utf-8").startswith("open"), "flows are open", [holder], 60.0)
    time.sleep(_REST)
    open_flows = int(running.status("b").get("flows", {}).get("open", 0))
    if open_flows < FLOWS:
        raise LineError(f"{open_flows} of {FLOWS} flows are open at the server")
    return pss_bytes(running.pids("b"), *_OWN)


def hold(target: str, proxy: tuple[str, int]) -> None:
    """Open FLOWS connections through a proxy, say so, and keep them."""
    with ExitStack() as stack:
        for _ in range(FLOWS):
            sock = stack.enter_context(connect(proxy, (target, STREAM_PORT), socks=True))
            sock.sendall(HOLD + bytes(8))
        print("open", flush=True)
        with suppress(KeyboardInterrupt):
            time.sleep(600.0)


if __name__ == "__main__":
    hold(sys.argv[1], ("127.0.0.1", 1080))
