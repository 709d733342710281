"""One SOCKS5 stream through a real server and client on loopback, unimpaired: Mbit/s and CPU seconds per gigabit.

Five processes share the machine: server and client, a data worker each, and this program, which is both ends of the
stream and compares every byte. ``./dev bench tunnel`` writes the result file.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import save
from vantun.demo.appliances import Appliances, Workplace
from vantun.socks5_client import connect_through

_BLOCK = 1 << 20
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """One stream. ``cpu_s`` = user and system time of the four tunnel processes meanwhile."""

    direction: str
    seconds: float
    goodput_mbit_s: float
    cpu_s: float
    cpu_s_per_gbit: float


def cpu_seconds(processes: list[int]) -> float:
    """Return the CPU time that processes have used so far."""
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def tunnel_processes(pair: Appliances) -> list[int]:
    """Return the process ids of server, client and their workers."""
    found: list[int] = []
    for role in ("server", "client"):
        status: dict[str, Any] = pair.status(role)
        found += [int(status["pid"]), int(status["worker"]["pid"])]
    return found


def fill(sock: socket.socket, block: bytes, until: float) -> None:
    """Send the block again and again until the time is over, then end the stream."""
    while time.monotonic() < until:
        sock.sendall(block)
    sock.shutdown(socket.SHUT_WR)


class Drain:
    """Reads a stream of equal blocks and compares every byte."""

    def __init__(self, sock: socket.socket, block: bytes) -> None:
        self.size = 0
        self._sock = sock
        self._twice = memoryview(block + block)
        self._buffer = memoryview(bytearray(_BLOCK))

    def run(self) -> None:
        """Read to the end of the stream; raises ValueError when a byte is wrong."""
        while count := self._sock.recv_into(self._buffer):
            start = self.size % _BLOCK
            if self._buffer[:count] != self._twice[start : start + count]:
                raise ValueError(f"wrong bytes behind {self.size}")
            self.size += count


def measure(pair: Appliances, direction: str, seconds: float) -> Run:
    """Send for ``seconds`` in one direction; the first second is not counted."""
    processes = tunnel_processes(pair)
    block = os.urandom(_BLOCK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = connect_through(pair.proxy, listener.getsockname()[:2])
        far, _ = listener.accept()
    source, sink = (far, near) if direction == "down" else (near, far)
    drain = Drain(sink, block)
    sender = threading.Thread(target=fill, args=(source, block, time.monotonic() + 1.0 + seconds))
    reader = threading.Thread(target=drain.run)
    sender.start()
    reader.start()
    time.sleep(1.0)
    before, cpu, started = drain.size, cpu_seconds(processes), time.monotonic()
    time.sleep(seconds)
    size, used, took = drain.size - before, cpu_seconds(processes) - cpu, time.monotonic() - started
    sender.join()
    reader.join()
    for sock in (near, far):
        sock.close()
    gigabits = size * 8 / 1e9
    return Run(direction, round(took, 3), round(size * 8 / took / 1e6, 1), round(used, 2), round(used / gigabits, 2))


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each direction, in turn")
    options = parser.parse_args()
    runs: list[Run] = []
    with Workplace() as place, Appliances(place, fec=True) as pair:
        pair.start_server()
        deque(pair.start_client({"loopback": pair.server[1]}), maxlen=0)
        for _ in range(options.repeat):
            for direction in ("down", "up"):
                runs.append(measure(pair, direction, options.seconds))
                print(f"{direction:5} {runs[-1].goodput_mbit_s:8.1f} Mbit/s  {runs[-1].cpu_s_per_gbit:6.2f} CPU s/Gbit")
        statuses = {role: pair.status(role) for role in ("server", "client")}
    medians = {
        direction: {
            "goodput_mbit_s": statistics.median(run.goodput_mbit_s for run in runs if run.direction == direction),
            "cpu_s_per_gbit": statistics.median(run.cpu_s_per_gbit for run in runs if run.direction == direction),
        }
        for direction in ("down", "up")
    }
    print("median " + ", ".join(f"{name} {found['goodput_mbit_s']} Mbit/s" for name, found in medians.items()))
    kept = ("engines", "stages", "channels", "udp", "drops")
    results: dict[str, object] = {
        "what": "one SOCKS5 stream, loopback, one path, no impairment, FEC on",
        "provenance": "cpu",
        "median": medians,
        "runs": [asdict(run) for run in runs],
        "status": {role: {name: found.get(name) for name in kept} for role, found in statuses.items()},
    }
    print(f"{save('tunnel', results).name} written")


if __name__ == "__main__":
    main()
