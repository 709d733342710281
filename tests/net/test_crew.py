"""Several data workers at either end: both carry, one dies and the other's connections do not notice."""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.net.appliances import SECONDS, Pair, Process, curl, free_port, origin, wait_for
from tests.net.test_death import Stream, configure, endless, flows
from tests.net.test_life import works
from vantun.cli.status_view import document

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STREAMS = 6
PROGRAMS = 32


def start(pair: Pair, client: int, server: int) -> None:
    """Start a pair with so many workers."""
    configure(pair.client, workers={"count": client})
    configure(pair.server, workers={"count": server})
    pair.start()


def each(process: Process) -> list[dict[str, int]]:
    """Return the row of every worker that answers."""
    rows = process.status().get("workers", {}).get("each", [])
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize(("client", "server"), [(2, 2), (2, 1), (1, 2)])
def test_all_workers_carry(pair: Pair, client: int, server: int) -> None:
    start(pair, client, server)
    blob = os.urandom(3 << 20)

    def fetch(port: int) -> bytes:
        got = curl("--socks5-hostname", f"127.0.0.1:{pair.socks}", f"http://127.0.0.1:{port}/")
        assert got.returncode == 0, got.stderr
        return hashlib.sha256(got.stdout).digest()

    with origin(blob) as port, ThreadPoolExecutor(STREAMS) as pool:
        digests = list(pool.map(fetch, [port] * 2 * STREAMS))
    assert set(digests) == {hashlib.sha256(blob).digest()}
    status = pair.client.status()
    assert [row["worker"] for row in status["workers"]["each"]] == list(range(client))
    (lane,) = status["lanes"]
    slices = lane.get("slices", [lane])
    assert len(slices) == client
    assert all(part["received_bytes"] > len(blob) for part in slices), "every slice has carried"
    assert lane["received_bytes"] == sum(part["received_bytes"] for part in slices)
    if server == client:
        assert all(row["sent_bytes"] > len(blob) for row in each(pair.server)), "every worker has"
    document(status)
    document(pair.server.status())
    wait_for(lambda: flows(pair.client) + flows(pair.server) == 0, "no flow is left over")


@pytest.mark.parametrize("role", ["client", "server"])
def test_one_dies_and_the_others_connections_stay(pair: Pair, role: str) -> None:
    start(pair, 2, 2)
    victim: Process = getattr(pair, role)
    session = pair.client.status()["lanes"][0]["session"]
    with endless() as port:
        streams = [Stream(pair, port) for _ in range(STREAMS)]
        for stream in streams:
            wait_for(stream.begun.is_set, "the stream is open")
        before = each(victim)
        wait_for(lambda: sum(row["flows"] for row in each(victim)) == STREAMS, "it has all streams, and no other flow")
        spared, hit = (row["flows"] for row in each(victim))
        assert spared
        assert hit
        os.kill(before[1]["pid"], signal.SIGKILL)
        wait_for(lambda: sum(not stream.is_alive() for stream in streams) == hit, "its streams are reset")
        wait_for(lambda: works(pair), "new streams work")
        wait_for(lambda: len(each(victim)) == 2, "it is replaced")
        now = each(victim)
        assert now[0]["pid"] == before[0]["pid"]
        assert now[1]["pid"] not in (0, before[1]["pid"])
        seen = each(pair.client)[0]["received_bytes"]
        wait_for(lambda: each(pair.client)[0]["received_bytes"] > seen + (1 << 20), "the others go on")
        time.sleep(0.5)
        assert sum(stream.is_alive() for stream in streams) == spared
        wait_for(lambda: works(pair) and works(pair) and works(pair), "streams of both work")
    assert all(stream.ended()[0] == "reset" for stream in streams if not stream.is_alive())
    status = victim.status()
    assert status["workers"]["deaths"] == 1
    assert pair.client.status()["lanes"][0]["session"] == session
    assert pair.client.log.count("path path0: up") == 1


@contextmanager
def mirror() -> Iterator[int]:
    """Answer every datagram on 127.0.0.1 with the port that it has come from and itself; yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, source = sock.recvfrom(100)
                if not data:
                    return
                sock.sendto(b"%d %s" % (source[1], data), source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(sock.getsockname()[1])
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


def ask(programs: list[socket.socket], port: int) -> list[int]:
    """Have every program ask the mirror behind a forward until it is answered; return the port of each one's flow."""
    found: dict[socket.socket, int] = {}
    end = time.monotonic() + SECONDS
    question = secrets.token_hex(8).encode()  # answers to what was asked before, or asked again, may come late
    while len(found) < len(programs):
        assert time.monotonic() < end, f"only {len(found)} programs are answered"
        for program in programs:
            if program not in found:
                program.sendto(question, ("127.0.0.1", port))
        for program in select.select(programs, [], [], 0.5)[0]:
            told, _, asked = program.recv(100).partition(b" ")
            if asked == question:
                found[program] = int(told)
    return [found[program] for program in programs]


def test_udp_forwards_are_served_by_all_workers_and_a_death_costs_one_its_own(pair: Pair) -> None:
    listen = free_port(socket.SOCK_DGRAM)
    programs = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(PROGRAMS)]
    with mirror() as port:
        forward = {"listen": f"127.0.0.1:{listen}", "remote": f"127.0.0.1:{port}"}
        configure(pair.client, udpForwarding=[forward])
        start(pair, 2, 2)
        first = ask(programs, listen)
        assert len(set(first)) == PROGRAMS
        served = [row["udp"] for row in each(pair.client)]
        assert sum(served) == PROGRAMS
        assert min(served) > 0, "2 ** -31 that the hash gives one worker none"
        assert sum(row["udp"] for row in each(pair.server)) == PROGRAMS
        document(pair.client.status())
        before = each(pair.client)
        os.kill(before[1]["pid"], signal.SIGKILL)
        wait_for(
            lambda: len(each(pair.client)) == 2 and each(pair.client)[1]["pid"] != before[1]["pid"], "it is replaced"
        )
        second = ask(programs, listen)
        changed = sum(one != other for one, other in zip(first, second, strict=True))
        assert changed == served[1], "whoever was served by the other one has never noticed"
        assert [row["udp"] for row in each(pair.client)] == served, "every source is where it was"
    for program in programs:
        program.close()
