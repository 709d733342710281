from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aioquic.tls import CipherSuite, SessionTicket

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.config import ClientTlsConfig
from vantun.control.path_events import PathRefused, PathUp
from vantun.control.server_paths import ServerPaths
from vantun.control.tickets import MOST_KEPT, IssuedTickets, KeptTickets
from vantun.errors import AuthenticationError
from vantun.lab.link import LinkProfile

LINK = LinkProfile(delay=0.02)


def ticket(label: bytes, life: float = 60.0) -> SessionTicket:
    return SessionTicket(
        age_add=1,
        cipher_suite=CipherSuite.AES_128_GCM_SHA256,
        not_valid_after=datetime.now(UTC) + timedelta(seconds=life),
        not_valid_before=datetime.now(UTC) - timedelta(seconds=60),
        resumption_secret=bytes(32),
        server_name="gw.example",
        ticket=label,
    )


def test_a_ticket_is_redeemed_once() -> None:
    issued = IssuedTickets()
    issued.issue(ticket(b"a"))
    assert issued.redeem(b"a") is not None
    assert issued.redeem(b"a") is None
    assert issued.redeem(b"stranger") is None


def test_the_server_s_table_is_bounded() -> None:
    issued = IssuedTickets(most=3)
    for number in range(9):
        issued.issue(ticket(bytes([number])))
    assert len(issued) == 3
    assert issued.redeem(bytes([0])) is None
    assert issued.redeem(bytes([8])) is not None


def test_a_client_takes_each_ticket_once_the_newest_first() -> None:
    kept = KeptTickets()
    for label in (b"a", b"b"):
        kept.put("gw", ticket(label))
    kept.put("other", ticket(b"c"))
    found = [kept.take("gw") for _ in range(3)]
    assert [each.ticket if each else None for each in found] == [b"b", b"a", None]
    assert kept.take("nobody") is None


def test_expired_tickets_are_not_shown() -> None:
    kept = KeptTickets()
    kept.put("gw", ticket(b"old", life=-1.0))
    assert kept.take("gw") is None


def test_the_client_s_table_is_bounded() -> None:
    kept = KeptTickets()
    for number in range(3 * MOST_KEPT):
        kept.put("gw", ticket(bytes([number])))
    taken = 0
    while kept.take("gw") is not None:
        taken += 1
    assert taken == MOST_KEPT


# --- both ends


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    found = Pair(server_config(tmp_path), client_config(tmp_path), LINK)
    connect(found, 0)
    found.run(1.0)
    return found


def connect(pair: Pair, number: int) -> list[object]:
    pair.connect(number)
    pair.run(5.0, lambda: bool(pair.events[number]))
    return list(pair.events[number])


def early(pair: Pair, number: int) -> bool:
    return pair.paths[number]._quic.tls.early_data_accepted


def test_a_flight_that_is_recorded_and_sent_again_opens_nothing(pair: Pair) -> None:
    start = len(pair.seen)
    assert isinstance(connect(pair, 1)[0], PathUp)
    assert early(pair, 1)
    pair.run(1.0)
    flight = [data for up, data in pair.seen[start:] if up]
    sessions = len([event for event in pair.server_events if isinstance(event, PathUp)])
    pair.seen.clear()
    for data in flight:
        pair.inject(data)
        # and with another connection id, as if it were a new connection: the long header is not authenticated early
        pair.inject(data[:6] + bytes([data[6] ^ 0xFF]) + data[7:])
    pair.run(5.0)
    assert len([event for event in pair.server_events if isinstance(event, PathUp)]) == sessions


def test_a_server_that_was_restarted_forgets_tickets_and_the_path_comes_up_all_the_same(
    pair: Pair, tmp_path: Path
) -> None:
    pair.server = ServerPaths(server_config(tmp_path))
    began = pair.now
    assert isinstance(connect(pair, 1)[0], PathUp)
    assert not early(pair, 1)
    assert pair.now - began < 5 * 0.04


def test_a_pin_holds_for_the_ticket_s_server_too(tmp_path: Path) -> None:
    """Whoever has no ticket of the real server gets a handshake with a certificate, and so a look at the pin."""
    folder = tmp_path / "real"
    folder.mkdir()
    tls = ClientTlsConfig(insecure=True)
    pair = Pair(server_config(folder), client_config(folder, tls=tls), LINK)
    connect(pair, 0)
    pair.run(1.0)
    pinned = replace(pair.client, tls=replace(tls, pin_sha256="ab" * 32))
    kept = pair.tickets.take((pair.client.paths[0].server, tls))
    assert kept is not None
    pair.tickets.put((pair.client.paths[0].server, pinned.tls), kept)  # as if it had been issued under that pin
    pair.client = pinned
    other = tmp_path / "imposter"
    other.mkdir()
    pair.server = ServerPaths(server_config(other))
    (found,) = connect(pair, 1)
    assert isinstance(found, PathRefused)
    assert "another certificate" in str(found.error)
    assert not any(isinstance(event, PathUp) and event.lane.path == 1 for event in pair.server_events)


def test_wrong_credentials_are_refused_early_too(pair: Pair) -> None:
    pair.client = replace(pair.client, auth="alice:wrong")
    (found,) = connect(pair, 1)
    assert isinstance(found, PathRefused)
    assert isinstance(found.error, AuthenticationError)


@pytest.mark.parametrize("seed", range(6))
def test_early_data_that_is_lost_comes_again(tmp_path: Path, seed: int) -> None:
    pair = Pair(server_config(tmp_path), client_config(tmp_path), LinkProfile(delay=0.02, loss=0.3), seed)
    for number in range(4):
        assert isinstance(connect(pair, number)[0], PathUp)
        pair.run(1.0)
