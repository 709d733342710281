"""The loop of a worker in this process: how long it sleeps, what it serves, and that it compiles nothing meanwhile."""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.kernel import Kernel
from drivers.linux.tun import TunDevice
from drivers.linux.udp_bind import bind_udp
from tests.unit.vantun.dataplane.worker_pair import REPLY, SESSION, SMALL, lane_pair
from vantun.config import AccelConfig
from vantun.dataplane.events import LaneRefused
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.warm import warm
from vantun.dataplane.worker_engines import choose_engines, open_engines
from vantun.dataplane.worker_loop import WorkerLoop
from vantun.worker_messages import AddLane, AddSocket, Command, Message, OpenFlow, Ping, Pong, Stop, decode, encode

pytestmark = pytest.mark.slow

CHOSEN = choose_engines(AccelConfig())


class Rig:
    """A worker without its process; ``now`` is its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(10)
        self.loop = WorkerLoop(Dataplane(SMALL, open_engines(CHOSEN)), theirs, lambda: self.now)

    def say(self, command: Command, sock: socket.socket | TunDevice | None = None) -> None:
        """Send a command and let the worker take it."""
        socket.send_fds(self.control, [encode(command)], [sock.fileno()] if sock is not None else [])
        if sock is not None:
            sock.close()
        self.loop.turn(math.inf)

    def hear(self) -> Message:
        return decode(self.control.recv(1 << 16))

    def settle(self) -> int:
        """Turn until the worker would sleep; return how many turns that took."""
        turns = 0
        while self.loop.patience(self.now) == 0.0:
            self.loop.turn(0.0)
            turns += 1
        return turns


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.control.close()
    made.loop.close()


def test_a_worker_without_lanes_sleeps_until_it_is_spoken_to(rig: Rig) -> None:
    rig.settle()
    assert rig.loop.patience(rig.now) == math.inf
    rig.say(Ping(7))
    assert rig.hear() == Pong(7)
    assert rig.settle() < 3
    assert rig.loop.patience(rig.now) == math.inf


def test_an_idle_lane_turns_the_loop_for_its_timers_only(rig: Rig) -> None:
    """With a peer that never answers there is probing, which becomes rarer; nothing spins in between."""
    rig.say(AddSocket(0), bind_udp("127.0.0.1", 0))
    rig.say(AddLane(lane_pair(1, (1, 2))[0]))
    turns = 0
    end = rig.now + 60.0
    while rig.now < end:
        turns += 1
        rig.loop.turn(0.0)
        rig.now += min(max(rig.loop.patience(rig.now), 1e-6), end - rig.now + 1e-6)
    assert turns < 1000


def test_a_lane_without_room_is_refused_with_the_reason(rig: Rig) -> None:
    for path in range(9):
        rig.say(AddLane(lane_pair(path, (1, 2))[0]))
    refused = rig.hear()
    while not isinstance(refused, LaneRefused):
        refused = rig.hear()
    assert (refused.session, refused.path) == (SESSION, 8)
    assert "8 lanes a session" in refused.reason


def test_a_refused_program_that_does_not_close_is_closed(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = socket.create_connection(listener.getsockname(), timeout=10)
        handed, _ = listener.accept()
    rig.say(OpenFlow(404, "x:1", REPLY, b""), handed)
    assert program.recv(100) == b"no:\x01!"
    assert program.recv(100) == b""
    rig.settle()
    patience = rig.loop.patience(rig.now)
    assert 0 < patience < 10
    rig.now += patience
    rig.loop.turn(0.0)
    assert rig.loop.patience(rig.now) == math.inf
    program.close()


def test_a_stop_ends_the_loop_when_nothing_is_queued(rig: Rig) -> None:
    rig.say(Stop())
    rig.loop.run()


def test_the_end_of_the_control_process_ends_the_loop(rig: Rig) -> None:
    rig.control.close()
    rig.loop.run()


def compiled() -> set[tuple[str, str]]:
    """Return every kernel of the three packages with each signature that is in use."""
    return {
        (kernel.name, str(signature))
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in ("vantun", "accel", "drivers")
        for kernel in list(vars(module).values())
        if isinstance(kernel, Kernel)
        for signature in kernel.signatures
    }


def test_nothing_is_compiled_after_the_rehearsal(rig: Rig) -> None:
    """Every kernel that another rehearsal, another network or a real socket needs is there after the first."""
    from vantun.lab.link import LinkProfile
    from vantun.lab.network import Network
    from vantun.lab.transfer import start_transfer

    warm(lambda: open_engines(CHOSEN))
    before = compiled()
    network = Network(seed=3)
    for path in (1, 2):
        network.add_path(path, LinkProfile(rate=50e6, delay=0.02, loss=0.1))
    transfer = start_transfer(network, 300_000, 300_000)
    assert network.run(60.0, lambda: transfer.done(network))
    network.cut(1)
    network.run(network.now + 3.0)
    rig.say(AddSocket(0), bind_udp("127.0.0.1", 0))
    rig.say(AddLane(lane_pair(1, (1, 2))[0]))
    rig.settle()
    after = compiled()
    assert {kernel for kernel in after - before if not kernel[0].startswith("vantun.lab")} == set()


def test_what_is_watched_is_told_once_when_it_is_readable(rig: Rig) -> None:
    """And may be closed by whoever is told."""
    told: list[int] = []
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)

    def act() -> None:
        told.append(descriptor)
        os.close(descriptor)

    rig.loop.watch(descriptor, act)
    rig.loop.turn(0.0)
    assert told == []
    os.eventfd_write(descriptor, 1)
    for _ in range(3):
        rig.loop.turn(0.0)
    assert told == [descriptor]


def test_the_snapshot_tells_where_processor_time_went(rig: Rig) -> None:
    worker = rig.loop.snapshot()["worker"]
    assert isinstance(worker, dict)
    assert worker["cpu_s"] >= worker["cpu_system_s"] >= 0.0
    waited = worker["cpu_wait_s"]
    assert waited is None or waited >= 0.0
    assert waited is not None or not Path("/proc/thread-self/schedstat").exists()
