"""Turns without Python: two workers over loopback, with a pair of datagram sockets in each device's place."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from accel.lease import LEFT
from tests.packets import PLAIN, UDP, packet, transport
from tests.unit.vantun.dataplane.fast_pair import CHOSEN, NEAR, Device, Pair
from vantun.dataplane import fast_path, tun_port
from vantun.dataplane.wake import IN_AT, OUT_AT
from vantun.dataplane.warm import warm
from vantun.dataplane.worker_engines import open_engines
from vantun.session.ingest import _RECEIPT_PACKETS as RECEIPT_PACKETS
from vantun.tun_messages import TunLost
from vantun.worker_messages import Misses, Ping, Pong, encode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FAR = "192.0.2.1"


def numbered(count: int, source: str, target: str, size: int = 600) -> list[bytes]:
    """Return so many packets of about ``size`` bytes, no two of them equal."""
    return [
        packet(source, target, UDP, transport(UDP, payload=number.to_bytes(4, "big") + bytes(size)))
        for number in range(count)
    ]


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    """Compile every kernel first: a lane that hears nothing for as long as that takes is dead."""
    warm(lambda: open_engines(CHOSEN))


@pytest.fixture(params=[1, 2])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(tun_port, "TunDevice", SimpleNamespace(adopt=lambda descriptor, _takes: Device(descriptor)))
    monkeypatch.setattr(fast_path, "LONGEST", 1e-3)
    made = Pair(request.param)
    yield made
    for worker in made.both:
        worker.close()


def test_packets_pass_both_ways_without_python_and_everything_is_counted(pair: Pair) -> None:
    there, back = numbered(400, NEAR, FAR), numbered(300, FAR, NEAR)
    before = [worker.of("worker", "fast_turns") for worker in pair.both]
    assert sorted(pair.carry(pair.client, pair.server, there)) == sorted(there)
    assert sorted(pair.carry(pair.server, pair.client, back)) == sorted(back)
    for worker, then in zip(pair.both, before, strict=True):
        assert worker.of("worker", "fast_turns") - then >= 20
    pair.idle()
    assert pair.client.of("tun", "packets", "out") == pair.server.of("tun", "packets", "in") == len(there)
    assert pair.server.of("tun", "packets", "out") == pair.client.of("tun", "packets", "in") == len(back)
    for number in range(len(pair.ports)):
        sent = [worker.of("udp", str(number), "send", "packets") for worker in pair.both]
        got = [worker.of("udp", str(number), "receive", "packets") for worker in pair.both]
        assert sent == got[::-1]
        assert sent[0] > 0


def test_what_an_engine_has_to_be_asked_for_is_done_where_the_turn_was_left(pair: Pair) -> None:
    engines = [worker.plane.context.engines for worker in pair.both]
    wanted = numbered(200, NEAR, FAR)
    found: list[bytes] = []
    for start in range(0, len(wanted), 20):
        for each in engines:
            each.seal.lease.view[LEFT] = each.open.lease.view[LEFT] = 1
        found += pair.carry(pair.client, pair.server, wanted[start : start + 20])
    assert sorted(found) == sorted(wanted)


def test_a_stranger_is_told_of_and_a_command_answered_at_once(pair: Pair) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"hello, who is there?", ("127.0.0.1", pair.ports[0][0]))
        pair.until(lambda: any(isinstance(message, Misses) for message in pair.client.heard))
        told = next(message for message in pair.client.heard if isinstance(message, Misses))
        assert told.datagrams == ((b"hello, who is there?", "127.0.0.1", stranger.getsockname()[1]),)
    pair.client.control.send(encode(Ping(9)))
    pair.until(lambda: Pong(9) in pair.client.heard)


def test_a_device_that_is_gone_is_given_up(pair: Pair) -> None:
    pair.server.device.close()
    pair.client.device.send(PLAIN + numbered(1, NEAR, FAR)[0])
    pair.until(lambda: any(isinstance(message, TunLost) for message in pair.server.heard))


@pytest.mark.parametrize("pair", [1], indirect=True)
def test_a_receipt_leaves_in_the_turn_that_has_brought_enough_for_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns that bring enough for one each would never send any if it were left to the next."""
    loop, lanes = pair.server.loop, pair.server.plane.context.tables.lane
    near, fast = pair.client.plane.context.tables.lane, loop._fast
    assert fast is not None
    for worker in pair.both:  # nothing is given up, however slowly this proceeds
        policy = worker.plane.context.tables.policy[0]
        policy["hold_min"] = policy["hold_max"] = 60.0
    most, full = 1e-4, 0
    while full < 3 and most < 1.0:
        bodies = numbered(2 * RECEIPT_PACKETS, NEAR, FAR, 1300)
        monkeypatch.setattr(fast_path, "LONGEST", 1e-4)
        for start in range(0, len(bodies), 8):
            near["cwnd"], near["tokens"], near["pacing_rate"] = 1e8, 1e6, 1e9  # nothing waits for a RECEIPT
            for body in bodies[start : start + 8]:
                pair.client.device.send(PLAIN + body)
            pair.client.step()
        received = lanes["received"].copy()
        most *= 1.25  # whatever a machine takes for a turn, some runs end with the first
        monkeypatch.setattr(fast_path, "LONGEST", most)
        if fast.run(loop._clock() + 1.0, 0):
            if fast.turns > 0 and not fast.begun:
                full += int((lanes["received"] - received).max() >= RECEIPT_PACKETS)
                assert lanes["unreported"].max() < RECEIPT_PACKETS
            loop._follow(fast)
        monkeypatch.setattr(fast_path, "LONGEST", 1e-3)
        for _ in range(30):
            for worker in pair.both:
                worker.step()
            pair.server.bodies()
    assert full, "no turn has brought enough for a RECEIPT"


def test_who_answers_is_noticed_so_that_nobody_waits_for_a_long_rest(pair: Pair) -> None:
    words = [worker.loop._wake.words for worker in pair.both]
    for each in words:
        each[[OUT_AT, IN_AT]] = 0.0
    pair.carry(pair.client, pair.server, numbered(50, NEAR, FAR))
    pair.idle()
    assert words[0][OUT_AT] > 0.0 == words[0][IN_AT]
    assert words[1][IN_AT] > 0.0 == words[1][OUT_AT]
    pair.carry(pair.server, pair.client, numbered(50, FAR, NEAR))
    pair.idle()
    assert all(each[OUT_AT] > 0.0 < each[IN_AT] for each in words)
    words[0][[OUT_AT, IN_AT]] = 0.0
    pair.client.control.send(encode(Ping(9)))
    pair.until(lambda: Pong(9) in pair.client.heard)
    assert words[0][OUT_AT] == words[0][IN_AT] == 0.0, "the control process asks now and then, and can wait"
    source, sink = os.pipe()
    seen: list[int] = []
    pair.client.loop.watch(source, lambda: seen.append(source))
    os.write(sink, b"x")
    pair.until(lambda: bool(seen))
    os.close(source)
    os.close(sink)
    assert words[0][OUT_AT] == words[0][IN_AT] > 0.0, "something else has happened"
