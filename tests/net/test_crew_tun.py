"""A TUN over several workers: both queues carry, a client of one slice is served, and a death interrupts a part."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net.appliances import Process, wait_for
from tests.net.test_crew import each
from tests.net.test_death import configure
from tests.net.tun_town import EVERYTHING, TARGET, Client, Town, town
from tests.netns import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]
MUCH = 1 << 20
PORTS = itertools.count(5301)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, str]) -> Iterator[Town]:
    """Yield a running server of two workers, and two clients: alice has two workers, bob one."""
    clients = {"alice": EVERYTHING, "bob": EVERYTHING}
    with town(tmp_path_factory.mktemp("town"), certificate, {}, clients) as made:
        for process, count in ((made.process, 2), (made.clients["alice"].process, 2), (made.clients["bob"].process, 1)):
            configure(process, workers={"count": count})
        try:
            made.process.start()
            made.process.wait_ready()
            made.clients["alice"].start()
            yield made
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when a test fails


def carried(process: Process) -> list[int]:
    """Bytes that each worker has carried."""
    return [row["sent_bytes"] + row["received_bytes"] for row in each(process)]


def receiver(place: Town) -> str:
    """Return the port of a new iperf3 server, which serves one test.

    One that has served several was seen to wait for the end of the last, while the next client waited for it.
    """
    port = str(next(PORTS))
    place.target.spawn("iperf3", "-s", "-1", "-p", port)
    wait_for(lambda: f":{port} " in place.target.output("ss", "-ltn"), "iperf3 listens")
    return port


def load(place: Town, client: Client, seconds: int = 6) -> int:
    """Send by many connections at once; return the bytes that have arrived."""
    port = receiver(place)
    text = client.host.output("iperf3", "-J", "-c", TARGET, "-p", port, "-t", str(seconds), "-P", "12")
    result = json.loads(text)
    assert "error" not in result
    return int(result["end"]["sum_received"]["bytes"])


def test_both_queues_carry(place: Town) -> None:
    alice = place.clients["alice"]

    def both() -> bool:
        """Send, and tell whether all workers had something to do: connections keep to the queue they began with."""
        assert load(place, alice, 3) > MUCH // 4
        return all(min(carried(process)) > MUCH // 4 for process in (alice.process, place.process))

    wait_for(both, "every worker carries packets")
    for process in (alice.process, place.process):
        assert len(carried(process)) == 2


@pytest.mark.parametrize("role", ["client", "server"])
def test_connections_outlive_the_death_of_a_worker(place: Town, role: str) -> None:
    alice = place.clients["alice"]
    victim = alice.process if role == "client" else place.process
    before = [row["pid"] for row in each(victim)]
    run = alice.host.spawn("iperf3", "-J", "-c", TARGET, "-p", receiver(place), "-t", "15", "-P", "8")
    start = sum(carried(alice.process))
    wait_for(lambda: sum(carried(alice.process)) > start + MUCH, "packets flow")
    os.kill(before[1], signal.SIGKILL)
    wait_for(lambda: len(each(victim)) == 2 and each(victim)[1]["pid"] not in (0, before[1]), "it is replaced")
    result = json.loads(run.communicate(timeout=90)[0])
    assert "error" not in result
    assert each(victim)[0]["pid"] == before[0]
    assert load(place, alice, 3) > MUCH // 4


def test_a_client_of_one_slice_is_served_by_the_first_queue(place: Town) -> None:
    bob = place.clients["bob"]
    bob.start()
    assert load(place, bob, 3) > MUCH // 4
    (lane,) = bob.process.status()["lanes"]
    assert "slices" not in lane
    assert load(place, place.clients["alice"], 3) > MUCH // 4
