"""Throughput of one worker for 1, 10 and 100 clients, downloading at once, and what the idle ones cost.

In memory: both ends are complete data planes in this process, on one core, and hand each other their sealed batches. So
the figure is what both directions of one core can do, without sockets; it is there to be compared between numbers of
clients. ``python -m benchmarks.clients`` writes the result.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import save
from vantun.kernel_cache import use_kernel_cache

if TYPE_CHECKING:
    from vantun.dataplane.config import DataplaneConfig
    from vantun.dataplane.pipeline import Dataplane


class Source:
    """A stream port that always has more; nothing is copied."""

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        return int(iov[:count, 1].sum())

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        return int(iov[:count, 1].sum())

    def accepted(self) -> None:
        """See StreamPort."""

    def refused(self, code: int) -> None:
        """See StreamPort."""
        raise ConnectionError(f"a flow was refused with code {code}")

    def shutdown_write(self) -> None:
        """See StreamPort."""

    def reset(self) -> None:
        """See StreamPort."""

    def close(self) -> None:
        """See StreamPort."""


class Sink(Source):
    """A stream port that counts what comes and has nothing to send."""

    def __init__(self) -> None:
        self.total = 0

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        return -1

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        size = int(iov[:count, 1].sum())
        self.total += size
        return size


class Pair:
    """A client and a server plane with any number of sessions."""

    def __init__(self, sessions: int) -> None:
        from vantun.dataplane.pipeline import Dataplane
        from vantun.lab.network import lab_engines

        self.client, self.server = (Dataplane(_config(), lab_engines()) for _ in range(2))
        self.sinks: list[Sink] = []
        for number in range(1, sessions + 1):
            self._connect(number)

    def _connect(self, number: int) -> None:
        from accel.engine import Suite
        from vantun.lanes import LaneSpec

        spec = LaneSpec(
            session=number,
            path=1,
            socket=0,
            peer=("192.0.2.1", 10_000 + number),  # as both see it: each takes its batches for what it receives
            receive_cid=bytes([0]) + number.to_bytes(7, "big"),
            send_cid=bytes([1]) + number.to_bytes(7, "big"),
            suite=Suite.AES_128_GCM,
            send_secret=number.to_bytes(2, "big") * 16,
            receive_secret=(number + 5000).to_bytes(2, "big") * 16,
            client=True,
        )
        now = time.monotonic()
        self.client.add_lane(spec, now)
        mirrored = replace(
            spec,
            receive_cid=spec.send_cid,
            send_cid=spec.receive_cid,
            send_secret=spec.receive_secret,
            receive_secret=spec.send_secret,
            client=False,
        )
        self.server.add_lane(mirrored, now)

    def download(self, sessions: int) -> None:
        """Begin a download in each of the first ``sessions`` sessions."""
        for number in range(1, sessions + 1):
            self.sinks.append(Sink())
            self.client.open_flow(number, "bulk", self.sinks[-1], time.monotonic())

    def run(self, seconds: float) -> None:
        """Move packets for so long."""
        from vantun.dataplane.events import FlowOpened

        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            moved = _pass(self.server, self.client, now) + _pass(self.client, self.server, now)
            for event in self.server.take_events():
                if isinstance(event, FlowOpened):
                    self.server.attach_flow(event.handle, Source(), now)
            self.client.take_events()
            if not moved:
                due = min(plane.next_event(now) for plane in (self.client, self.server))
                time.sleep(min(max(due - now, 0.0), 0.001))


def _config() -> DataplaneConfig:
    from vantun.dataplane.config import DataplaneConfig
    from vantun.session.limits import Limits

    return DataplaneConfig(limits=Limits(rows=131_072))


def _pass(sender: Dataplane, receiver: Dataplane, now: float) -> int:
    """Hand over one batch; return its packets."""
    outgoing = sender.transmit(now)
    if outgoing.packets:
        receiver.receive(outgoing.batch, outgoing.packets, 0, now)
    return outgoing.packets


def measure(active: int, idle: int, warm_up: float, window: float) -> dict[str, object]:
    """Return what ``active`` downloading clients reach beside ``idle`` ones."""
    pair = Pair(active + idle)
    pair.run(0.5)
    pair.download(active)
    pair.run(warm_up)
    pool = pair.server.context.tables.pool[0]
    before, planned = [sink.total for sink in pair.sinks], int(pool["planned_sessions"])
    counters = pair.server.context.counters.copy()
    cpu, started = time.process_time(), time.monotonic()
    pair.run(window)
    elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
    moved = [sink.total - start for sink, start in zip(pair.sinks, before, strict=True)]
    spent = pair.server.context.counters - counters
    packets = int(spent[-1][1])
    return {
        "active": active,
        "idle": idle,
        "goodput_bps": round(sum(moved) * 8 / elapsed),
        "jain": round(sum(moved) ** 2 / max(len(moved) * sum(x * x for x in moved), 1), 4),
        "cpu_share": round(cpu / elapsed, 3),
        "cpu_ns_per_byte": round(cpu * 1e9 / max(sum(moved), 1), 3),
        "server_packets": packets,
        "schedule_ns_per_packet": round(int(spent[-2][3]) / max(packets, 1), 1),
        "planned_sessions_per_packet": round((int(pool["planned_sessions"]) - planned) / max(packets, 1), 4),
    }


def main() -> None:
    """Measure every row and save the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before each")
    options = parser.parse_args()
    use_kernel_cache()
    rows = []
    print("active  idle   Mbit/s   Jain  schedule ns/packet  sessions looked at per packet")
    for active, idle in ((1, 0), (10, 0), (100, 0), (1, 899), (100, 900)):
        row = measure(active, idle, options.warm_up, options.window)
        rows.append(row)
        print(
            f"{active:6} {idle:5} {float(str(row['goodput_bps'])) / 1e6:8.0f} {row['jain']:6}"
            f" {row['schedule_ns_per_packet']:19} {row['planned_sessions_per_packet']:30}",
            flush=True,
        )
    results = {"in_memory": True, "processes": 1, "window": options.window, "clients": rows}
    print(f"\n{save('clients', results).name} written")


if __name__ == "__main__":
    main()
