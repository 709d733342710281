"""A reset from one QUIC end to the other, in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.control.path_events import PathDown, PathUp
from vantun.lab.link import LinkProfile

CLEAN = LinkProfile(delay=0.02)
STRANGER = ("192.0.2.7", 39999)
SERVER = ("192.0.2.1", 443)


def test_a_server_that_was_restarted_tells_so_with_the_next_packet(tmp_path: Path) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), CLEAN)
    pair.connect(1)
    assert pair.run(5.0, lambda: any(isinstance(event, PathUp) for event in pair.events[1]))
    lane = next(event.lane for event in pair.events[1] if isinstance(event, PathUp))
    again = Pair(server_config(tmp_path), client_config(tmp_path), CLEAN)
    pair.server, before = again.server, pair.server
    packet = (b"\x43" + lane.send_cid).ljust(60, b"x")
    before.receive(packet, 0, ("192.0.2.7", 39999), pair.now)
    assert before.transmit(pair.now) == []  # a lane in use is never reset, whoever asks
    pair.server.receive(packet, 0, ("192.0.2.7", 39999), pair.now)
    (reset,) = [data for _, data, _ in pair.server.transmit(pair.now)]
    assert len(reset) < len(packet)
    pair.paths[1].receive(reset[:-1] + bytes([reset[-1] ^ 1]), 1, ("192.0.2.1", 443), pair.now)
    pair.run(0.5)
    assert not any(isinstance(event, PathDown) for event in pair.events[1])
    pair.paths[1].receive(reset, 1, ("192.0.2.1", 443), pair.now)
    pair.run(0.01)
    down = pair.events[1][-1]
    assert isinstance(down, PathDown)
    assert down.at_once


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_packet_of_any_slice_is_answered_and_the_client_understands(tmp_path: Path, index: int) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), CLEAN)
    pair.connect(1, workers=3)
    assert pair.run(5.0, lambda: any(isinstance(event, PathUp) for event in pair.events[1]))
    lanes = next(event.lanes for event in pair.events[1] if isinstance(event, PathUp))
    pair.server = Pair(server_config(tmp_path), client_config(tmp_path), CLEAN).server
    pair.server.receive((b"\x43" + lanes[index].send_cid).ljust(60, b"x"), 0, STRANGER, pair.now)
    (reset,) = [data for _, data, _ in pair.server.transmit(pair.now)]
    pair.paths[1].receive(reset, 1, SERVER, pair.now)
    pair.run(0.01)
    assert isinstance(pair.events[1][-1], PathDown)
