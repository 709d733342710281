"""How a worker and its control process part: deaths on either side, silence, garbage, orderly ends."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.unit.vantun.dataplane.worker_pair import REPLY, SESSION, SMALL, Recorder, tcp_pair
from vantun.config import AccelConfig
from vantun.control import recruits
from vantun.control.worker_channel import WorkerChannel
from vantun.control.worker_link import WorkerLink
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowOpened
from vantun.errors import WorkerError
from vantun.worker_messages import AttachFlow, Failed, Pong, Ready, Stop, decode, encode

Play = Callable[[bytes], tuple["subprocess.Popen[bytes]", socket.socket]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Have WorkerLink.start find a process that does nothing; the test speaks for it, and first says ``answer``."""
    made: list[tuple[subprocess.Popen[bytes], socket.socket]] = []

    def start(answer: bytes) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.settimeout(10)
        theirs.send(answer)
        process = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
        made.append((process, theirs))
        monkeypatch.setattr(recruits, "spawn_worker", lambda _floors, _rates: (process, ours))
        return process, theirs

    yield start
    for process, theirs in made:
        theirs.close()
        process.kill()
        process.wait()


READY = encode(Ready({"fec.encode": "fake"}))


def channel_of(link: WorkerLink) -> WorkerChannel:
    assert link._channel is not None
    return link._channel


async def started() -> tuple[WorkerLink, Recorder]:
    heard = Recorder()
    return await WorkerLink.start(SMALL, AccelConfig(), heard), heard


def test_a_worker_that_cannot_serve_says_why(play: Play) -> None:
    process, _ = play(encode(Failed("no engine; install one")))
    with pytest.raises(WorkerError, match="no engine; install one"):
        asyncio.run(started())
    assert process.wait() == -signal.SIGKILL


def test_garbage_from_a_worker_ends_it_and_is_reported_once(play: Play) -> None:
    process, theirs = play(READY)

    async def scenario() -> None:
        _, heard = await started()
        for garbage in (b"\xff\xfe", b"more of it"):
            theirs.send(garbage)
        await heard.until(lambda: bool(heard.lost))
        await asyncio.sleep(0)
        assert len(heard.lost) == 1
        assert "cannot be read" in heard.lost[0]

    asyncio.run(scenario())
    assert process.returncode == -signal.SIGKILL


def test_a_command_from_a_worker_is_garbage(play: Play) -> None:
    _, theirs = play(READY)

    async def scenario() -> None:
        _, heard = await started()
        theirs.send(encode(Stop()))
        await heard.until(lambda: bool(heard.lost))

    asyncio.run(scenario())


def test_what_a_worker_said_before_its_death_is_heard(play: Play) -> None:
    process, theirs = play(READY)

    async def scenario() -> None:
        _, heard = await started()
        theirs.send(encode(FlowOpened(1, SESSION, "late.example:1")))
        process.kill()
        theirs.close()
        await heard.until(lambda: bool(heard.lost))
        assert heard.events == [FlowOpened(1, SESSION, "late.example:1")]
        assert heard.lost == ["it was killed by SIGKILL"]

    asyncio.run(scenario())


def test_a_worker_that_leaves_commands_unread_is_lost(play: Play) -> None:
    """Nothing blocks, nothing grows without bound, and every socket that was handed over is closed."""
    _, theirs = play(READY)

    async def scenario() -> None:
        link, heard = await started()
        program, handed = tcp_pair()
        link.attach_flow(7, handed)
        while not channel_of(link).lost:
            link.close_lane(1, 1)
        await heard.until(lambda: bool(heard.lost))
        assert "unread" in heard.lost[0]
        link.close_lane(1, 1)
        after, late = tcp_pair()
        link.attach_flow(8, late)
        assert late.fileno() == -1
        after.close()
        after, late = tcp_pair()
        link.open_flow(SESSION, "x:1", late, REPLY)  # it waits for the next worker, until there will be none
        assert late.fileno() >= 0
        with pytest.raises(WorkerError, match="has ended"):
            await link.snapshot()
        theirs.close()
        program.settimeout(10)
        with pytest.raises(ConnectionResetError):
            program.recv(1)
        program.close()
        await link.close()
        assert late.fileno() == -1
        after.close()

    asyncio.run(scenario())


def _mark(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def test_commands_that_had_to_wait_arrive_in_order(play: Play) -> None:
    process, theirs = play(READY)

    async def scenario() -> None:
        link, _ = await started()
        sent = 0
        while not channel_of(link)._backlog:
            program, handed = tcp_pair()
            program.close()
            link.attach_flow(sent, handed)
            sent += 1
        loop = asyncio.get_running_loop()
        theirs.settimeout(0)
        handles: list[int] = []
        while len(handles) < sent:
            ready = loop.create_future()
            loop.add_reader(theirs, _mark, ready)
            await ready
            data, descriptors, _, _ = socket.recv_fds(theirs, 1 << 16, 4)
            for descriptor in descriptors:
                os.close(descriptor)
            message = decode(data)
            if isinstance(message, AttachFlow):
                assert len(descriptors) == 1
                handles.append(message.handle)
        loop.remove_reader(theirs)
        assert handles == list(range(sent))
        theirs.close()
        process.kill()
        await link.close()

    asyncio.run(scenario())


def test_a_worker_is_not_blamed_for_a_clock_that_jumped(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine was paused while a ping was on its way: it has all the time again; then it is found out."""
    play(READY)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        clock, ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: clock() + ahead)
        link, heard = await started()
        channel = channel_of(link)
        for seconds in (5.1, 3600.0, 5.1, 5.1, 5.1):
            ahead += seconds
            for _ in range(3):  # turns of the loop
                await asyncio.sleep(0)
            assert not channel.lost
        ahead += 5.1
        await heard.until(lambda: bool(heard.lost))
        assert heard.lost == ["it did not answer for 20 s"]

    asyncio.run(scenario())


class Impatient(WorkerLink):
    """Gives up on a silent worker after a moment."""

    patience = 0.05


@pytest.mark.parametrize("ask", ["ping", "snapshot"])
def test_a_silent_worker_is_lost(play: Play, ask: str) -> None:
    process, _ = play(READY)

    async def scenario() -> None:
        heard = Recorder()
        link = await Impatient.start(SMALL, AccelConfig(), heard)
        if ask == "snapshot":
            with pytest.raises(WorkerError, match="does not answer"):
                await link.snapshot()
        await heard.until(lambda: bool(heard.lost))
        assert heard.lost == ["it did not answer for 0.05 s"]

    asyncio.run(scenario())
    assert process.returncode == -signal.SIGKILL


def test_a_worker_that_answers_pings_is_kept(play: Play) -> None:
    process, theirs = play(READY)

    async def scenario() -> None:
        heard = Recorder()
        link = await WorkerLink.start(SMALL, AccelConfig(), heard)
        channel_of(link)._ping()
        theirs.send(encode(Pong(0)))
        theirs.send(encode(FlowOpened(1, 2, "then this")))
        await heard.event(FlowOpened)
        assert channel_of(link)._pinged_at is None
        theirs.close()
        process.kill()
        await link.close()
        assert heard.lost == []

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_killed_worker_is_reported_once_and_its_streams_are_reset() -> None:
    async def scenario() -> None:
        link, heard = await started()
        program, handed = tcp_pair()
        link.attach_flow(12345, handed)
        asking = asyncio.ensure_future(link.snapshot())
        await asyncio.sleep(0)
        os.kill(link.pid, signal.SIGKILL)
        await heard.until(lambda: bool(heard.lost))
        assert heard.lost == ["it was killed by SIGKILL"]
        with pytest.raises(WorkerError, match="SIGKILL"):
            await asking
        await link.close()
        assert len(heard.lost) == 1
        program.settimeout(10)
        with pytest.raises(ConnectionResetError):
            program.recv(1)
        program.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_worker_survives_signals_and_garbage_and_ends_when_told() -> None:
    async def scenario() -> None:
        link, heard = await started()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(link.pid, number)
        channel_of(link)._socket.send(b"\xff garbage")
        channel_of(link)._socket.send(encode(Ready({})))
        reading, writing = os.pipe()
        socket.send_fds(channel_of(link)._socket, [encode(AttachFlow(1))], [reading])
        for descriptor in (reading, writing):
            os.close(descriptor)
        worker = (await link.snapshot())["worker"]
        assert isinstance(worker, dict)
        assert worker["unreadable_messages"] == 3
        process = channel_of(link).process
        await link.close()
        assert heard.lost == []
        assert process.poll() == 0

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_worker_ends_with_its_control_process() -> None:
    async def scenario() -> None:
        link, heard = await started()
        waiting = select.poll()
        descriptor = os.pidfd_open(link.pid)
        waiting.register(descriptor, select.POLLIN)
        channel_of(link)._socket.shutdown(socket.SHUT_RDWR)
        assert waiting.poll(10_000), "the worker goes on without a control process"
        os.close(descriptor)
        await heard.until(lambda: bool(heard.lost))
        assert heard.lost == ["it exited with status 0"]

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_configuration_that_cannot_be_is_refused() -> None:
    async def scenario() -> None:
        await WorkerLink.start(DataplaneConfig(max_mtu=9000), AccelConfig(), Recorder())

    with pytest.raises(WorkerError, match="lower the MTU"):
        asyncio.run(scenario())
