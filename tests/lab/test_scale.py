"""A thousand clients of one worker, a hundred of them busy: counted, not timed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.limits import Limits

CLIENTS = 1000
ACTIVE = 100
LINK = LinkProfile(rate=20e6, delay=0.01, queue_bytes=200_000)


def planned(network: Network) -> int:
    """Return how many sessions the server has looked at so far."""
    return int(network.server.plane.context.tables.pool[0]["planned_sessions"])


def crowd(count: int, config: DataplaneConfig | None = None) -> Network:
    """Return a network of so many clients whose paths are up and at rest."""
    network = Network(config or DataplaneConfig(limits=Limits(rows=32768), keepalive=60.0))
    for number in range(1, count + 1):
        network.add_client(number, LINK)
    network.run(1.0)
    return network


def jain(shares: list[float]) -> float:
    """Return Jain's index of fairness: 1 = all the same."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


@pytest.mark.slow
def test_a_thousand_clients_of_which_a_hundred_are_active() -> None:
    network = crowd(CLIENTS)
    plane = network.server.plane
    states = {lane["state"] for lane in plane.snapshot()["lanes"]}  # type: ignore[attr-defined]
    assert states == {"active"}

    before = planned(network)
    network.run(3.0)
    assert planned(network) == before  # nothing happens to them, and none is due

    busy = range(1, ACTIVE + 1)
    idle_sent = plane.context.tables.lane["sent"][[lane for lane in plane.sessions.lanes() if lane >= ACTIVE]].copy()
    stages = {row["name"]: dict(row) for row in plane.snapshot()["stages"]}  # type: ignore[attr-defined]
    ports = {}
    for number in busy:
        port = ports[number] = MemoryPort()
        port.feed(bytes(1 << 20))
        network.open(f"client:{number}", port, SESSION + number)
    turns = stages["schedule"]["calls"]
    before = planned(network)
    network.run(3.4)
    after = {row["name"]: row for row in plane.snapshot()["stages"]}  # type: ignore[attr-defined]
    looked = planned(network) - before
    # all of them idle: no more sessions were looked at than packets came or went, and timers of busy ones were due
    packets = (
        after["open"]["packets"] - stages["open"]["packets"] + after["seal"]["packets"] - stages["seal"]["packets"]
    )
    assert packets > 3_000
    assert looked < 3 * packets
    assert looked < (after["schedule"]["calls"] - turns) * ACTIVE
    idle_after = plane.context.tables.lane["sent"][[lane for lane in plane.sessions.lanes() if lane >= ACTIVE]]
    assert np.array_equal(idle_sent, idle_after)

    shares = [float(len(network.accepted[f"client:{number}"].received)) for number in busy]
    assert jain(shares) > 0.9
    assert network.server.rows_in_use < 16384
    check_tables(plane)


def test_an_idle_session_is_not_looked_at_while_another_is_busy() -> None:
    network = crowd(8)
    port = MemoryPort()
    port.feed(bytes(200_000))
    port.finish()
    network.open("one", port, SESSION + 1)
    t = network.server.plane.context.tables
    lanes = {int(t.lane[lane]["session"]): lane for lane in network.server.plane.sessions.lanes()}
    before, sent = planned(network), {row: int(t.lane[lane]["sent"]) for row, lane in lanes.items()}
    network.run(1.5, lambda: network.accepted.get("one") is not None and network.accepted["one"].ended)
    assert len(network.accepted["one"].received) == 200_000
    row = network.server.plane.sessions.row(SESSION + 1)
    looked = planned(network) - before
    moved = {session for session, lane in lanes.items() if int(t.lane[lane]["sent"]) != sent[session]}
    assert moved == {row}
    turns = network.server.plane.context.counters[6][0]
    assert 0 < looked < turns  # at most the one that is busy, at every turn


def test_keepalives_are_sent_in_time_and_no_turn_is_made_between() -> None:
    network = crowd(50, DataplaneConfig(limits=Limits(rows=8192), keepalive=1.0))
    network.run(2.5)
    t = network.server.plane.context.tables
    for lane in network.server.plane.sessions.lanes():
        assert network.now - float(t.lane[lane]["last_sent"]) <= 1.0 + 2e-3
    assert float(network.server.plane.next_event(network.now)) > network.now


def test_full_batches_go_round() -> None:
    """A batch holds the packets of a few sessions only: the others come next, not after the first ones' next turn."""
    network = Network(DataplaneConfig(limits=Limits(rows=16384), batch=16))
    for number in range(1, 21):
        network.add_client(number, LINK)
    for number in range(1, 21):
        port = MemoryPort()
        port.feed(bytes(400_000))
        network.open(f"client:{number}", port, SESSION + number)
    network.run(0.25)
    assert jain([float(len(network.accepted[f"client:{number}"].received)) for number in range(1, 21)]) > 0.9


def test_the_row_of_a_session_that_ended_is_free_for_the_next() -> None:
    config = DataplaneConfig(limits=Limits(sessions=2, flows=16, rows=1024))
    network = Network(config)
    for number in range(1, 40):
        network.add_client(number, LINK)
        network.run(network.now + 0.1)
        for end in (network.client, network.server):
            end.plane.end_session(SESSION + number, network.now)
            assert not end.plane.sessions.lanes()
            check_tables(end.plane)
    network.add_client(40, LINK)
    network.add_client(41, LINK)
    for number in (40, 41):
        port = MemoryPort()
        port.feed(b"x" * 5000)
        network.open(f"client:{number}", port, SESSION + number)
    network.run(network.now + 0.5)
    assert [len(network.accepted[f"client:{number}"].received) for number in (40, 41)] == [5000, 5000]
