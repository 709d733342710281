"""What a flood of first packets can make a server do and keep."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.unit.vantun.control.quic_pair import SERVER, server_config
from tests.unit.vantun.control.visitor import Visitor
from vantun.config import ServerConfig
from vantun.control.admission import Admission, Decision, Limits
from vantun.control.quic import GuardedConnection, quic_configuration
from vantun.control.server_paths import ServerPaths


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServerConfig:
    return server_config(tmp_path_factory.mktemp("admission"))


def admit(door: Admission, source: str, now: float, *, proven: bool) -> Decision:
    decision = door.judge(source, now, proven=proven)
    if decision is Decision.ADMIT:
        door.begin(source, proven=proven)
    return decision


def test_unproven_sources_are_asked_for_a_proof_above_a_number() -> None:
    door = Admission()
    found = [admit(door, f"198.51.100.{i}", 0.0, proven=False) for i in range(100)]
    assert found == [Decision.ADMIT] * 64 + [Decision.RETRY] * 36
    assert admit(door, "192.0.2.1", 0.0, proven=True) is Decision.ADMIT
    door.end("198.51.100.1", proven=False, complete=False)
    assert admit(door, "192.0.2.2", 1.0, proven=False) is Decision.ADMIT


def test_handshakes_that_begin_unproven_have_a_rate() -> None:
    door = Admission(Limits(unproven=10))
    admitted = 0
    for i in range(10_000):
        source = f"198.51.{i >> 8}.{i & 255}"
        if admit(door, source, i / 1000.0, proven=False) is Decision.ADMIT:
            admitted += 1
            door.complete(source, proven=False)
            door.end(source, proven=False, complete=True)
    assert admitted <= 2 * 10 + 50 * 10 + 1, "each costs milliseconds of this machine"


def test_a_forged_source_loses_nothing_but_a_round_trip() -> None:
    """Whoever sends in a client's name fills no table against it."""
    door = Admission(Limits(unproven_per_source=5))
    for _ in range(10_000):
        admit(door, "192.0.2.1", 0.0, proven=False)
    assert admit(door, "192.0.2.1", 0.0, proven=False) in (Decision.RETRY, Decision.DROP)
    assert admit(door, "192.0.2.1", 0.0, proven=True) is Decision.ADMIT


def test_a_proven_source_has_a_rate_of_its_own() -> None:
    door = Admission(Limits(source_burst=3.0, source_rate=1.0))
    found = [admit(door, "192.0.2.1", 0.0, proven=True) for _ in range(5)]
    assert found == [Decision.ADMIT] * 3 + [Decision.DROP] * 2
    assert admit(door, "192.0.2.2", 0.0, proven=True) is Decision.ADMIT
    assert admit(door, "192.0.2.1", 0.5, proven=False) is Decision.RETRY, "the way without a proof is no way around"
    assert admit(door, "192.0.2.1", 1.6, proven=True) is Decision.ADMIT
    assert door.counts["rate"] == 2


def test_limits_of_a_source_and_of_all() -> None:
    door = Admission(Limits(per_source=3, half_open_per_source=2, half_open=4, connections=5))
    for _ in range(2):
        assert admit(door, "a", 0.0, proven=True) is Decision.ADMIT
    assert admit(door, "a", 0.0, proven=True) is Decision.DROP
    door.complete("a", proven=True)
    door.complete("a", proven=True)
    assert admit(door, "a", 0.0, proven=True) is Decision.ADMIT
    assert admit(door, "a", 0.0, proven=True) is Decision.DROP
    assert [admit(door, str(i), 0.0, proven=True) for i in range(3)] == [Decision.ADMIT] * 2 + [Decision.DROP]
    assert (door.counts["half_open"], door.counts["per_source"], door.counts["full"]) == (1, 1, 1)
    report = door.report()
    assert (report["connections"], report["half_open"]) == (5, 3)
    for source, complete in (("a", True), ("a", True), ("a", False), ("0", False), ("1", False)):
        door.end(source, proven=True, complete=complete)
    assert (door.report()["connections"], door.half_open, door.report()["sources"]) == (0, 0, 0)


def test_a_flood_from_forged_sources_is_bounded(config: ServerConfig) -> None:
    """3,000 Initials, each from its own address: at most 64 connections, no more memory, and three times the bytes."""
    quic = GuardedConnection(configuration=quic_configuration(is_client=True))
    quic.connect(SERVER, 1.0)
    first = next(data for data, _ in quic.datagrams_to_send(1.0))
    server = ServerPaths(config)
    received = sent = 0

    def flood(start: int) -> None:
        nonlocal received, sent
        for number in range(start, start + 1500):
            # another connection id: another connection, to whoever has not decrypted it
            data = first[:6] + number.to_bytes(8, "big") + first[14:]
            server.receive(data, 0, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1000), 1.0)
            received += len(data)
            sent += sum(len(out) for _, out, _ in server.transmit(1.0))

    flood(0)
    tracemalloc.start()
    flood(1500)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(server) == server.half_open == 64
    assert sent <= 3 * received
    assert kept < 100_000, f"{kept} B for 1,500 packets more"
    report = server.admission.report()
    assert (report["admitted"], report["retried"]) == (64, 2000)
    assert server.admission.counts["retry_rate"] == 3000 - 64 - 2000
    assert Visitor(server, ("192.0.2.9", 1), 12.0).run().ready, "a visitor comes through all the same"


def test_a_token_that_is_none(config: ServerConfig) -> None:
    server = ServerPaths(config, limits=Limits(unproven=0))
    settings = quic_configuration(is_client=True)
    settings.token = b"x" * 64
    quic = GuardedConnection(configuration=settings)
    quic.connect(SERVER, 1.0)
    for data, _ in quic.datagrams_to_send(1.0):
        server.receive(data, 0, ("192.0.2.9", 1), 1.0)
    assert len(server) == 0
    assert server.admission.counts["token"] == 1
