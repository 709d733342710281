"""Workers that are killed while iperf3 runs through the TUN: its connections live on, no packet number comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.appliances import START_SECONDS, Process, wait_for
from tests.net.capture import Capture
from tests.net.tun_town import EVERYTHING, TARGET, Client, Town, town
from tests.netns import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

SECONDS = 30
"""Of each iperf3; long enough for three standby workers to become ready one after the other."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Town]:
    """Yield a running server and one client."""
    with town(tmp_path_factory.mktemp("town"), certificate, {}, {"alice": EVERYTHING}) as made:
        for port in ("5201", "5202"):
            made.target.spawn("iperf3", "-s", "-p", port)
        try:
            made.start()
            yield made
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when a test fails


def wait_standby(process: Process) -> None:
    """Wait until another worker is ready to take over."""

    def ready() -> bool:
        return bool(process.status().get("workers", {}).get("standby") == "ready")

    wait_for(ready, f"a standby worker of the {process.role} is ready", START_SECONDS)


def carried(client: Client) -> int:
    """Packets that the kernel has given to the device: the acknowledgements of TCP among them."""
    stats = client.host.json("ip", "-s", "-j", "link", "show", "dev", "vantun0")[0]["stats64"]
    return int(min(stats["rx"]["packets"], stats["tx"]["packets"]))


def wait_carried(client: Client, packets: int, what: str) -> None:
    """Wait until so many more packets have passed both ways."""
    before = carried(client)
    wait_for(lambda: carried(client) >= before + packets, what)


class Numbers:
    """Looks at the next packet number of every lane again and again, whichever worker it is that tells it.

    Attributes
    ----------
    highest
        By (role, session, path).
    falls
        Numbers that were lower than one before them.
    """

    def __init__(self, *processes: Process) -> None:
        self.highest: dict[tuple[str, str, int], int] = {}
        self.falls: list[tuple[tuple[str, str, int], int, int]] = []
        self._processes = processes
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Numbers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(0.05):
            for process in self._processes:
                for lane in process.status().get("lanes", []):
                    self.see((process.role, lane["session"], lane["path"]), lane["next_pn"])

    def see(self, lane: tuple[str, str, int], number: int) -> None:
        """Take a look."""
        before = self.highest.get(lane, 0)
        if number < before:
            self.falls.append((lane, before, number))
        self.highest[lane] = max(number, before)


def test_iperf3_goes_on_while_workers_are_killed(place: Town) -> None:
    alice = place.clients["alice"]
    session = alice.process.status()["lanes"][0]["session"]
    for process in (place.process, alice.process):
        wait_standby(process)
    with Capture(place.server.name, 443) as capture, Numbers(place.process, alice.process) as numbers:
        runs: list[subprocess.Popen[str]] = [
            alice.host.spawn("iperf3", "-J", "-c", TARGET, "-t", str(SECONDS), "-p", port, *kind)
            for port, kind in (("5201", ()), ("5202", ("-u", "-b", "2M", "-l", "1200")))
        ]
        wait_carried(alice, 200, "packets flow")
        for victim in (place.process, alice.process, place.process):
            wait_standby(victim)
            assert all(run.poll() is None for run in runs), "iperf3 has ended before the workers have died"
            os.kill(victim.worker, signal.SIGKILL)
            wait_carried(alice, 200, f"packets flow after a death of the {victim.role}")
        results = [json.loads(run.communicate(timeout=3 * SECONDS)[0]) for run in runs]
    assert [result.get("error") for result in results] == [None, None]
    assert results[0]["end"]["sum_received"]["bytes"] > 1_000_000
    assert results[1]["end"]["sum"]["packets"] > 1000
    assert results[1]["end"]["sum"]["lost_percent"] < 50  # how long each of three deaths takes is no test's business
    assert place.process.status()["workers"]["deaths"] == 2
    assert alice.process.status()["workers"]["deaths"] == 1
    assert alice.process.status()["lanes"][0]["session"] == session, "nothing was set up anew"
    assert capture.datagrams > 5000
    assert capture.repeated == 0, "a packet number was used twice for the same packet"
    assert numbers.falls == []
    assert {role for role, _, _ in numbers.highest} == {"server", "client"}
    assert all(number > 1 << 16 for number in numbers.highest.values()), "a successor begins behind what was reserved"
