"""How many rows a read of a port is given: many where reads are large, few elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.config import DataplaneConfig
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import Network

LARGE = 1 << 20


class CountingPort(MemoryPort):
    """A port that keeps how many rows each read was given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def readv(self, iov: NDArray[np.uint64], count: int) -> int:
        self.rows.append(count)
        return super().readv(iov, count)


class Sender:
    """A client with flows whose lane is so fast, and whose credit so wide, that reading is bounded by the stage alone.

    Nothing of what it sends arrives.
    """

    def __init__(self, flows: int) -> None:
        network = Network(DataplaneConfig(window_initial=1 << 24))
        network.add_path(1, LinkProfile(rate=1e9, delay=0.001))
        self.plane = network.client.plane
        self.ports = [CountingPort() for _ in range(flows)]
        self.handles = [network.open("127.0.0.1:9", port) for port in self.ports]
        network.run(1.0)
        self.now = network.now
        self.plane.context.tables.lane["pacing_rate"] = 1e12
        for port in self.ports:
            port.rows.clear()

    def feed(self, size: int) -> list[list[int]]:
        """Give every port so many bytes and read them all once; return the rows of each port's reads."""
        for port, handle in zip(self.ports, self.handles, strict=True):
            port.feed(bytes(size))
            self.plane.readable(handle)
        self.plane.transmit(self.now)
        found = [list(port.rows) for port in self.ports]
        for port in self.ports:
            port.rows.clear()
        return found


def test_a_flow_whose_reads_are_large_is_given_more_rows() -> None:
    sender = Sender(1)
    assert sender.feed(LARGE) == [[64]]
    assert sender.feed(0) == [[256]]


def test_a_small_read_ends_it() -> None:
    sender = Sender(1)
    assert sender.feed(100_000) == [[64]]
    assert sender.feed(0) == [[256]], "which finds no more than the rest"
    assert sender.feed(0) == [[64]]


def test_flows_share_the_rows_of_a_round() -> None:
    sender = Sender(2)
    assert sender.feed(LARGE) == [[64], [64]]
    assert sender.feed(0) == [[128], [128]]
