"""SOCKS5 UDP through a tunnel in virtual time: programs, targets, strangers, sizes, ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.unit.vantun.dataplane.udp_lab import UdpLab, udp, unwrap, waiting, wrap
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION
from vantun.udp_messages import CloseUdp, OpenUdp, UdpKind


@pytest.fixture
def lab() -> Iterator[UdpLab]:
    made = UdpLab()
    yield made
    made.close()


def where(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def test_a_question_and_its_answer(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"who is example.org?"), relay)
        question, source = lab.until(target)[0]
        assert question == b"who is example.org?"
        target.sendto(b"it is 192.0.2.1", source)
        data, sender = lab.until(program)[0]
        assert unwrap(data) == (b"it is 192.0.2.1", where(target))
        assert sender == relay
        assert [(ask.host, ask.port) for ask in lab.asked] == [where(target)]
        assert lab.far.snapshot()["destinations"] == 1


@pytest.mark.parametrize("size", [0, 1, 1200, 9000, 60_000, 65_490])
def test_datagrams_of_every_size(lab: UdpLab, size: int) -> None:
    with udp() as program, udp() as target:
        _, relay = lab.relay(program)
        payload = bytes(i * 7 & 255 for i in range(size))
        program.sendto(wrap(where(target), payload), relay)
        question, source = lab.until(target)[0]
        assert question == payload
        target.sendto(payload[::-1], source)
        assert unwrap(lab.until(program)[0][0]) == (payload[::-1], where(target))


def test_ipv6_end_to_end(lab: UdpLab) -> None:
    with udp("::1") as program, udp("::1") as target:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"six"), relay)
        question, source = lab.until(target)[0]
        assert question == b"six"
        target.sendto(b"answer", source)
        assert unwrap(lab.until(program)[0][0]) == (b"answer", where(target))


def test_a_server_without_ipv6_refuses_ipv6_and_serves_ipv4(lab: UdpLab) -> None:
    lab.family = socket.AF_INET
    with udp() as program, udp() as target:
        _, relay = lab.relay(program)
        program.sendto(wrap(("2001:db8::1", 9), b"six"), relay)
        program.sendto(wrap(where(target), b"four"), relay)
        assert [data for data, _ in lab.until(target)] == [b"four"]
        lab.settle()
        assert lab.drops(lab.far) == {"refused": 1}


def test_a_name_is_resolved_at_the_server_and_the_answer_names_the_address(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        lab.names["service.example"] = "127.0.0.1"
        _, relay = lab.relay(program)
        for _ in range(3):
            program.sendto(wrap(("service.example", where(target)[1]), b"hello"), relay)
        got = lab.until(target, 3)
        assert [data for data, _ in got] == [b"hello"] * 3
        target.sendto(b"welcome", got[0][1])
        assert unwrap(lab.until(program)[0][0]) == (b"welcome", where(target))
        assert len(lab.asked) == 1


def test_refused_destinations_are_remembered_and_others_served(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        lab.permits = lambda host, _port: host != "10.0.0.1"
        _, relay = lab.relay(program)
        for i in range(50):
            program.sendto(wrap(("10.0.0.1", 53), b"%d" % i), relay)
            lab.settle(0.02)
        program.sendto(wrap(where(target), b"allowed"), relay)
        assert [data for data, _ in lab.until(target)] == [b"allowed"]
        assert len([ask for ask in lab.asked if ask.host == "10.0.0.1"]) == 1
        assert lab.drops(lab.far) == {"refused": 50}


def test_a_refusal_is_forgotten_after_a_while(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        lab.permits = lambda _host, _port: False
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"no"), relay)
        lab.settle()
        lab.permits = lambda _host, _port: True
        lab.pass_time(31.0)
        program.sendto(wrap(where(target), b"yes"), relay)
        assert [data for data, _ in lab.until(target)] == [b"yes"]


def test_a_destination_in_use_is_asked_for_again_and_stays_in_use(lab: UdpLab) -> None:
    with udp() as program, udp() as target, udp() as later:
        lab.names["moving.example"] = "127.0.0.1"
        name = ("moving.example", where(target)[1])
        _, relay = lab.relay(program)
        program.sendto(wrap(name, b"1"), relay)
        assert lab.until(target)[0][0] == b"1"
        lab.pass_time(61.0)
        program.sendto(wrap(name, b"2"), relay)
        assert lab.until(target)[0][0] == b"2"
        assert len(lab.asked) == 2
        lab.settle()
        program.sendto(wrap(name, b"3"), relay)
        assert lab.until(target)[0][0] == b"3"
        assert len(lab.asked) == 2
        assert waiting(later) == []


def test_nobody_but_the_program_may_use_its_relay(lab: UdpLab) -> None:
    with udp() as program, udp() as neighbour, udp() as target:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"mine"), relay)
        assert lab.until(target)[0][0] == b"mine"
        neighbour.sendto(wrap(where(target), b"stolen"), relay)
        lab.settle()
        assert waiting(target) == []
        assert lab.drops(lab.near) == {"foreign": 1}


def test_the_announced_port_is_the_only_one(lab: UdpLab) -> None:
    with udp() as program, udp() as neighbour, udp() as target:
        _, relay = lab.relay(program, any_port=False)
        neighbour.sendto(wrap(where(target), b"first, but not announced"), relay)
        program.sendto(wrap(where(target), b"announced"), relay)
        assert [data for data, _ in lab.until(target)] == [b"announced"]


def test_a_source_of_another_host_is_ignored(lab: UdpLab) -> None:
    with udp("127.0.0.2") as other, udp() as program, udp() as target:
        _, relay = lab.relay(program)
        other.sendto(wrap(where(target), b"spoofed"), relay)
        lab.settle()
        assert waiting(target) == []
        program.sendto(wrap(where(target), b"real"), relay)
        assert [data for data, _ in lab.until(target)] == [b"real"]


def test_fragments_and_garbage_are_dropped_and_counted(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        _, relay = lab.relay(program)
        for data in (wrap(where(target), b"part", 1), b"", b"\0\0", b"\0\0\0\x03\0", b"\0\0\0\x09abc"):
            program.sendto(data, relay)
        program.sendto(wrap(where(target), b"whole"), relay)
        assert [data for data, _ in lab.until(target)] == [b"whole"]
        assert lab.drops(lab.near) == {"fragment": 1, "malformed": 4}


def test_destinations_that_no_packet_can_have(lab: UdpLab) -> None:
    with udp() as program:
        _, relay = lab.relay(program)
        program.sendto(b"\0\0\0\x03\x03a\x07b\0\x50x", relay)
        program.sendto(wrap(("192.0.2.1", 0), b"x"), relay)
        lab.settle()
        assert lab.drops(lab.far) == {"malformed": 2}
        assert lab.asked == []


def test_strangers_are_dropped_and_other_ports_of_a_known_host_are_not(lab: UdpLab) -> None:
    with udp() as program, udp() as target, udp() as second, udp("127.0.0.2") as stranger:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"hello"), relay)
        _, source = lab.until(target)[0]
        stranger.sendto(b"unasked", source)
        second.sendto(b"from another port", source)
        assert unwrap(lab.until(program)[0][0]) == (b"from another port", where(second))
        assert lab.drops(lab.far) == {"stranger": 1}


def test_packets_wait_for_the_answer_but_only_a_few(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        lab.answering = False
        _, relay = lab.relay(program)
        for i in range(20):
            program.sendto(wrap(where(target), b"%d" % i), relay)
        lab.settle()
        assert len(lab.asked) == 1
        lab.answer(lab.asked[0])
        assert [data for data, _ in lab.until(target, 8)] == [b"%d" % i for i in range(8)]
        assert lab.drops(lab.far) == {"asked_full": 12}


def test_questions_are_bounded_and_those_without_answer_give_way(lab: UdpLab) -> None:
    with udp() as program:
        lab.answering = False
        _, relay = lab.relay(program)
        for i in range(100):
            program.sendto(wrap(("192.0.2.1", 1000 + i), b"x"), relay)
        lab.settle()
        assert len(lab.asked) == 64
        lab.pass_time(20.0)
        program.sendto(wrap(("192.0.2.2", 1), b"x"), relay)
        lab.settle()
        assert len(lab.asked) == 65


def test_destinations_are_bounded_and_the_oldest_goes(lab: UdpLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.dataplane.udp_association.AssociationPort.__init__.__defaults__", (10,), raising=False)
    with udp() as program, udp() as target:
        _, relay = lab.relay(program)
        for i in range(40):
            program.sendto(wrap((f"127.0.1.{i + 1}", 9), b"x"), relay)
            lab.settle(0.05)
        program.sendto(wrap(where(target), b"still served"), relay)
        assert [data for data, _ in lab.until(target)] == [b"still served"]
        assert lab.far.snapshot()["destinations"] in (10, 41)


def test_an_association_ends_when_its_program_closes_the_tcp_connection(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        number, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"hello"), relay)
        lab.until(target)
        assert lab.far.snapshot()["associations"] == 1
        lab.near.serve(CloseUdp(number), None)
        lab.near.serve(CloseUdp(number), None)
        lab.settle()
        assert lab.near.snapshot()["relays"] == lab.far.snapshot()["associations"] == 0
        assert (len(lab.client.plane.flows), len(lab.server.plane.flows)) == (0, 0)


def test_silence_ends_an_association_at_both_ends(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        number, relay = lab.relay(program, idle=30.0)
        program.sendto(wrap(where(target), b"hello"), relay)
        _, source = lab.until(target)[0]
        lab.pass_time(20.0)
        target.sendto(b"an answer keeps it", source)
        assert lab.until(program)
        lab.pass_time(25.0)
        assert lab.closed() == []
        lab.pass_time(10.0)
        assert lab.closed() == [number]
        assert "30 s" in lab.reports[-1].reason  # type: ignore[union-attr]
        assert lab.far.snapshot()["associations"] == 0


def test_the_server_ends_a_silent_association_too(lab: UdpLab) -> None:
    lab.association_idle = 10.0
    with udp() as program, udp() as target:
        number, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"hello"), relay)
        lab.until(target)
        lab.pass_time(13.0)
        assert lab.closed() == [number]


def test_a_session_that_ends_takes_its_associations_along(lab: UdpLab) -> None:
    with udp() as program:
        number, _ = lab.relay(program)
        lab.settle()
        lab.client.plane.end_session(SESSION, lab.now)
        lab.settle()
        assert lab.closed() == [number]
        again, _ = lab.relay(program)
        assert lab.closed() == [number, again]


def test_a_relay_for_a_name_is_refused(lab: UdpLab) -> None:
    lab.near.serve(OpenUdp(99, SESSION, UdpKind.SOCKS5, "", ("bücher", 0), 1.0, 1), udp())
    lab.near.serve(OpenUdp(98, SESSION, UdpKind.SOCKS5, "", ("127.0.0.1", 0), 1.0, 1), None)
    assert lab.closed() == [99, 98]


def test_loss_on_the_path_costs_few_datagrams() -> None:
    lab = UdpLab(profile=LinkProfile(delay=0.02, rate=100e6, loss=0.05))
    with udp() as program, udp() as target:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"first"), relay)
        lab.until(target)
        got = 0
        for _ in range(100):
            for i in range(5):
                program.sendto(wrap(where(target), bytes(800) + b"%d" % i), relay)
            lab.pass_time(0.01)
            got += len(waiting(target))
        lab.settle()
        got += len(waiting(target))
        assert 490 <= got <= 500
    lab.close()
