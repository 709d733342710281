"""Streams whose sockets compiled code reads and writes, in turns without Python, and Python in its place beside it."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.property.invariants import check_tables
from tests.unit.vantun.dataplane.fast_pair import CHOSEN, Device, Pair, Worker
from vantun.dataplane import fast_path, tun_port
from vantun.dataplane.stream_kernels import ROWS
from vantun.dataplane.wake import IN_AT, OUT_AT
from vantun.dataplane.warm import warm
from vantun.dataplane.worker_engines import open_engines
from vantun.session.flows import want_delivery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BULK = 2_000_000


class End:
    """A program: what it still has to send, and what it has got. ``pace`` = bytes that it reads at a time."""

    def __init__(self, sock: socket.socket, data: bytes = b"", pace: int = 1 << 20) -> None:
        self.sock, self.pace = sock, pace
        self.left = memoryview(data)
        self.got = bytearray()
        self.ended = self.broken = self.finish = False

    def move(self) -> None:
        """Send and receive as much as goes; end the stream behind what was to be sent if ``finish``."""
        with suppress(OSError):  # full, or reset, which receiving finds out as well
            while self.left:
                self.left = self.left[self.sock.send(self.left[: 1 << 18]) :]
        if self.finish and not self.left and not self.broken:
            self.sock.shutdown(socket.SHUT_WR)
            self.finish = False
        try:
            part = self.sock.recv(self.pace) if self.pace else None
        except BlockingIOError:
            return
        except ConnectionError:
            self.broken = True
            return
        self.ended = self.ended or part == b""
        self.got += part or b""

    def break_off(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Streams:
    """Streams of a pair, each with its two ends."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.ends: list[tuple[End, End]] = []

    def add(self, up: bytes = b"", down: bytes = b"") -> tuple[End, End]:
        near, far = self.pair.connect(f"target-{len(self.ends)}.example:1")
        self.ends.append((End(near, up), End(far, down)))
        return self.ends[-1]

    def until(self, *wanted: tuple[End, bytes]) -> None:
        """Go on until each of these ends has got what it should; nothing else ever."""

        def done() -> bool:
            for each in self.ends:
                for end in each:
                    if end.sock.fileno() >= 0:
                        end.move()
            return all(len(end.got) >= len(data) for end, data in wanted)

        self.pair.until(done)
        for end, data in wanted:
            assert end.got.startswith(data)

    def steps(self, count: int, *moving: End) -> None:
        for _ in range(count):
            for end in moving:
                end.move()
            for worker in self.pair.both:
                worker.step()

    def until_true(self, end: End, what: str) -> None:
        def done() -> bool:
            end.move()
            return bool(getattr(end, what))

        self.pair.until(done)


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    """Compile every kernel first: a lane that hears nothing for as long as that takes is dead."""
    warm(lambda: open_engines(CHOSEN))


@pytest.fixture(params=["lent", "lent, with a TUN device", "Python"])
def streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    monkeypatch.setattr(tun_port, "TunDevice", Device)
    monkeypatch.setattr(Device, "adopt", staticmethod(lambda descriptor, _takes: Device(descriptor)), raising=False)
    monkeypatch.setattr(fast_path, "LONGEST", 1e-3)
    made = Streams(Pair(1, tun="TUN" in request.param))
    for worker in made.pair.both:
        worker.loop._ports.lends = request.param != "Python"
    yield made
    for each in made.ends:
        for end in each:
            end.sock.close()
    for worker in made.pair.both:
        check_tables(worker.plane)
        worker.close()


def lends(streams: Streams) -> bool:
    return streams.pair.client.loop._ports.lends


def lent(worker: Worker) -> int:
    return int(worker.plane.context.tables.pool[0]["lent"])


def counted(worker: Worker, stage: str) -> int:
    found = worker.plane.snapshot()["stages"]
    assert isinstance(found, list)
    return next(int(each["bytes"]) for each in found if each["name"] == stage)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_bytes_pass_both_ways_in_order_and_are_counted(streams: Streams) -> None:
    up, down = noise(BULK, 1), noise(BULK, 2)
    near, far = streams.add(up, down)
    both = streams.pair.both
    fast = [worker.of("worker", "fast_turns") for worker in both]
    streams.until((far, up), (near, down))
    assert [lent(worker) for worker in both] == ([1, 1] if lends(streams) else [0, 0])
    for worker, before in zip(both, fast, strict=True):
        assert counted(worker, "refill") == counted(worker, "deliver") == BULK
        if lends(streams):
            assert worker.of("worker", "fast_turns") - before > BULK // 1400 // ROWS // 8
            assert worker.loop._wake.words[OUT_AT] == worker.loop._wake.words[IN_AT] > 0.0


def test_the_end_of_a_stream_comes_behind_its_last_byte_and_the_other_way_goes_on(streams: Streams) -> None:
    up, down = noise(300_000, 3), noise(400_000, 4)
    near, far = streams.add(up)
    near.finish = True
    streams.until((far, up))
    streams.until_true(far, "ended")
    assert not near.ended
    far.left, far.finish = memoryview(down), True
    streams.until((near, down))
    streams.until_true(near, "ended")
    streams.pair.idle()
    assert [lent(worker) for worker in streams.pair.both] == [0, 0]


@pytest.mark.parametrize("end", [0, 1])
def test_a_stream_that_a_program_breaks_off_is_reset_at_the_other_end(streams: Streams, end: int) -> None:
    both = streams.add(noise(BULK, 5), noise(BULK, 6))
    streams.steps(30, *both)
    both[end].break_off()
    streams.until_true(both[1 - end], "broken")
    assert not both[1 - end].ended
    streams.pair.idle()
    assert [lent(worker) for worker in streams.pair.both] == [0, 0]
    up = noise(1000, 7)
    _, far = streams.add(up)
    streams.until((far, up))


def test_who_does_not_read_holds_up_his_own_stream_alone(streams: Streams) -> None:
    up = noise(9 * BULK, 8)
    slow, quick = streams.add(up), streams.add()
    slow[1].pace = 0
    streams.steps(400, slow[0])
    table = streams.pair.client.plane.context.tables
    sent = int(table.flow["offset"][table.flow["used"] == 1].max())
    assert 0 < sent < len(up), "credit bounds it"
    for number in range(20):
        word = noise(50, number)
        quick[0].left, quick[1].got[:] = memoryview(word), b""
        streams.until((quick[1], word))
    slow[1].pace = 10_000
    streams.steps(50, *slow)
    slow[1].pace = 1 << 20
    streams.until((slow[1], up[: sent + BULK]))


def test_many_streams_with_a_few_bytes_each_beside_a_large_one(streams: Streams) -> None:
    up = noise(BULK, 9)
    large = streams.add(up)
    words = [noise(random.Random(number).randint(1, 4000), number) for number in range(24)]
    small = [streams.add(word, word[::-1]) for word in words]
    wanted = [(far, word) for (_, far), word in zip(small, words, strict=True)]
    wanted += [(near, word[::-1]) for (near, _), word in zip(small, words, strict=True)]
    streams.until(*wanted, (large[1], up))


def test_a_user_with_a_rate_is_left_to_the_stage(streams: Streams) -> None:
    up = noise(400_000, 10)
    for worker in streams.pair.both:
        worker.plane.context.tables.user["receive_rate"] = 2e6
    _, far = streams.add(up)
    streams.until((far, up))
    assert float(streams.pair.server.plane.context.tables.user["receive_at"].max()) > 0.0, "his tokens were looked at"


def test_credit_that_found_no_room_is_granted_although_no_further_byte_arrives(streams: Streams) -> None:
    if not lends(streams):
        pytest.skip("Python keeps a list of its own for these")
    up = noise(BULK, 11)
    _, far = streams.add(up)
    streams.until((far, up))
    streams.pair.idle()
    table = streams.pair.server.plane.context.tables
    flow = int(table.stream_of.max()) - 1
    granted = int(table.flow[flow]["granted"])
    table.flow[flow]["owed"] = 1
    table.flow[flow]["window"] += 1 << 20
    want_delivery(table.root, flow)
    streams.pair.idle()
    assert int(table.flow[flow]["granted"]) > granted
    assert not table.flow[flow]["owed"]
