from __future__ import annotations

import asyncio

from vantun.control.backoff import FIRST, LONGEST, Backoff
from vantun.control.pump import Pump


class Echo:
    """A QUIC end that answers every datagram with an event and a datagram, and has one timer."""

    def __init__(self) -> None:
        self.due: float | None = None
        self.happened: list[str] = []
        self.waiting: list[bytes] = []
        self.ran = 0

    def receive(self, data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        assert (socket, peer) == (3, ("a", 1))
        self.waiting.append(data)
        self.happened.append(f"got {data.decode()}")

    def transmit(self, now: float) -> list[tuple[int, bytes, tuple[str, int]]]:
        waiting, self.waiting = self.waiting, []
        return [(3, data.upper(), ("a", 1)) for data in waiting]

    def timer(self) -> float | None:
        return self.due

    def run_timers(self, now: float) -> None:
        assert self.due is not None
        assert now >= self.due
        self.ran += 1
        self.due = None if self.ran == 3 else now
        self.happened.append("timer")

    def take_events(self) -> list[str]:
        happened, self.happened = self.happened, []
        return happened


def test_events_come_before_the_datagrams_of_their_batch() -> None:
    async def scenario() -> None:
        log: list[str | bytes] = []
        pump = Pump(Echo(), lambda _number, data, _peer: log.append(data), log.append)
        pump.receive(b"a", 3, ("a", 1))
        pump.receive(b"b", 3, ("a", 1))
        await asyncio.sleep(0)
        assert log == ["got a", "got b", b"A", b"B"]
        pump.receive(b"c", 3, ("a", 1))
        pump.stop()
        pump.receive(b"d", 3, ("a", 1))
        await asyncio.sleep(0)
        assert len(log) == 4, "nothing happens after stop"

    asyncio.run(scenario())


def test_the_timer_runs_until_there_is_none() -> None:
    async def scenario() -> None:
        end = Echo()
        end.due = asyncio.get_running_loop().time()
        log: list[str] = []
        pump = Pump(end, lambda *_: None, log.append)
        pump.wake()
        async with asyncio.timeout(30):
            while end.ran < 3:
                await asyncio.sleep(0)
        assert log == ["timer"] * 3
        pump.stop()

    asyncio.run(scenario())


def test_waiting_doubles_up_to_a_bound() -> None:
    longest = Backoff(lambda _low, high: high)
    assert [longest.next() for _ in range(8)] == [FIRST, 0.5, 1.0, 2.0, 4.0, 8.0, LONGEST, LONGEST]
    longest.reset()
    assert longest.next() == FIRST
    shortest = Backoff(lambda low, _high: low)
    assert [shortest.next(), shortest.next()] == [FIRST / 2, FIRST]
