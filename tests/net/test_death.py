"""Deaths, with real processes: workers, control processes and servers are killed, and everything goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from tests.net.appliances import SECONDS, START_SECONDS, Pair, Process, through, wait_for
from tests.net.test_life import works

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROMISE = 1.0
"""Seconds from a worker's death until new streams work, where a standby worker is ready."""
SLACK = 4.0
"""How much longer it may take here: two cores that other tests use, too. What is measured is printed."""


def configure(process: Process, **sections: object) -> None:
    """Add sections to the configuration of a process that is not started."""
    config = yaml.safe_load(process.config_file.read_text())
    process.config_file.write_text(yaml.safe_dump({**config, **sections}))


def standby(process: Process) -> None:
    """Wait until a second worker is ready."""
    wait_for(
        lambda: process.status().get("workers", {}).get("standby") == "ready",
        "a standby worker is ready",
        START_SECONDS,
    )


@contextmanager
def endless() -> Iterator[int]:
    """Serve, on 127.0.0.1, streams that never end: the bytes of their offset's hash, block by block; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            number = 0
            while True:
                sock.sendall(_block(number))
                number += 1

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _block(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest() * 256


async def _watch(socks: int, port: int, begun: threading.Event) -> tuple[str, int]:
    """Read an endless stream until it ends; return how it ended, and how many bytes came, all of them right."""
    reader, writer = await through(socks, "127.0.0.1", port)
    size, number = 0, 0
    try:
        while True:
            block = _block(number)
            got = await reader.readexactly(len(block))
            assert got == block
            begun.set()
            size += len(got)
            number += 1
    except ConnectionResetError:
        return "reset", size
    except asyncio.IncompleteReadError as error:
        return "end" if _block(number).startswith(error.partial) else "wrong", size + len(error.partial)
    finally:
        writer.close()


class Stream(threading.Thread):
    """One endless stream through a pair."""

    def __init__(self, pair: Pair, port: int) -> None:
        super().__init__(daemon=True)
        self.result: tuple[str, int] | None = None
        self.error: BaseException | None = None
        self.begun = threading.Event()
        self._pair, self._port = pair, port
        self.start()

    def run(self) -> None:
        try:
            self.result = asyncio.run(_watch(self._pair.socks, self._port, self.begun))
        except BaseException as error:
            self.error = error

    def ended(self) -> tuple[str, int]:
        """Wait for the end."""
        self.join(SECONDS)
        assert self.error is None, self.error
        assert self.result is not None, "the stream hangs"
        return self.result


def flows(process: Process) -> int:
    return int(process.status().get("flows", {}).get("open", 0))


@pytest.mark.parametrize("role", [pytest.param("client", marks=pytest.mark.soak), "server"])
def test_a_worker_is_killed_again_and_again_under_load(pair: Pair, role: str) -> None:
    pair.start()
    victim = getattr(pair, role)
    standby(victim)
    session = pair.client.status()["lanes"][0]["session"]
    with endless() as port:
        for death in range(3):
            stream = Stream(pair, port)
            wait_for(stream.begun.is_set, "the stream is open")
            before = victim.worker
            os.kill(before, signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda: works(pair), "new streams work", PROMISE + SLACK)
            print(f"{role}: streams work {time.monotonic() - killed:.2f} s after death {death + 1}")  # noqa: T201
            assert stream.ended()[0] == "reset"
            assert victim.worker not in (0, before)
            standby(victim)
    status = victim.status()
    assert status["workers"]["deaths"] == 3
    assert "SIGKILL" in status["workers"]["last_death"]
    assert pair.client.status()["lanes"][0]["session"] == session  # nothing was set up anew
    assert pair.client.log.count("path path0: up") == 1
    wait_for(lambda: flows(pair.client) + flows(pair.server) == 0, "no flow is left over")


@pytest.mark.soak
def test_both_workers_die_without_a_standby(pair: Pair) -> None:
    for process in (pair.client, pair.server):
        configure(process, workers={"standby": False})
    pair.start()
    session = pair.client.status()["lanes"][0]["session"]
    for process in (pair.client, pair.server):
        os.kill(process.worker, signal.SIGKILL)
    wait_for(lambda: works(pair), "new streams work", 60)
    assert pair.client.status()["lanes"][0]["session"] == session
    assert pair.client.status()["workers"]["standby"] == "none"


def gone(pid: int) -> bool:
    """Tell whether a process has ended (a zombie has)."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.soak
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_control_process_is_killed_and_comes_back_on_its_ports(pair: Pair, role: str) -> None:
    pair.start()
    victim = getattr(pair, role)
    assert works(pair)
    worker = victim.worker
    with endless() as port:
        stream = Stream(pair, port)
        wait_for(stream.begun.is_set, "the stream is open")
        victim.kill()
        wait_for(lambda: gone(worker), "its worker has ended with it", 5)
        victim.start()
        victim.wait_ready()
        ready = time.monotonic()
        wait_for(lambda: works(pair), "new streams work", 5 + SLACK)
        print(f"{role}: streams work {time.monotonic() - ready:.2f} s after it was ready")  # noqa: T201
        assert stream.ended()[0] == "reset"
    assert "in use" not in victim.log


def test_it_ends_when_open_connections_have_had_their_time(pair: Pair) -> None:
    configure(pair.client, drain="2s")
    configure(pair.server, drain="1h")
    pair.start()
    with endless() as port:
        stream = Stream(pair, port)
        wait_for(stream.begun.is_set, "the stream is open")
        began = time.monotonic()
        assert pair.client.terminate() == 0
        assert time.monotonic() - began > 1.5
        assert stream.ended()[0] == "reset"
        assert "another signal ends them now" in pair.client.log
        pair.client.start()
        pair.client.wait_ready()
        stream = Stream(pair, port)
        wait_for(stream.begun.is_set, "the stream is open")
        pair.server.send_signal(signal.SIGTERM)
        wait_for(lambda: "another signal" in pair.server.log, "it drains")
        assert not works(pair)
        assert stream.is_alive()
        assert pair.server.terminate() == 0
