"""What a tunnel reaches over given links, in virtual time: goodput against the ceiling, and request latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.config import DataplaneConfig
from vantun.errors import VerificationError
from vantun.lab.ceiling import path_ceiling
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import FRAME_OVERHEAD, LinkProfile
from vantun.lab.network import Network

_CHUNK = 1 << 20
_REQUEST = 1000
_TARGET = "origin.example:80"


@dataclass(frozen=True)
class Goodput:
    """One bulk flow, server to client. ``ceiling_share`` = goodput / ceiling; overhead = sent / delivered bytes."""

    goodput_bps: float
    ceiling_share: float
    wire_overhead: float
    queue_drops: int
    rtt_ms: float


@dataclass(frozen=True)
class Requests:
    """Requests of 1 kB each way on open flows; milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    rtt_ms: float


class _Fountain(MemoryPort):
    """A port that never runs dry."""

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        if self.fed < _CHUNK:
            self.feed(bytes(_CHUNK))
        return super().readv(iov, count)


class _Sink(MemoryPort):
    """A port that counts what it takes and keeps nothing: seconds of bulk would fill the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        if self._broken:
            raise ConnectionResetError("the lab broke this stream")
        taken = int(iov[:count, 1].sum())
        self.total += taken
        return taken


class _Echo(MemoryPort):
    """A port that sends back whatever comes."""

    def __init__(self, network: Network, target: str) -> None:
        super().__init__()
        self._network = network
        self._target = target

    def writev(self, iov: NDArray[np.uint64], count: int) -> int:
        """See StreamPort."""
        before = len(self.received)
        taken = super().writev(iov, count)
        if taken > 0:
            self.feed(bytes(self.received[before:]))
            self._network.server.plane.readable(self._network.handles[self._target])
        return taken


def bulk(network: Network, *, warm: float = 2.0, window: float = 4.0) -> Goodput:
    """Measure an endless download for ``window`` virtual seconds, ``warm`` after its start; it is reset at the end."""
    network.accept_with = lambda _: _Fountain()
    near = _Sink()
    network.open(_TARGET, near)
    network.run(network.now + warm)
    start, wire = near.total, _wire(network)
    network.run(network.now + window)
    size = near.total - start
    most = sum(
        path_ceiling(link.profile.rate, link.profile.loss)
        for (_, direction), link in network.links.items()
        if direction == 1
    )
    goodput = Goodput(
        goodput_bps=size * 8 / window,
        ceiling_share=size * 8 / window / most,
        wire_overhead=(_wire(network) - wire) / size,
        queue_drops=sum(link.counters()["tail_dropped"] for (_, way), link in network.links.items() if way == 1),
        rtt_ms=float(network.server.plane.context.tables.lane[0]["srtt"]) * 1e3,
    )
    near.break_stream()
    network.run(network.now + 0.5)
    return goodput


def _wire(network: Network) -> int:
    """Return the frame bytes that the server has sent."""
    lanes = network.server.plane.context.tables.lane
    return int((lanes["sent_bytes"] + lanes["sent"] * FRAME_OVERHEAD)[lanes["used"] == 1].sum())


def requests(network: Network, *, count: int = 400, interval: float = 0.05, flows: int = 4) -> Requests:
    """Send ``count`` requests of 1 kB, one every ``interval`` seconds in turn on ``flows`` open flows, timed."""
    network.accept_with = lambda target: _Echo(network, target)
    ports = [MemoryPort() for _ in range(flows)]
    handles = [network.open(f"echo{i}.example:7", port) for i, port in enumerate(ports)]
    network.run(network.now + 2.0, lambda: all(port.opened for port in ports))
    network.run(network.now + 0.5)
    latencies: list[float] = []
    waiting: list[tuple[MemoryPort, int, float]] = []
    sent = [0] * flows

    def settled() -> bool:
        for entry in list(waiting):
            port, wanted, since = entry
            if len(port.received) >= wanted:
                latencies.append(network.now - since)
                waiting.remove(entry)
        return not waiting

    for turn in range(count):
        flow = turn % flows
        ports[flow].feed(bytes(_REQUEST))
        sent[flow] += _REQUEST
        waiting.append((ports[flow], sent[flow], network.now))
        network.client.plane.readable(handles[flow])
        until = network.now + interval
        while network.now < until:
            settled()
            network.run(min(until, network.now + 0.0005))
    if not network.run(network.now + 10.0, settled):
        raise VerificationError(f"{len(waiting)} of {count} requests were not answered within 10 virtual seconds")
    ordered = np.sort(np.array(latencies)) * 1e3
    links = [link.profile.delay for link in network.links.values()]
    return Requests(
        count=len(ordered),
        p50_ms=float(ordered[len(ordered) // 2]),
        p99_ms=float(ordered[min(len(ordered) - 1, -(-len(ordered) * 99 // 100) - 1)]),
        max_ms=float(ordered[-1]),
        rtt_ms=2e3 * min(links),
    )


def network_of(profile: LinkProfile, *, rate: float = 0.0, fec: bool = True, seed: int = 1, mtu: int = 1200) -> Network:
    """Return a network with one path of ``profile`` each way; ``rate`` (bit/s) makes both ends use ``brutal``."""
    network = Network(DataplaneConfig(fec=fec), seed=seed)
    network.add_path(1, profile, rate=rate, mtu=mtu)
    return network
