"""Rates of users, shared by all their sessions: kept in both directions, without a lost byte, others unharmed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vantun.dataplane.config import DataplaneConfig
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.limits import Limits

LINK = LinkProfile(rate=40e6, delay=0.01, queue_bytes=400_000)
DOWN, UP = 8e6, 4e6


def two_users() -> Network:
    """Return a network where alice has two clients and a limit, and bob has one and none."""
    network = Network(DataplaneConfig(limits=Limits(sessions=8, flows=64, rows=16384)))
    for number, user in ((1, "alice"), (2, "alice"), (3, "bob")):
        network.add_client(number, LINK, user)
    network.server.plane.limit_users({"alice": (DOWN, UP), "carol": (1e6, 1e6)}, network.now)
    return network


def user(network: Network, name: str) -> dict[str, object]:
    rows = network.server.plane.snapshot()["users"]
    assert isinstance(rows, list)
    return next(row for row in rows if row["user"] == name)


def test_what_is_sent_to_a_user_keeps_to_the_rate() -> None:
    network = two_users()
    network.on_accept = lambda _, port: port.feed(bytes(12 << 20))
    ports = [MemoryPort() for _ in range(3)]
    for number, port in enumerate(ports, 1):
        network.open(f"get:{number}", port, SESSION + number)
    network.run(1.0)
    before = [len(port.received) for port in ports]
    network.run(3.0)
    moved = [(len(port.received) - start) * 8 / 2.0 for port, start in zip(ports, before, strict=True)]
    assert 0.85 * DOWN < moved[0] + moved[1] <= DOWN
    assert 0.3 < moved[0] / moved[1] < 3.0
    assert moved[2] > 0.8 * LINK.rate
    assert user(network, "alice")["send_limit_bps"] == DOWN
    assert user(network, "bob")["send_limit_bps"] == 0


def test_what_a_user_sends_keeps_to_the_rate_and_nothing_is_lost() -> None:
    network = two_users()
    data = bytes(range(256)) * 8192
    ports = [MemoryPort() for _ in range(3)]
    for number, port in enumerate(ports, 1):
        port.feed(data * (1 if number < 3 else 6))
        port.finish()
        network.open(f"put:{number}", port, SESSION + number)
    network.run(1.0)
    before = [len(network.accepted[f"put:{number}"].received) for number in (1, 2, 3)]
    network.run(3.0)
    after = [len(network.accepted[f"put:{number}"].received) for number in (1, 2, 3)]
    moved = [(end - start) * 8 / 2.0 for start, end in zip(before, after, strict=True)]
    assert 0.85 * UP < moved[0] + moved[1] < 1.05 * UP
    assert moved[2] > 0.7 * LINK.rate or network.accepted["put:3"].ended
    network.server.plane.limit_users({}, network.now)  # as a reload does
    assert network.run(20.0, lambda: all(network.accepted[f"put:{number}"].ended for number in (1, 2, 3)))
    assert network.accepted["put:1"].received == data
    counted = user(network, "alice")
    assert isinstance(counted["received_bytes"], int)
    assert counted["received_bytes"] > 2 * len(data)


def test_packets_beyond_the_rate_are_dropped_and_counted() -> None:
    network = two_users()
    port = network.open_packets("udp:", SESSION + 1)
    for _ in range(200):
        for _ in range(20):
            port.send(bytes(1000))
        network.run(network.now + 0.01)
    network.run(network.now + 0.5)
    got = sum(map(len, network.accepted_packets["udp:"].bodies))
    assert 0.8 * UP < got * 8 / 2.0 < 1.3 * UP
    dropped = user(network, "alice")["dropped_rate"]
    assert isinstance(dropped, int)
    assert dropped > 100


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_bytes_are_counted_for_ever(name: str) -> None:
    network = two_users()
    number = 1 if name == "alice" else 3
    port = MemoryPort()
    port.feed(bytes(50_000))
    network.open("put", port, SESSION + number)
    network.run(0.5)
    before = user(network, name)
    network.server.plane.end_session(SESSION + number, network.now)
    assert user(network, name)["received_bytes"] == before["received_bytes"]
    assert isinstance(before["received_bytes"], int)
    assert before["received_bytes"] > 50_000


class _Words:
    """Notes when each of many small messages of a stream arrives."""

    def __init__(self, network: Network, target: str) -> None:
        self.network = network
        self.port = MemoryPort()
        self.handle = network.open(target, self.port, SESSION + 1)
        self.target = target
        self.sent: list[float] = []
        self.came: list[float] = []

    def say(self) -> None:
        """Send a message of 100 bytes, and note what has come."""
        self.port.feed(bytes(100))
        self.network.client.plane.readable(self.handle)
        self.sent.append(self.network.now)

    def look(self) -> None:
        port = self.network.accepted.get(self.target)
        while port is not None and len(self.came) < len(port.received) // 100:
            self.came.append(self.network.now)

    def longest(self) -> float:
        """Return the longest time that a message took; those that never came took until now."""
        came = self.came + [self.network.now] * (len(self.sent) - len(self.came))
        return max(end - begin for begin, end in zip(self.sent, came, strict=True))


def _meanwhile(network: Network, words: _Words, flood: Callable[[], None]) -> None:
    """Have a message said every 100 ms, for four seconds, while something else wants all of the rate."""
    while network.now < 4.0:
        words.say()
        until = network.now + 0.1
        while network.now < until:
            flood()
            network.run(network.now + 0.005)
            words.look()


def test_a_bulk_stream_at_its_users_rate_does_not_hold_up_his_others() -> None:
    network = two_users()
    network.run(0.1)
    bulk = MemoryPort()
    bulk.feed(bytes(4 << 20))
    network.open("bulk", bulk, SESSION + 1)
    words = _Words(network, "words")
    _meanwhile(network, words, lambda: None)
    assert 0.8 * UP < len(network.accepted["bulk"].received) * 8 / 3.9 < 1.3 * UP
    assert words.longest() < 0.15


def test_packets_beyond_the_rate_do_not_hold_up_streams_of_the_user() -> None:
    network = two_users()
    network.run(0.1)
    packets = network.open_packets("udp:", SESSION + 1)
    words = _Words(network, "words")
    _meanwhile(network, words, lambda: packets.send(*(bytes(1000) for _ in range(10))))
    got = sum(map(len, network.accepted_packets["udp:"].bodies))
    assert 0.8 * UP < got * 8 / 3.9 < 1.3 * UP
    assert words.longest() < 0.15
