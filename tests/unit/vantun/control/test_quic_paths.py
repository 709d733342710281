"""Both QUIC ends against each other, in memory and in virtual time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.vantun.control.quic_pair import Pair, client_config, server_config
from vantun.config import AuthConfig, BandwidthConfig, ClientTlsConfig, Endpoint, MasqueradeConfig
from vantun.control.authentication import Authenticator, Credentials, authorization
from vantun.control.certificates import fingerprint
from vantun.control.path_events import (
    MessageReceived,
    PathDown,
    PathRefused,
    PathUp,
    SessionEnded,
    SessionIdentity,
    SessionUnknownError,
)
from vantun.control.session_messages import ListenAnswer, ListenCode, ListenRequest, SessionAnswer, Transport
from vantun.control.sessions import SESSION_LINGER
from vantun.errors import AuthenticationError, CertificateError
from vantun.lab.link import LinkProfile
from vantun.lanes import LaneSpec

CLEAN = LinkProfile(delay=0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificate")


@pytest.fixture
def pair(folder: Path) -> Pair:
    return Pair(server_config(folder), client_config(folder), CLEAN)


def up(pair: Pair, number: int, identity: SessionIdentity | None = None) -> PathUp:
    pair.connect(number, identity)
    assert pair.run(5.0, lambda: any(isinstance(event, PathUp) for event in pair.events[number])), pair.events[number]
    found = pair.events[number][-1]
    assert isinstance(found, PathUp)
    return found


def refused(pair: Pair, number: int, identity: SessionIdentity | None = None) -> PathRefused:
    pair.connect(number, identity)
    assert pair.run(5.0, lambda: bool(pair.events[number]))
    found = pair.events[number][-1]
    assert isinstance(found, PathRefused)
    return found


def server_lane(pair: Pair, path: int) -> LaneSpec:
    return next(e.lane for e in pair.server_events if isinstance(e, PathUp) and e.lane.path == path)


def test_a_new_session(pair: Pair) -> None:
    near = up(pair, 0).lane
    far = server_lane(pair, 0)
    assert (near.session, near.suite, near.client, far.client) == (far.session, far.suite, True, False)
    assert (near.send_secret, near.receive_secret) == (far.receive_secret, far.send_secret)
    assert (near.send_cid, near.receive_cid) == (far.receive_cid, far.send_cid)
    assert near.send_secret != near.receive_secret
    assert (far.user, far.name) == ("alice", "dsl")
    assert near.receive_cid[0] == far.receive_cid[0] == 0, "byte 0 names the worker"


@pytest.mark.parametrize("backup", [False, True])
def test_both_ends_know_a_backup(pair: Pair, backup: bool) -> None:
    pair.connect(0, backup=backup)
    assert pair.run(5.0, lambda: bool(pair.events[0]))
    event = pair.events[0][0]
    assert isinstance(event, PathUp)
    assert (event.lane.backup, server_lane(pair, 0).backup) == (backup, backup)


def test_the_lane_is_told_before_the_welcome_leaves(pair: Pair) -> None:
    pair.connect(0)
    assert pair.run(5.0, lambda: any(isinstance(event, PathUp) for event in pair.server_events))
    assert not pair.events[0]


def test_a_second_path_joins_and_has_keys_of_its_own(pair: Pair) -> None:
    first = up(pair, 0)
    second = up(pair, 1, SessionIdentity(first.lane.session, first.tokens[0]))
    assert second.lane.session == first.lane.session
    assert server_lane(pair, 1).receive_secret == second.lane.send_secret != first.lane.send_secret
    assert not set(first.tokens) & set(second.tokens)


def test_a_token_serves_once(pair: Pair) -> None:
    first = up(pair, 0)
    identity = SessionIdentity(first.lane.session, first.tokens[0])
    up(pair, 1, identity)
    again = refused(pair, 2, identity)
    assert isinstance(again.error, SessionUnknownError)
    assert again.retry


def test_a_token_of_another_user(folder: Path) -> None:
    auth = AuthConfig("userpass", users={"alice": "s3cret", "bob": "hunter2"})
    pair = Pair(server_config(folder, auth), client_config(folder), CLEAN)
    first = up(pair, 0)
    pair.client = client_config(folder, auth="bob:hunter2")
    stolen = refused(pair, 1, SessionIdentity(first.lane.session, first.tokens[0]))
    assert isinstance(stolen.error, SessionUnknownError)
    pair.client = client_config(folder)
    up(pair, 2, SessionIdentity(first.lane.session, first.tokens[0]))


def test_a_path_id_is_never_reused(pair: Pair) -> None:
    first = up(pair, 0)
    del pair.paths[0]
    again = refused(pair, 0, SessionIdentity(first.lane.session, first.tokens[0]))
    assert "used before" in str(again.error)


@pytest.mark.parametrize("auth", ["alice:wrong", "mallory:s3cret", "s3cret", ":", "alice"])
def test_wrong_credentials(folder: Path, auth: str) -> None:
    pair = Pair(server_config(folder), client_config(folder, auth=auth), CLEAN)
    answer = refused(pair, 0)
    assert isinstance(answer.error, AuthenticationError)
    assert not answer.retry
    assert not pair.server_events


def test_one_password_for_all(folder: Path) -> None:
    auth = AuthConfig("password", password="correct:horse")
    pair = Pair(server_config(folder, auth), client_config(folder, auth="correct:horse"), CLEAN)
    assert up(pair, 0).lane.client
    pair.client = client_config(folder, auth="horse")
    assert isinstance(refused(pair, 1).error, AuthenticationError)


def test_a_pin(folder: Path) -> None:
    server = server_config(folder)
    from cryptography import x509

    pin = fingerprint(x509.load_pem_x509_certificate(server.tls.cert.read_bytes()))
    pair = Pair(server, client_config(folder, tls=ClientTlsConfig(pin_sha256=pin)), CLEAN)
    assert up(pair, 0).lane.client


@pytest.mark.parametrize("tls", [ClientTlsConfig(pin_sha256="ab" * 32), ClientTlsConfig()], ids=["pin", "authority"])
def test_another_certificate_never_sees_credentials(
    folder: Path, tls: ClientTlsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    read = Authenticator.read

    def noted(self: Authenticator, value: bytes) -> Credentials:
        asked.append(value)
        return read(self, value)

    monkeypatch.setattr(Authenticator, "read", noted)
    pair = Pair(server_config(folder), client_config(folder, tls=tls), CLEAN)
    answer = refused(pair, 0)
    assert isinstance(answer.error, CertificateError)
    assert not answer.retry
    pair.run(1.0)
    assert not asked, "no request has reached the server"
    assert not pair.server_events
    pair.client = client_config(folder)
    pair.connect(1)
    pair.run(1.0)
    assert asked == [authorization("alice:s3cret")], "with the right certificate it does"


def test_a_certificate_without_an_authority_by_name_only(folder: Path) -> None:
    pair = Pair(server_config(folder), client_config(folder, tls=ClientTlsConfig(insecure=True)), CLEAN)
    assert up(pair, 0).lane.client


def test_an_address_in_the_certificate(folder: Path) -> None:
    for host, fits in (("192.0.2.1", True), ("192.0.2.2", False)):
        client = client_config(folder)
        client = replace(client, paths=(replace(client.paths[0], server=Endpoint(host, 443)),))
        pair = Pair(server_config(folder), client, CLEAN)
        pair.connect(0)
        assert pair.run(5.0, lambda pair=pair: bool(pair.events[0]))  # type: ignore[misc]
        found = pair.events[0][0]
        assert isinstance(found, PathUp if fits else PathRefused)


def test_a_site_that_answers_everything_with_200_is_no_tunnel(folder: Path) -> None:
    server = replace(server_config(folder), masquerade=MasqueradeConfig("hello", type="string"))
    pair = Pair(server, client_config(folder, auth="alice:wrong"), CLEAN)
    answer = refused(pair, 0)
    assert isinstance(answer.error, AuthenticationError)
    assert not answer.retry
    pair.client = client_config(folder)
    up(pair, 1)


def test_another_name_in_the_certificate(folder: Path) -> None:
    tls = ClientTlsConfig(sni="other.example", ca=folder / "cert.pem")
    pair = Pair(server_config(folder), client_config(folder, tls=tls), CLEAN)
    assert isinstance(refused(pair, 0).error, CertificateError)


@pytest.mark.parametrize(("loss", "usual", "slowest"), [(0.0, 0.35, 0.35), (0.15, 0.6, 2.0), (0.30, 1.0, 5.0)])
def test_set_up_through_loss(folder: Path, loss: float, usual: float, slowest: float) -> None:
    times = []
    for seed in range(25):
        profile = LinkProfile(delay=0.05, loss=loss)
        pair = Pair(server_config(folder), client_config(folder), profile, seed)
        began = pair.now
        pair.connect(0)
        assert pair.run(20.0, lambda pair=pair: bool(pair.events[0])), f"seed {seed}"  # type: ignore[misc]
        assert isinstance(pair.events[0][0], PathUp)
        times.append(pair.now - began)
    assert sorted(times)[len(times) // 2] <= usual
    assert max(times) <= slowest


def test_only_a_client_makes_the_server_speak_twice(pair: Pair) -> None:
    pair.connect(0)
    assert pair.run(5.0, lambda: bool(pair.events[0]))
    seen = [data for to_server, data in pair.seen if not to_server]
    twice = [seen.count(data) == 2 for data in dict.fromkeys(seen)]
    assert not twice[0], "the handshake is that of any web server"
    assert twice[-1], "the Welcome"


def test_for_a_second_after_the_welcome_the_server_answers_twice_and_then_never_again(pair: Pair) -> None:
    lane = up(pair, 0).lane
    began = pair.now
    pair.seen.clear()
    pair.run(0.5)
    pair.paths[0].touch(lane.session, lane.path, pair.now, at_once=True)  # as when a worker has died
    pair.run(0.2)
    answers = [data for to_server, data in pair.seen if not to_server]
    assert len(answers[-1]) == 33, "a short header and an acknowledgement"
    assert answers.count(answers[-1]) == 2
    pair.run(began + 1.0 - pair.now)
    pair.seen.clear()
    for _ in range(5):
        pair.paths[0].touch(lane.session, lane.path, pair.now, at_once=True)
        pair.run(0.6)
    assert len(pair.seen) >= 10
    assert len(set(pair.seen)) == len(pair.seen)


def test_rates_meet(folder: Path) -> None:
    server = replace(server_config(folder), bandwidth=BandwidthConfig(up=50_000_000, down=20_000_000))
    client = client_config(folder)
    client = replace(client, paths=(replace(client.paths[0], up=30_000_000),))
    pair = Pair(server, client, CLEAN)
    pair.connect(0, down=40_000_000)
    assert pair.run(5.0, lambda: bool(pair.events[0]))
    near = pair.events[0][0]
    assert isinstance(near, PathUp)
    assert (near.lane.cap, near.lane.rate) == (20e6, 0.0)
    assert (server_lane(pair, 0).cap, server_lane(pair, 0).rate) == (40e6, 0.0)


def test_the_client_leaves(pair: Pair) -> None:
    lane = up(pair, 0).lane
    pair.paths[0].close(pair.now)
    assert pair.run(1.0, lambda: isinstance(pair.server_events[-1], PathDown))
    down = pair.server_events[-1]
    assert isinstance(down, PathDown)
    assert (down.session, down.path) == (lane.session, lane.path)
    pair.run(SESSION_LINGER + 1.0)
    assert pair.server_events[-1] == SessionEnded(lane.session)
    assert len(pair.server) == 0


def test_the_server_ends_a_session(pair: Pair) -> None:
    lane = up(pair, 0).lane
    pair.server.close_session(lane.session, 1, "enough", pair.now)
    assert pair.run(1.0, lambda: isinstance(pair.events[0][-1], PathDown))
    down = pair.events[0][-1]
    assert isinstance(down, PathDown)
    assert "enough" in down.reason
    assert len(pair.server) == 0


def test_a_silent_path_ends_at_both_ends_and_a_touched_one_stays(pair: Pair) -> None:
    lane = up(pair, 0).lane
    for _ in range(30):
        pair.paths[0].touch(lane.session, 0, pair.now)
        pair.server.touch(lane.session, 0, pair.now)
        pair.run(1.0)
    assert len(pair.events[0]) == 1
    pair.tamper = lambda _to_server, _data: None
    pair.run(30.0)
    assert isinstance(pair.events[0][-1], PathDown)
    assert isinstance(pair.server_events[-1], PathDown)


def test_the_servers_connection_follows_a_client_that_touches_at_once(pair: Pair) -> None:
    """A NAT has given the client another port: the PING tells the server's connection, which answers there."""
    lane = up(pair, 0).lane
    (path,) = pair.server._paths
    receive, transmit = pair.server.receive, pair.server.transmit

    def receives(data: bytes, socket: int, peer: tuple[str, int], now: float) -> None:
        receive(data, socket, (peer[0], peer[1] + 1000), now)

    def transmits(now: float) -> list[tuple[int, bytes, tuple[str, int]]]:
        return [(sock, data, (host, port - 1000)) for sock, data, (host, port) in transmit(now)]

    pair.server.receive, pair.server.transmit = receives, transmits  # type: ignore[method-assign]
    before = path.http.peer
    pair.paths[0].touch(lane.session, 0, pair.now, at_once=True)
    pair.run(1.0)
    assert path.http.peer == (before[0], before[1] + 1000)
    sent = len(pair.seen)
    pair.paths[0].touch(lane.session, 0, pair.now)
    pair.run(0.4)
    assert len(pair.seen) == sent, "a lane that is merely alive costs a PING every five seconds"
    pair.run(10.0)
    assert len(pair.events[0]) == 1


def test_garbage_and_strangers(pair: Pair) -> None:
    up(pair, 0)
    before = len(pair.server)
    for length in (0, 1, 8, 9, 20, 1200, 1400):
        for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
            pair.inject(bytes([first]) + bytes(length))
            pair.inject(bytes([first]) + b"\x00\x00\x00\x01" + bytes([8]) + bytes(length))
    for to_server, data in list(pair.seen):
        if to_server:
            pair.inject(data[: len(data) // 2])
            pair.inject(data[:5] + bytes(len(data) - 5))
    assert len(pair.server) <= before + 40
    up(pair, 1)
    pair.run(60.0)
    assert len(pair.server) <= 2


def test_damage_on_the_way_is_repaired(pair: Pair) -> None:
    count = 0

    def damage(_to_server: bool, data: bytes) -> bytes:
        nonlocal count
        count += 1
        if count % 3:
            return data
        place = count * 7919 % len(data)
        return data[:place] + bytes([data[place] ^ 1 << count % 8]) + data[place + 1 :]

    pair.tamper = damage
    assert up(pair, 0).lane.session == server_lane(pair, 0).session
    assert len([event for event in pair.server_events if isinstance(event, PathUp)]) == 1


def test_a_client_survives_strangers(pair: Pair) -> None:
    end = pair.connect(0)
    for length in (0, 1, 8, 9, 20, 1200, 1400):
        for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
            end.receive(bytes([first]) + bytes(length), 0, ("192.0.2.66", 1), pair.now)
            end.receive(bytes([first]) + b"\x00\x00\x00\x01\x08" + bytes(length), 0, ("192.0.2.66", 1), pair.now)
    assert pair.run(5.0, lambda: bool(pair.events[0]))
    assert isinstance(pair.events[0][0], PathUp)


def test_a_request_that_moves_to_another_path_is_done_once(pair: Pair) -> None:
    request, answer = ListenRequest(3, Transport.TCP, "", 80), ListenAnswer(3, ListenCode.LISTENING, "", 80)
    first = up(pair, 0)
    up(pair, 1, SessionIdentity(first.lane.session, first.tokens[0]))
    for path in (0, 1):
        pair.paths[path].send(4, request)
        pair.run(0.2)
    asked = [event for event in pair.server_events if isinstance(event, MessageReceived)]
    assert [(event.path, event.message) for event in asked] == [(0, request)]
    pair.server.send(first.lane.session, 4, answer)
    pair.run(0.2)
    assert pair.events[0][-1] == MessageReceived(first.lane.session, 0, 4, answer)
    assert pair.events[1][-1] == MessageReceived(first.lane.session, 1, 4, answer)


def test_an_answer_through_loss(folder: Path) -> None:
    pair = Pair(server_config(folder), client_config(folder), LinkProfile(delay=0.05, loss=0.2), 3)
    pair.connect(0)
    assert pair.run(20.0, lambda: bool(pair.events[0]))
    found = pair.events[0][0]
    assert isinstance(found, PathUp)
    for number in range(20):
        pair.paths[0].send(number, ListenRequest(number, Transport.UDP, "", 80))
    answered: list[SessionAnswer] = []
    for _ in range(200):
        asked, pair.server_events = pair.server_events, []
        for event in asked:
            if isinstance(event, MessageReceived) and isinstance(event.message, ListenRequest):
                answered.append(ListenAnswer(event.message.listener, ListenCode.LISTENING, "", 80))
                pair.server.send(event.session, event.number, answered[-1])
        pair.run(0.1)
    assert [event.message for event in pair.events[0] if isinstance(event, MessageReceived)] == answered
    assert len(answered) == 20
