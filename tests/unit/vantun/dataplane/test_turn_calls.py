"""What a turn costs in calls from Python: one of compiled code for what arrived, one for what leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel.aead.cryptography import CryptographyAead
from accel.aead.simd import SimdAead
from accel.engine import Operation
from accel.fec.simd import SimdFec
from accel.lease import LEFT
from accel.serving import Serving
from drivers.arena import Arena
from drivers.batch import PacketBatch, packet_batch
from drivers.kernel import Kernel
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.context import STAGES, Engines
from vantun.dataplane.pipeline import Dataplane
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network
from vantun.lab.packet_port import MemoryPacketPort

pytestmark = pytest.mark.slow

ARRIVE, DEPART = "vantun.dataplane.turn_kernels.arrive", "vantun.dataplane.turn_kernels.depart"


def lent(_side: int = 0) -> Engines:
    """Return engines that lend themselves, and software that looks after them."""
    fec, aead = SimdFec(), SimdAead()
    return Engines(
        encode=Serving(fec, fec.open(Operation.FEC_ENCODE), (SimdFec(),), seed=1),
        decode=Serving(fec, fec.open(Operation.FEC_DECODE), (SimdFec(),), seed=1),
        seal=Serving(aead, aead.open(Operation.AEAD_SEAL), (CryptographyAead(),), seed=1),
        open=Serving(aead, aead.open(Operation.AEAD_OPEN), (CryptographyAead(),), seed=1),
    )


class Calls:
    """Names of the kernels that Python has called, and how often it has called an engine."""

    def __init__(self) -> None:
        self.kernels: list[str] = []
        self.engines = 0

    def clear(self) -> None:
        self.kernels.clear()
        self.engines = 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    kernel, run = Kernel.__call__, Serving.run

    def called(self: Kernel, *arguments: Any) -> Any:
        found.kernels.append(self.name)
        return kernel(self, *arguments)

    def asked(self: Serving, job: Any) -> None:
        found.engines += 1
        run(self, job)

    monkeypatch.setattr(Kernel, "__call__", called)
    monkeypatch.setattr(Serving, "run", asked)
    return found


class Stage:
    """A client and a server that know each other, with a packet flow between them and no audit in sight."""

    def __init__(self, fec: float = 0.0) -> None:
        self.network = Network(DataplaneConfig(), engines=lent)
        self.network.add_path(1, LinkProfile(rate=1e9, delay=0.001))
        self.near = self.network.open_packets("udp:")
        self.network.run(1.0)
        for end in (self.network.client, self.network.server):
            for serving in end.plane.context.engines:
                serving.lease.words[LEFT] = 1 << 40
        self.now = self.network.now
        self.arena = Arena(512, 2048)
        self.batch = packet_batch(self.arena.memory, 512, np.zeros((1, 28), np.uint8))

    @property
    def far(self) -> MemoryPacketPort:
        return self.network.accepted_packets["udp:"]

    def carry(self, outgoing: Any) -> tuple[PacketBatch, int]:
        """Return what was sent as what is received."""
        for i in range(outgoing.packets):
            start, size = int(outgoing.batch.offset[i]), int(outgoing.batch.length[i])
            self.batch.offset[i], self.batch.length[i] = i * 2048, size
            self.batch.memory[i * 2048 : i * 2048 + size] = outgoing.batch.memory[start : start + size]
        return self.batch, outgoing.packets


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_turn_in_which_nothing_is_due_makes_one_call(stage: Stage, calls: Calls) -> None:
    plane = stage.network.client.plane
    plane.transmit(stage.now)
    calls.clear()
    outgoing = plane.transmit(stage.now)
    assert (outgoing.packets, outgoing.more) == (0, False)
    assert calls.kernels == [DEPART]
    assert calls.engines == 0


@pytest.mark.parametrize("packets", [1, 20])
def test_what_leaves_and_what_arrives_is_a_call_each_however_much_it_is(
    stage: Stage, calls: Calls, packets: int
) -> None:
    client, server = stage.network.client.plane, stage.network.server.plane
    for number in range(packets):
        stage.near.send(bytes([number]) * 1000)
    calls.clear()
    outgoing = client.transmit(stage.now)
    assert outgoing.packets > packets * 3 // 4  # several may share a shard
    assert not outgoing.more
    assert [name for name in calls.kernels if "turn_kernels" in name] == [DEPART]
    assert calls.engines == 0
    assert client.next_event(stage.now) > stage.now, "it would turn again for nothing"
    batch, count = stage.carry(outgoing)
    calls.clear()
    assert len(server.receive(batch, count, 1, stage.now)) == 0
    assert [name for name in calls.kernels if "turn_kernels" in name] == [ARRIVE]
    assert calls.engines == 0
    assert stage.far.bodies[-packets:] == [bytes([number]) * 1000 for number in range(packets)]


def test_a_row_that_is_to_be_computed_twice_goes_through_whoever_serves(stage: Stage, calls: Calls) -> None:
    client, server = stage.network.client.plane, stage.network.server.plane
    for plane, operation in ((client, "seal"), (server, "open")):
        getattr(plane.context.engines, operation).lease.words[LEFT] = 1
    stage.near.send(b"watched" * 100)
    calls.clear()
    outgoing = client.transmit(stage.now)
    batch, count = stage.carry(outgoing)
    server.receive(batch, count, 1, stage.now)
    assert calls.engines == 2
    assert client.context.engines.seal.counts["audited"] > 0
    assert server.context.engines.open.counts["audited"] > 0
    assert stage.far.bodies[-1] == b"watched" * 100


def stage_lines(plane: Dataplane) -> dict[str, list[int]]:
    return {name: line.tolist() for name, line in zip(STAGES, plane.context.counters, strict=True)}


def test_stages_are_counted_as_if_each_was_called(stage: Stage) -> None:
    client, server = stage.network.client.plane, stage.network.server.plane
    before = stage_lines(client), stage_lines(server)
    for _ in range(5):
        stage.near.send(bytes(1000))
    outgoing = client.transmit(stage.now)
    server.receive(*stage.carry(outgoing), 1, stage.now)
    after = stage_lines(client), stage_lines(server)
    for side, names in ((0, ("schedule", "seal")), (1, ("open", "accept"))):
        for name in names:
            calls, packets, _, ns = (b - a for a, b in zip(before[side][name], after[side][name], strict=True))
            assert calls >= 1
            assert packets == outgoing.packets
            assert ns > 0
