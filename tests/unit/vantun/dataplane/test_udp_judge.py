"""The client's rules on UDP, through a tunnel in virtual time: tunnelled, direct and rejected targets of each mode."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.unit.vantun.dataplane.udp_lab import UdpLab, udp, unwrap, waiting, wrap
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION
from vantun.udp_messages import AskUdp, CloseUdp, JudgeUdp, MoveUdp, UdpAction, UdpKind, UdpVerdict


class Judged(UdpLab):
    """A lab whose client asks for each target.

    Attributes
    ----------
    verdicts
        By host; anything else is tunnelled.
    asked_here
        Questions of the client.
    silent
        Whether they stay open.
    """

    def __init__(self, profile: LinkProfile | None = None) -> None:
        super().__init__(profile=profile)
        self.verdicts: dict[str, UdpAction] = {}
        self.asked_here: list[AskUdp] = []
        self.silent = False
        self.renew()

    def renew(self, *, judged: bool = True) -> None:
        self.near.serve(JudgeUdp(judged, 0), None)

    def tell(self, ask: AskUdp) -> None:
        action = self.verdicts.get(ask.host, UdpAction.TUNNEL)
        address = (self.names.get(ask.host, ask.host), ask.port) if action == UdpAction.DIRECT else ("", 0)
        self.near.serve(UdpVerdict(ask.number, action, *address), None)

    def _give_answers(self) -> None:
        super()._give_answers()
        asked = [report for report in self.reports if isinstance(report, AskUdp)]
        self.reports = [report for report in self.reports if not isinstance(report, AskUdp)]
        self.near.report = self.reports.append
        self.asked_here += asked
        for ask in asked:
            if not self.silent:
                self.tell(ask)

    def direct(self) -> dict[str, object]:
        found = self.near.snapshot()["direct"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def lab() -> Iterator[Judged]:
    made = Judged()
    yield made
    made.close()


def where(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def test_a_relay_parts_its_datagrams_by_target(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT, "127.0.0.3": UdpAction.REJECT}
    with udp() as program, udp("127.0.0.4") as far, udp("127.0.0.2") as near, udp("127.0.0.3") as shut:
        _, relay = lab.relay(program)
        for i in range(20):
            for target in (far, near, shut):
                program.sendto(wrap(where(target), b"%d" % i), relay)
            lab.settle(0.02)
        tunnelled, direct = lab.until(far, 20), waiting(near)
        assert [data for data, _ in tunnelled] == [data for data, _ in direct] == [b"%d" % i for i in range(20)]
        assert waiting(shut) == []
        assert lab.drops(lab.near) == {"refused": 20}
        assert [ask.host for ask in lab.asked] == ["127.0.0.4"], "the server was asked for more than the tunnelled one"
        assert len(lab.asked_here) == 3, "a target is asked for once"
        assert len({source for _, source in direct}) == 1, "a program keeps its address towards direct targets"
        near.sendto(b"from nearby", direct[0][1])
        far.sendto(b"from afar", tunnelled[0][1])
        answers = dict(unwrap(data) for data, _ in lab.until(program, 2))
        assert answers == {b"from nearby": where(near), b"from afar": where(far)}
        counts = lab.direct()
        assert (counts["packets_out"], counts["packets_in"], counts["sockets"]) == (20, 1, 1)
        assert lab.near.snapshot()["packets_in"] == 20
        assert lab.near.snapshot()["packets_out"] == 1


def test_what_goes_past_the_tunnel_does_not_wait_for_it() -> None:
    lab = Judged(LinkProfile(rate=20e3, delay=0.5))
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.4") as far, udp("127.0.0.2") as near:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(near), b"the verdict"), relay)
        lab.until(near)
        for _ in range(40):
            for _ in range(4):
                program.sendto(wrap(where(far), bytes(40_000)), relay)
            program.sendto(wrap(where(near), b"x"), relay)
            lab.settle(0.02)
        assert len(waiting(near)) == 40
        assert lab.drops(lab.near)["no_room"] > 0
    lab.close()


def test_only_hosts_that_were_spoken_to_answer_a_direct_socket(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near, udp("127.0.0.2") as other_port, udp("127.0.0.9") as stranger:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(near), b"hello"), relay)
        source = lab.until(near)[0][1]
        stranger.sendto(b"unasked", source)
        other_port.sendto(b"from another port", source)
        assert [unwrap(data) for data, _ in lab.until(program)] == [(b"from another port", where(other_port))]
        assert lab.drops(lab.near) == {"stranger": 1}


def test_a_name_that_is_direct_is_sent_to_the_address_of_its_verdict(lab: Judged) -> None:
    lab.verdicts = {"intranet.test": UdpAction.DIRECT}
    lab.names["intranet.test"] = "127.0.0.2"
    with udp() as program, udp("127.0.0.2") as near:
        _, relay = lab.relay(program)
        for i in range(3):
            program.sendto(wrap(("intranet.test", where(near)[1]), b"%d" % i), relay)
        assert [data for data, _ in lab.until(near, 3)] == [b"0", b"1", b"2"]
        lab.pass_time(61.0)
        program.sendto(wrap(("intranet.test", where(near)[1]), b"looked up again meanwhile"), relay)
        assert lab.until(near)
        lab.settle()
        assert len(lab.asked_here) == 2
        assert lab.asked == []


def test_other_rules_make_verdicts_void(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.REJECT}
    with udp() as program, udp("127.0.0.2") as target:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(target), b"rejected"), relay)
        lab.settle()
        lab.verdicts = {}
        lab.renew()
        program.sendto(wrap(where(target), b"tunnelled"), relay)
        assert [data for data, _ in lab.until(target)] == [b"tunnelled"]
        lab.renew(judged=False)
        program.sendto(wrap(where(target), b"without rules"), relay)
        assert [data for data, _ in lab.until(target)] == [b"without rules"]
        assert len(lab.asked_here) == 2
        lab.verdicts = {"127.0.0.2": UdpAction.REJECT}
        lab.renew()
        program.sendto(wrap(where(target), b"rejected again"), relay)
        lab.settle()
        assert waiting(target) == []
        assert lab.drops(lab.near) == {"refused": 2}


def test_datagrams_wait_for_the_verdict_but_only_a_few(lab: Judged) -> None:
    lab.silent = True
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near:
        _, relay = lab.relay(program)
        for i in range(12):
            program.sendto(wrap(where(near), b"%d" % i), relay)
        lab.settle()
        assert waiting(near) == []
        assert len(lab.asked_here) == 1
        lab.tell(lab.asked_here[0])
        assert [data for data, _ in lab.until(near, 8)] == [b"%d" % i for i in range(8)]
        assert lab.drops(lab.near) == {"asked_full": 4}
        lab.tell(lab.asked_here[0])  # a second answer is nobody's


def test_questions_of_all_programs_are_bounded(lab: Judged) -> None:
    lab.silent = True
    with udp() as program:
        _, relay = lab.relay(program)
        for i in range(600):
            program.sendto(wrap((f"127.1.{i >> 8}.{i & 255}", 9), b"x"), relay)
            if i % 50 == 49:
                lab.settle(0.01)
        lab.settle()
        assert len(lab.asked_here) == 512
        assert lab.drops(lab.near) == {"asked_full": 600 - 512}


def test_targets_and_their_verdicts_are_bounded(lab: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.dataplane.udp_judge.TARGETS", 10)
    small = Judged()
    with udp() as program, udp("127.0.0.2") as near:
        small.verdicts = {"127.0.0.2": UdpAction.DIRECT}
        _, relay = small.relay(program)
        for i in range(30):
            program.sendto(wrap((f"127.0.1.{i + 1}", 9), b"x"), relay)
            small.settle(0.05)
        program.sendto(wrap(where(near), b"still served"), relay)
        assert [data for data, _ in small.until(near)] == [b"still served"]
        assert small.direct()["targets"] == 10
    small.close()


def test_sockets_are_bounded_and_what_finds_none_is_counted(lab: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantun.dataplane.udp_judge.SOCKETS", 1)
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as first, udp() as second, udp("127.0.0.2") as near:
        relays = [lab.relay(program) for program in (first, second)]
        first.sendto(wrap(where(near), b"first"), relays[0][1])
        lab.settle()
        second.sendto(wrap(where(near), b"second"), relays[1][1])
        lab.settle()
        assert [data for data, _ in waiting(near)] == [b"first"]
        assert lab.drops(lab.near) == {"unsent": 1}
        lab.near.serve(CloseUdp(relays[0][0]), None)
        second.sendto(wrap(where(near), b"there is room now"), relays[1][1])
        assert [data for data, _ in lab.until(near)] == [b"there is room now"]


def test_an_association_goes_on_past_the_tunnel_when_the_server_has_ended_it(lab: Judged) -> None:
    """The server hears nothing of direct datagrams, and takes the association for idle."""
    lab.association_idle = 10.0
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near, udp("127.0.0.4") as far:
        _, relay = lab.relay(program)
        program.sendto(wrap(where(near), b"0"), relay)
        source = lab.until(near)[0][1]
        lab.pass_time(13.0)
        assert lab.far.snapshot()["associations"] == 0
        assert lab.closed() == []
        near.sendto(b"answer", source)
        assert unwrap(lab.until(program)[0][0])[0] == b"answer"
        program.sendto(wrap(where(near), b"1"), relay)
        assert lab.until(near) == [(b"1", source)]
        program.sendto(wrap(where(far), b"2"), relay)
        assert [data for data, _ in lab.until(far)] == [b"2"]


def test_silence_ends_an_association_and_its_direct_socket(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near:
        number, relay = lab.relay(program, idle=30.0)
        program.sendto(wrap(where(near), b"hello"), relay)
        source = lab.until(near)[0][1]
        lab.pass_time(20.0)
        near.sendto(b"an answer keeps it", source)
        lab.until(program)
        lab.pass_time(25.0)
        assert lab.closed() == []
        lab.pass_time(10.0)
        assert lab.closed() == [number]
        assert lab.direct()["sockets"] == 0


def test_a_session_that_ends_leaves_what_goes_past_the_tunnel(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near:
        number, relay = lab.relay(program)
        program.sendto(wrap(where(near), b"hello"), relay)
        lab.until(near)
        lab.near.serve(MoveUdp(number, 0), None)
        lab.client.plane.end_session(SESSION, lab.now)
        lab.settle()
        assert lab.closed() == []
        program.sendto(wrap(where(near), b"no session to go on in"), relay)
        lab.settle()
        assert lab.closed() == [number]


def test_sources_of_a_forward_have_a_flow_only_when_something_is_tunnelled(lab: Judged) -> None:
    with udp() as first, udp() as second, udp("127.0.0.2") as target:
        lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
        host, port = where(target)
        _, forward = lab.listen(UdpKind.FORWARD, f"{host}:{port}")
        for program, text in ((first, b"1"), (second, b"2")):
            program.sendto(text, forward)
        sources = dict(lab.until(target, 2))
        assert len(set(sources.values())) == 2, "each source has an address of its own"
        for text, source in sources.items():
            target.sendto(b"answer " + text, source)
        assert lab.until(first) == [(b"answer 1", forward)]
        assert lab.until(second) == [(b"answer 2", forward)]
        assert lab.far.snapshot()["associations"] == len(lab.client.plane.flows) == 0
        lab.verdicts = {}
        lab.renew()
        first.sendto(b"tunnelled", forward)
        data, source = lab.until(target)[0]
        assert data == b"tunnelled"
        assert source not in sources.values()
        target.sendto(b"through the tunnel", source)
        assert lab.until(first) == [(b"through the tunnel", forward)]
        assert lab.far.snapshot()["associations"] == 1


def test_a_forward_past_the_tunnel_works_without_a_session(lab: Judged) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near, udp("127.0.0.4") as far:
        _, direct = lab.listen(UdpKind.FORWARD, f"127.0.0.2:{where(near)[1]}", session=0)
        number, tunnelled = lab.listen(UdpKind.FORWARD, f"127.0.0.4:{where(far)[1]}", session=0)
        for forward in (direct, tunnelled):
            program.sendto(b"x", forward)
        assert lab.until(near)
        lab.settle()
        assert lab.drops(lab.near) == {"no_session": 1}
        lab.near.serve(MoveUdp(number, SESSION), None)
        program.sendto(b"now", tunnelled)
        assert [data for data, _ in lab.until(far)] == [b"now"]


def test_a_source_keeps_its_direct_address_when_its_flow_ends(lab: Judged) -> None:
    lab.association_idle = 10.0
    with udp() as program, udp("127.0.0.2") as target:
        number, forward = lab.listen(UdpKind.FORWARD, f"127.0.0.2:{where(target)[1]}")
        program.sendto(b"tunnelled", forward)
        assert lab.until(target)
        lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
        lab.renew()
        program.sendto(b"direct", forward)
        source = lab.until(target)[0][1]
        lab.pass_time(13.0)
        assert lab.far.snapshot()["associations"] == 0
        program.sendto(b"still direct", forward)
        assert lab.until(target) == [(b"still direct", source)]
        lab.near.serve(MoveUdp(number, 0), None)
        program.sendto(b"also without a session", forward)
        assert lab.until(target) == [(b"also without a session", source)]
        lab.near.serve(CloseUdp(number), None)
        assert lab.direct()["sockets"] == lab.near.snapshot()["sources"] == 0


@pytest.mark.parametrize("size", [0, 1, 1400, 9000, 60_000])
def test_direct_datagrams_of_every_size_and_in_bursts(lab: Judged, size: int) -> None:
    lab.verdicts = {"127.0.0.2": UdpAction.DIRECT}
    with udp() as program, udp("127.0.0.2") as near:
        _, relay = lab.relay(program)
        payload = bytes(i * 7 & 255 for i in range(size))
        program.sendto(wrap(where(near), payload), relay)
        data, source = lab.until(near)[0]
        assert data == payload
        near.sendto(payload[::-1], source)
        assert unwrap(lab.until(program)[0][0]) == (payload[::-1], where(near))
        burst = 40 if size < 2000 else 2
        for _ in range(burst):
            program.sendto(wrap(where(near), payload), relay)
        assert lab.until(near, burst) == [(payload, source)] * burst
        for _ in range(burst):
            near.sendto(payload, source)
        assert len(lab.until(program, burst)) == burst


def test_what_no_packet_can_be_sent_to_is_not_asked_for(lab: Judged) -> None:
    with udp() as program:
        _, relay = lab.relay(program)
        program.sendto(b"\0\0\0\x03\x03a\x07b\0\x50x", relay)
        program.sendto(wrap(("192.0.2.1", 0), b"x"), relay)
        lab.settle()
        assert lab.drops(lab.near) == {"malformed": 2}
        assert lab.asked_here == []


def test_a_direct_verdict_without_an_address_rejects(lab: Judged) -> None:
    lab.verdicts = {"intranet.test": UdpAction.DIRECT}
    with udp() as program:
        _, relay = lab.relay(program)
        program.sendto(wrap(("intranet.test", 9), b"x"), relay)
        lab.settle()
        assert lab.drops(lab.near) == {"refused": 1}
