"""The cache of sockets that answer in other names: bounded, the one not used goes first, failures are counted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.errors import SystemCallError
from drivers.linux.address import pack
from drivers.linux.transparent import transparent_socket
from drivers.linux.udp_counters import UdpCounters
from vantun.dataplane.udp_transparent import AnsweringSockets


def row(host: str, port: int) -> NDArray[np.uint8]:
    return np.frombuffer(pack(host, port), np.uint8)


@pytest.fixture
def counters() -> UdpCounters:
    try:
        transparent_socket("127.0.0.1", 0, listening=False).close()
    except SystemCallError:
        pytest.skip("needs CAP_NET_ADMIN")
    return UdpCounters()


def test_sockets_are_kept_and_bounded(counters: UdpCounters) -> None:
    sockets = AnsweringSockets(counters, most=2)
    first = sockets.descriptor(row("198.51.100.1", 53))
    assert first >= 0
    sockets.descriptor(row("198.51.100.2", 53))
    assert sockets.descriptor(row("198.51.100.1", 53)) == first
    sockets.descriptor(row("198.51.100.3", 53))
    assert len(sockets) == 2
    assert sockets.descriptor(row("198.51.100.1", 53)) == first
    sockets.close()
    assert len(sockets) == 0


def test_what_cannot_be_answered_from_is_counted(counters: UdpCounters) -> None:
    sockets = AnsweringSockets(counters)
    assert sockets.descriptor(np.zeros(28, np.uint8)) == -1
    assert sum(counters.dropped.values()) == 1
    sockets.close()
