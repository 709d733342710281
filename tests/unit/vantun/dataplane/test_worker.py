"""Real worker processes on loopback: streams through a pair of them, ends, resets, refusals, misses, snapshots."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

from drivers.linux.udp_bind import bind_udp
from tests.unit.vantun.dataplane.worker_pair import (
    REPLY,
    SESSION,
    WorkerPair,
    lane_pair,
    receive,
    send,
    tcp_pair,
)
from vantun.dataplane.events import FlowClosed, FlowOpened, LaneChanged
from vantun.dataplane.ports import RefusalCode

pytestmark = pytest.mark.slow

T = TypeVar("T")


class Stage:
    """A pair of workers that lives on a loop of its own, through all tests of this file."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.pair = self._loop.run_until_complete(WorkerPair.start())

    def run(self, scenario: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(scenario)

    def close(self) -> None:
        self.run(self.pair.close())
        self._loop.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def payload(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_the_workers_name_their_engines(stage: Stage) -> None:
    assert set(stage.pair.client.engines) == {"fec.encode", "fec.decode", "aead.seal", "aead.open"}
    assert stage.pair.client.pid != stage.pair.server.pid


def test_megabytes_travel_both_ways_at_once(stage: Stage) -> None:
    up, down = payload(4_000_000, 1), payload(6_000_000, 2)

    async def scenario() -> None:
        program, target = await stage.pair.stream()
        _, _, at_target, at_program = await asyncio.gather(
            send(program, up), send(target, down), receive(target, len(up)), receive(program, len(down))
        )
        assert hashlib.sha256(at_target).digest() == hashlib.sha256(up).digest()
        assert hashlib.sha256(at_program).digest() == hashlib.sha256(down).digest()
        for sock in (program, target):
            sock.shutdown(socket.SHUT_WR)
        assert await receive(program, 1) == b""
        assert await receive(target, 1) == b""
        await stage.pair.client_heard.event(FlowClosed)
        await stage.pair.server_heard.event(FlowClosed)
        program.close()
        target.close()

    stage.run(scenario())


def test_what_a_program_sent_behind_its_request_is_the_first_of_the_flow(stage: Stage) -> None:
    async def scenario() -> None:
        program, handed = tcp_pair()
        program.send(b"hello")
        stage.pair.client.open_flow(SESSION, "early.example:80", handed, REPLY)
        opened = await stage.pair.server_heard.event(FlowOpened)
        target, far = tcp_pair()
        stage.pair.server.attach_flow(opened.handle, far)
        assert await receive(target, 5) == b"hello"
        reset(program)
        reset(target)

    stage.run(scenario())


def test_half_closed_streams_go_on_the_other_way(stage: Stage) -> None:
    async def scenario() -> None:
        program, target = await stage.pair.stream()
        program.shutdown(socket.SHUT_WR)
        assert await receive(target, 1) == b""
        await send(target, b"still here" * 1000)
        target.shutdown(socket.SHUT_WR)
        assert await receive(program, 20_000) == b"still here" * 1000
        program.close()
        target.close()

    stage.run(scenario())


@pytest.mark.parametrize("who", ["program", "target"])
def test_a_reset_reaches_the_other_end_as_reset(stage: Stage, who: str) -> None:
    async def scenario() -> None:
        program, target = await stage.pair.stream()
        first, second = (program, target) if who == "program" else (target, program)
        reset(first)
        with pytest.raises(ConnectionResetError):
            await receive(second, 1)
        second.close()

    stage.run(scenario())


def test_a_program_that_leaves_before_the_answer_ends_its_flow(stage: Stage) -> None:
    """Even after the end of its data: nothing would be read any more."""

    async def scenario() -> None:
        program, opened = await stage.pair.open()
        program.shutdown(socket.SHUT_WR)
        reset(program)
        closed = await stage.pair.server_heard.event(FlowClosed, lambda event: event.handle == opened.handle)
        assert closed.session == SESSION
        target, handed = tcp_pair()
        stage.pair.server.attach_flow(opened.handle, handed)
        with pytest.raises(ConnectionResetError):
            await receive(target, 1)
        target.close()

    stage.run(scenario())


def test_a_refused_program_learns_the_code(stage: Stage) -> None:
    async def scenario() -> None:
        program, opened = await stage.pair.open()
        program.send(b"a request that did not wait for its answer")
        stage.pair.server.refuse_flow(opened.handle, RefusalCode.HOST_UNREACHABLE)
        assert await receive(program, 100) == b"no:\x04!"
        program.close()

    stage.run(scenario())


def test_a_flow_of_no_session_is_refused(stage: Stage) -> None:
    async def scenario() -> None:
        program, handed = tcp_pair()
        stage.pair.client.open_flow(SESSION + 1, "nowhere.example:80", handed, REPLY)
        assert await receive(program, 100) == b"no:\x01!"
        program.close()

    stage.run(scenario())


def test_misses_are_passed_on_with_their_address_in_order(stage: Stage) -> None:
    heard = stage.pair.server_heard
    sent = [bytes([0xC0, number]) + bytes(1200) for number in range(50)]

    async def scenario() -> None:
        with bind_udp("127.0.0.1", 0) as stranger:
            for data in sent:
                stranger.sendto(data, ("127.0.0.1", stage.pair.ports[1]))
            await heard.until(lambda: len(heard.datagrams) >= len(sent))
            address = stranger.getsockname()
        assert heard.datagrams == [(0, data, address) for data in sent]

    stage.run(scenario())


def test_control_datagrams_leave_by_the_socket_of_the_data(stage: Stage) -> None:
    heard = stage.pair.server_heard
    heard.datagrams.clear()

    async def scenario() -> None:
        stage.pair.client.send_datagram(0, b"\xc0 from control", ("127.0.0.1", stage.pair.ports[1]))
        await heard.until(lambda: bool(heard.datagrams))
        assert heard.datagrams == [(0, b"\xc0 from control", ("127.0.0.1", stage.pair.ports[0]))]
        stage.pair.client.send_datagram(99, b"no such socket", ("127.0.0.1", 9))
        assert stage.pair.client.dropped == 1

    stage.run(scenario())


def test_a_snapshot_has_no_size_limit_and_an_idle_worker_does_not_turn(stage: Stage) -> None:
    async def scenario() -> None:
        for number in range(220):
            lane, _ = lane_pair(1, stage.pair.ports, session=1000 + number)
            stage.pair.server.add_lane(lane)
        snapshot = await stage.pair.server.snapshot()
        lanes, worker = snapshot["lanes"], snapshot["worker"]
        assert isinstance(lanes, list)
        assert isinstance(worker, dict)
        assert len(lanes) == 221
        assert len(repr(snapshot)) > 200_000
        assert worker["pid"] == stage.pair.server.pid
        for number in range(220):
            stage.pair.server.end_session(1000 + number)
        before, after = await stage.pair.server.snapshot(), await stage.pair.server.snapshot()
        assert after["worker"]["turns"] - before["worker"]["turns"] < 20  # type: ignore[index] # checked above

    stage.run(scenario())


def test_a_session_that_ends_resets_its_streams_and_lets_new_ones_begin(stage: Stage) -> None:
    async def scenario() -> None:
        pair = stage.pair
        program, target = await pair.stream()
        waiting, _ = await pair.open()
        pair.client.end_session(SESSION)
        with pytest.raises(ConnectionResetError):
            await receive(program, 1)
        assert await receive(waiting, 100) == b"no:\x01!"
        pair.server.end_session(SESSION)
        with pytest.raises(ConnectionResetError):
            await receive(target, 1)
        for sock in (program, target, waiting):
            sock.close()
        lanes = lane_pair(2, pair.ports)
        pair.client.add_lane(lanes[0])
        pair.server.add_lane(lanes[1])
        await pair.client_heard.event(LaneChanged, lambda event: event.path == 2 and event.state == "active")
        program, target = await pair.stream()
        await send(program, b"again")
        assert await receive(target, 5) == b"again"
        reset(program)
        reset(target)

    stage.run(scenario())


def test_descriptors_do_not_pile_up(stage: Stage) -> None:
    def opened() -> int:
        return len(os.listdir(f"/proc/{stage.pair.client.pid}/fd"))

    async def one() -> None:
        program, target = await stage.pair.stream()
        program.shutdown(socket.SHUT_WR)
        target.shutdown(socket.SHUT_WR)
        assert await receive(program, 1) == b""
        assert await receive(target, 1) == b""
        program.close()
        target.close()

    async def scenario() -> None:
        await one()
        await stage.pair.client.snapshot()
        before = opened()
        for _ in range(10):
            await one()
        await stage.pair.client.snapshot()
        assert opened() <= before + 1

    stage.run(scenario())
