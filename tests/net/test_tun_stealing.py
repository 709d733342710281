"""Flows of the TUN move from a worker that is overloaded to another: nothing is lost, and everything goes on.

How busy the workers are is injected; the rest is real: two workers at either end, the program in the kernel, and flows
whose addresses and ports were chosen so that all of them begin on the first worker.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.linux.tun_steering import bucket_of, probe_tun_steering
from tests.net.appliances import Process, wait_for
from tests.net.test_crew import each
from tests.net.test_death import configure
from tests.net.tun_town import EVERYTHING, TARGET, Client, Town, town
from tests.netns import inside, why_not

REFUSED = why_not() or probe_tun_steering()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(REFUSED), reason=REFUSED or "-"),
]
PORT = 5400
SIZE = 1000
PAUSE = 0.01
_BUFFER_FORCE = 33
INJECTED = Path(__file__).parent / "injected"
ports = itertools.count(20_000)


def load_file(process: Process) -> Path:
    return process.config_file.with_suffix(".busy")


def pretend(process: Process, *busy: float) -> None:
    """Have a control process believe that its workers are so busy."""
    file = load_file(process)
    file.with_suffix(".new").write_text(json.dumps(busy))
    file.with_suffix(".new").rename(file)


@pytest.fixture
def place(tmp_path: Path, certificate: tuple[Path, str]) -> Iterator[Town]:
    """Yield a running server of two workers and alice, who has two; bob, who has one, is not started."""
    with town(tmp_path, certificate, {}, {"alice": EVERYTHING, "bob": EVERYTHING}) as made:
        for process, count in ((made.process, 2), (made.clients["alice"].process, 2), (made.clients["bob"].process, 1)):
            configure(process, workers={"count": count})
            path = os.pathsep.join(filter(None, (str(INJECTED), *sys.path)))
            process.prefix += ("env", f"PYTHONPATH={path}", f"VANTUN_TEST_BUSY={load_file(process)}")
        try:
            made.process.start()
            made.process.wait_ready()
            made.clients["alice"].start()
            yield made
        finally:
            print(made.logs())  # noqa: T201 - pytest shows it when a test fails


def steering(process: Process) -> dict[str, object]:
    """Return what a status says of the TUN's queues."""
    found: dict[str, object] = process.status().get("tun", {}).get("packets", {})
    return found


def ports_of(client: Client, worker: int) -> tuple[int, int]:
    """Return new ports of a client and the target whose flow belongs to a worker."""
    address, target = client.address, next(ports)
    return next(port for port in ports if bucket_of(address, TARGET, (port, target)) % 2 == worker), target


class Datagrams(threading.Thread):
    """Sends numbered datagrams from a client to the target, until told to stop, and keeps what has arrived."""

    def __init__(self, place: Town, client: Client, stack: ExitStack, worker: int = 0) -> None:
        super().__init__(daemon=True)
        with inside(place.target.name):
            self.far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with inside(client.host.name):
            self.near = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.far.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, 64 << 20)
        port, target = ports_of(client, worker)
        self.far.bind((TARGET, target))
        self.near.bind((client.address, port))
        self.near.connect((TARGET, target))
        self.sent = 0
        self.enough = threading.Event()
        self.start()

    def run(self) -> None:
        with suppress(OSError):  # a test that fails closes the socket
            while not self.enough.wait(PAUSE):
                self.near.send(str(self.sent).encode().ljust(SIZE))
                self.sent += 1

    def end(self) -> list[int]:
        """Stop; return the numbers that have arrived, in the order in which they came."""
        self.enough.set()
        self.join()
        self.far.settimeout(5.0)
        came: list[int] = []
        while len(set(came)) < self.sent:
            try:
                came.append(int(self.far.recv(SIZE)))
            except TimeoutError:
                break
        return came


class Transfer(threading.Thread):
    """A TCP connection from a client to the target that carries random bytes, a little at a time."""

    def __init__(self, place: Town, client: Client, stack: ExitStack) -> None:
        super().__init__(daemon=True)
        port, target = ports_of(client, 0)
        with inside(place.target.name):
            listener = stack.enter_context(socket.create_server((TARGET, target)))
        with inside(client.host.name):
            self.near = stack.enter_context(socket.socket())
        self.near.bind((client.address, port))
        self.near.settimeout(30.0)
        listener.settimeout(30.0)
        self.near.connect((TARGET, target))
        self.far = stack.enter_context(listener.accept()[0])
        self.far.settimeout(30.0)
        self.sent = 0
        self.enough = threading.Event()
        self.good = False
        self.start()

    def run(self) -> None:
        with suppress(OSError):  # a test that fails closes the sockets
            while not self.enough.wait(PAUSE):
                data = os.urandom(2000)
                self.near.sendall(data)
                assert self._exactly(self.far, len(data)) == data
                self.far.sendall(data[::-1])
                assert self._exactly(self.near, len(data)) == data[::-1]
                self.sent += 1
            self.good = True

    @staticmethod
    def _exactly(sock: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = sock.recv(size - len(got))
            assert part, "the connection has ended"
            got += part
        return got

    def end(self) -> bool:
        """Stop; tell whether everything has arrived, both ways, as it was."""
        self.enough.set()
        self.join()
        return self.good


def late(*processes: Process) -> int:
    """Return the packets that were too old to be sent, or to be passed on: workers without a processor make such."""
    rows = [row for process in processes for row in process.status().get("packets", [])]
    return sum(int(row["expired"]) + int(row["dropped_late"]) for row in rows)


def interface(client: Client, name: str) -> dict[str, int]:
    """Return what a client's kernel has put into the queues of its TUN, and what it has dropped."""
    [shown] = client.host.json("ip", "-j", "-s", "link", "show", name)
    found: dict[str, int] = shown["stats64"]["tx"]
    return found


def unread(client: Client) -> int:
    """Return how many packets the kernel has put into the queues of a client's TUN that no worker tells of."""
    packets: dict[str, Any] = steering(client.process)
    read = packets["packets"]["out"] + sum(packets["dropped"]["out"].values())
    return interface(client, str(client.tun["name"]))["packets"] - int(read)


def carried(process: Process) -> list[int]:
    return [row["sent_bytes"] + row["received_bytes"] for row in each(process)]


def lacking(flows: list[Datagrams]) -> int:
    """End flows; return how many of their datagrams have not arrived. None has arrived twice."""
    count = 0
    for flow in flows:
        came = flow.end()
        assert len(came) == len(set(came))
        count += flow.sent - len(came)
    return count


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_overloaded_worker_gives_flows_away_and_none_loses_anything(place: Town, role: str) -> None:
    """A server gets rid of what it receives: the client follows, which sees the answers come by another slice."""
    alice = place.clients["alice"]
    ends = (alice.process, place.process)
    mine, other = ends if role == "client" else ends[::-1]
    wait_for(lambda: steering(mine).get("steering") == "program", "our program chooses")
    wait_for(lambda: all(len(each(process)) == 2 for process in ends), "both have two workers")
    with ExitStack() as stack:
        flows = [Datagrams(place, alice, stack) for _ in range(3)] if role == "client" else []
        transfers = [Transfer(place, alice, stack) for _ in range(1 if role == "client" else 4)]
        both: list[Datagrams | Transfer] = [*flows, *transfers]
        idle = carried(mine)[1]
        wait_for(lambda: all(flow.sent > 20 for flow in both), "packets flow")
        assert carried(mine)[1] < idle + 10 * SIZE, "all of them by the first worker"
        pretend(mine, 0.97, 0.02)
        wait_for(lambda: int(str(steering(mine).get("moved_buckets", 0))) > 0, "a flow is moved")
        pretend(mine, 0.5, 0.45)
        wait_for(lambda: int(str(steering(other).get("followed_buckets", 0))) > 0, "the peer follows")
        before = [flow.sent for flow in both]
        wait_for(
            lambda: all(flow.sent > sent + 20 for flow, sent in zip(both, before, strict=True)),
            "all of them go on",
        )
        wait_for(lambda: carried(mine)[1] > idle + 20 * SIZE, "the second worker has something to do")
        for transfer in transfers:
            assert transfer.end()
        assert lacking(flows) <= late(*ends), "all have arrived but those that came too late to be of use"
        wait_for(lambda: unread(alice) == 0, "what the kernel has put into any queue was read by a worker")
    assert interface(alice, str(alice.tun["name"]))["dropped"] == 0
    assert "tun: moved" in mine.log
    assert "busy 97% and 2%" in mine.log
    said: dict[str, Any] = steering(mine)
    assert said["moves"]
    assert sum(said["queues"]) == 256
    assert said["queues"][0] < 128


def test_buckets_of_a_worker_that_dies_go_to_the_other(place: Town) -> None:
    alice = place.clients["alice"]
    wait_for(lambda: len(each(alice.process)) == 2, "both workers answer")
    with ExitStack() as stack:
        flow = Datagrams(place, alice, stack, worker=1)
        wait_for(lambda: flow.sent > 50, "packets flow")
        os.kill(each(alice.process)[1]["pid"], signal.SIGKILL)
        begun = flow.sent
        wait_for(lambda: flow.sent > begun + 300, "and go on")
        came = flow.end()
    assert len(came) == len(set(came))
    assert len([number for number in came if number > begun]) > 150, "by the other worker"


def test_a_client_of_one_slice_leaves_the_others_their_queues(place: Town) -> None:
    alice, bob = place.clients["alice"], place.clients["bob"]
    bob.start()
    with ExitStack() as stack:
        before = carried(place.process)
        flows = [Datagrams(place, client, stack, worker) for client in (alice, bob) for worker in (0, 1)]
        wait_for(lambda: all(flow.sent > 200 for flow in flows), "packets flow")
        assert lacking(flows) <= late(alice.process, bob.process, place.process)
        after = carried(place.process)
    assert all(end - start > 100 * SIZE for start, end in zip(before, after, strict=True))


def test_without_the_program_packets_are_handed_over(place: Town) -> None:
    """A server that may not load programs, and a client of one slice beside one of two."""
    alice, bob = place.clients["alice"], place.clients["bob"]
    for process in (alice.process, place.process):
        process.terminate()
    place.process.prefix += ("setpriv", "--bounding-set=-bpf,-sys_admin")
    place.process.start()
    place.process.wait_ready()
    alice.start()
    bob.start()
    wait_for(lambda: steering(place.process).get("steering") == "kernel", "the kernel chooses")
    (row,) = (row for row in place.process.status()["fallbacks"] if row["what"] == "TUN queues chosen by the kernel")
    assert "CAP_BPF" in row["reason"]
    time.sleep(0.5)  # until the kernel has the second queue, too
    with ExitStack() as stack:
        with inside(bob.host.name):
            far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        far.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, 64 << 20)
        far.bind((bob.address, PORT))
        far.settimeout(10.0)
        with inside(place.server.name):
            near = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(32)]
        for number in range(10):
            for sock in near:
                sock.sendto(str(number).encode(), (bob.address, PORT))
        came = [(int(data), source[1]) for data, source in (far.recvfrom(100) for _ in range(10 * len(near)))]
        sent = {(number, sock.getsockname()[1]) for number in range(10) for sock in near}
    assert len(came) == len(sent)
    assert set(came) == sent
    packets = steering(place.process)
    assert int(str(packets["handed_over"])) == int(str(packets["taken_over"])) > 0
