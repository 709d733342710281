"""UDP forwards, reverse forwards and the bound on sources, through a tunnel in virtual time."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.unit.vantun.dataplane.udp_lab import UdpLab, udp, waiting
from vantun.lab.network import SESSION
from vantun.udp_messages import CloseUdp, MoveUdp, OpenUdp, UdpKind


@pytest.fixture
def lab() -> Iterator[UdpLab]:
    made = UdpLab()
    yield made
    made.close()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_a_forward_serves_every_source_apart(lab: UdpLab) -> None:
    with udp() as first, udp() as second, udp() as target:
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}")
        first.sendto(b"from the first", forward)
        second.sendto(b"from the second", forward)
        got = dict(lab.until(target, 2))
        for question, source in got.items():
            target.sendto(b"answer " + question, source)
        assert lab.until(first) == [(b"answer from the first", forward)]
        assert lab.until(second) == [(b"answer from the second", forward)]
        assert lab.near.snapshot()["sources"] == 2
        assert lab.far.snapshot()["associations"] == 2


def test_a_forward_to_a_name(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        lab.names["service.example"] = "127.0.0.1"
        _, forward = lab.listen(UdpKind.FORWARD, f"service.example:{port_of(target)}")
        program.sendto(b"question", forward)
        assert lab.until(target)[0][0] == b"question"


def test_a_source_that_is_silent_is_forgotten(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}", idle=60.0)
        program.sendto(b"1", forward)
        before = lab.until(target)[0][1]
        lab.pass_time(50.0)
        program.sendto(b"2", forward)
        assert lab.until(target) == [(b"2", before)]
        lab.pass_time(50.0)
        assert lab.near.snapshot()["sources"] == 1
        lab.pass_time(13.0)
        assert lab.near.snapshot()["sources"] == lab.far.snapshot()["associations"] == 0
        program.sendto(b"3", forward)
        assert lab.until(target)[0][0] == b"3"


def test_a_flood_of_sources_is_bounded_and_leaves_those_in_use_alone(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        number, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}", sources=64)
        program.sendto(b"the one in use", forward)
        assert lab.until(target)
        for start in range(0, 10_000, 100):
            for i in range(start, start + 100):
                flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                flood.bind((f"127.9.{i >> 8}.{i & 255}", 0))
                flood.sendto(b"flood", forward)
                flood.close()
            lab.pass_time(0.005)
            assert int(str(lab.near.snapshot()["sources"])) <= 64
        lab.settle()
        assert lab.drops(lab.near)["sources_full"] >= 10_000 - 64 - 1
        waiting(target)
        program.sendto(b"still served", forward)
        assert (b"still served" in [data for data, _ in lab.until(target)]) is True
        lab.near.serve(CloseUdp(number), None)
        lab.settle(2.0)
        assert lab.far.snapshot()["associations"] == 0


def test_the_oldest_silent_source_makes_room(lab: UdpLab) -> None:
    with udp() as target:
        programs = [udp() for _ in range(4)]
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}", sources=3)
        for program in programs[:3]:
            program.sendto(b"x", forward)
            lab.pass_time(1.0)
        programs[0].sendto(b"again", forward)
        lab.settle(1.5)
        programs[3].sendto(b"new", forward)
        got = [data for data, _ in lab.until(target, 5)]
        assert got == [b"x", b"x", b"x", b"again", b"new"]
        assert lab.near.snapshot()["sources"] == 3
        programs[0].sendto(b"kept", forward)
        lab.until(target)
        assert lab.drops(lab.near) == {}
        for program in programs:
            program.close()


def test_without_a_session_datagrams_are_counted_until_there_is_one(lab: UdpLab) -> None:
    with udp() as program, udp() as target:
        number, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}", session=0)
        program.sendto(b"too early", forward)
        lab.settle()
        assert lab.drops(lab.near) == {"no_session": 1}
        lab.near.serve(MoveUdp(number, SESSION), None)
        program.sendto(b"in time", forward)
        assert [data for data, _ in lab.until(target)] == [b"in time"]
        lab.near.serve(MoveUdp(number, 0), None)
        lab.settle()
        assert lab.near.snapshot()["sources"] == 0
        lab.near.serve(MoveUdp(number, 77), None)
        program.sendto(b"of a session that is unknown", forward)
        lab.settle()
        assert lab.drops(lab.near) == {"no_session": 2}
        lab.near.serve(MoveUdp(12345, SESSION), None)


def test_a_worker_without_room_for_flows_drops_and_counts(lab: UdpLab) -> None:
    lab.client.plane.context.tables.policy[0]["flows_per_session"] = 1
    with udp() as first, udp() as second, udp() as target:
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}")
        first.sendto(b"1", forward)
        second.sendto(b"2", forward)
        assert [data for data, _ in lab.until(target)] == [b"1"]
        assert lab.drops(lab.near) == {"sources_full": 1}


def test_a_refused_source_is_forgotten(lab: UdpLab) -> None:
    with udp() as program:
        lab.listen(UdpKind.REVERSE, "unknown")
        _, where = lab.listen(UdpKind.REVERSE, "unknown")
        program.sendto(b"x", where)
        lab.settle()
        assert lab.far.snapshot()["sources"] == 0


def test_a_reverse_forward_reaches_the_target_of_the_client(lab: UdpLab) -> None:
    with udp() as stranger, udp() as target:

        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(target.getsockname())
            return sock

        lab.reverse["games"] = connect
        number, public = lab.listen(UdpKind.REVERSE, "games")
        stranger.sendto(b"knock", public)
        question, source = lab.until(target)[0]
        assert question == b"knock"
        target.sendto(b"come in", source)
        assert lab.until(stranger) == [(b"come in", public)]
        lab.far.serve(CloseUdp(number), None)
        lab.settle()
        assert len(lab.client.plane.flows) == len(lab.server.plane.flows) == 0


def test_a_target_that_is_not_there_ends_nothing(lab: UdpLab) -> None:
    """ECONNREFUSED of a connected socket is counted; the flow goes on."""
    gone = udp()
    where = gone.getsockname()
    gone.close()

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(where)
        return sock

    lab.reverse["gone"] = connect
    _, public = lab.listen(UdpKind.REVERSE, "gone")
    with udp() as stranger:
        for _ in range(5):
            stranger.sendto(b"knock", public)
            lab.settle(0.2)
        assert lab.far.snapshot()["sources"] == 1
        refused = lab.near.snapshot()["refused_by_kernel"]
        assert isinstance(refused, dict)
        assert refused["icmp"] > 0


def test_a_target_that_is_no_target_is_reported(lab: UdpLab) -> None:
    lab.near.serve(OpenUdp(50, SESSION, UdpKind.FORWARD, "nothing", ("", 0), 60.0, 4), udp())
    assert list(lab.closed()) == [50]


def test_sources_go_on_when_the_worker_of_the_server_is_replaced(lab: UdpLab) -> None:
    """Their flows are opened again in the next epoch, in other rows of the table: nobody gets a neighbour's answers."""
    with udp() as target:
        programs = [udp() for _ in range(5)]
        _, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.1:{port_of(target)}")
        for number, program in enumerate(programs):
            program.sendto(b"%d" % number, forward)
        assert len(lab.until(target, 5)) == 5
        programs[1].close()
        lab.client.plane.end_packets(next(flow.handle for flow in lab.client.plane.flows._flows.values()), lab.now)
        lab.crash_far()
        lab.settle(1.0)
        alive = [programs[0], *programs[2:]]
        for number, program in enumerate(alive):
            program.sendto(b"again %d" % number, forward)
        for question, source in lab.until(target, 4):
            target.sendto(b"answer to " + question, source)
        for number, program in enumerate(alive):
            assert lab.until(program) == [(b"answer to again %d" % number, forward)]
            program.close()
