"""RECEIPTs of a receiver that takes in hundreds of packets at a time: what has arrived is not taken for lost."""

from __future__ import annotations

import numpy as np

from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network

SERVER = 1
LOSS = 0.06
LINK = LinkProfile(rate=2e9, delay=0.0005, loss=LOSS, queue_bytes=1 << 24)
TURN = 0.0035
"""Seconds between two looks at the socket: seven hundred packets, of which forty are missing."""


def test_every_packet_of_a_burst_is_reported_and_parity_covers_what_is_lost() -> None:
    network = Network(seed=11)
    network.add_path(1, LINK, back=LinkProfile(rate=2e9, delay=0.0005))
    port = network.open_packets("tun:")
    network.run(0.2)
    lane = network.client.plane.context.tables.lane[0]
    body = np.random.default_rng(3).bytes(60_000)
    seen = []
    while network.now < 0.6:
        if port.fed < 64:
            port.send(*[body] * 64)
        network.pause(SERVER)
        network.run(network.now + TURN)
        network.wake(SERVER)
        network.run(network.now + 0.001)
        seen.append(float(lane["loss_seen"]))
    sent, lost = int(lane["sent"]), int(lane["lost"])
    assert sent > 40_000, "bursts were small, and nothing was shown"
    assert lost < 1.3 * LOSS * sent
    assert max(seen[10:]) < 2 * LOSS
    received = int(network.server.plane.context.tables.lane[0]["received"])
    assert received > (1 - 1.3 * LOSS) * (sent - int(lane["in_flight_packets"]))
    assert int(network.client.plane.context.tables.session["used"].sum()) == 1
    network.client.plane.end_session(SESSION, network.now)
