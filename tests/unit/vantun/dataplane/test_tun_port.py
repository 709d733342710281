"""The commands about the TUN device and its flows, with a data plane that only remembers what it was told."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from vantun.acl import AccessList, Guard
from vantun.dataplane.pipeline import Dataplane
from vantun.dataplane.poller import Poller
from vantun.dataplane.tun_port import TunFlowPort, TunPorts
from vantun.dataplane.tun_tables import rule_dtype
from vantun.errors import ProtocolError, ResourceError
from vantun.session.limits import MAX_SESSIONS
from vantun.tun_messages import (
    MAX_PACKET_RULES,
    MAX_PREFIXES,
    AddTun,
    AttachTun,
    OpenTun,
    SetPacketRules,
    SetTunRoutes,
    TunFlow,
    TunLost,
    TunReport,
)


class FakePlane:
    """Flows by handle; sessions by row, whose id is 1000 more."""

    def __init__(self) -> None:
        self.known: dict[int, SimpleNamespace] = {}
        self.ports: dict[int, TunFlowPort] = {}
        self.read: list[int] = []
        self.refused: list[int] = []
        self.full = False
        self.flows = SimpleNamespace(by_handle=self.known.get)
        self.sessions = SimpleNamespace(session_id=lambda row: row + 1000)

    def opened(self, handle: int, row: int) -> None:
        """Have the peer open a flow."""
        self.known[handle] = SimpleNamespace(index=handle % 100, session=row, accepted=False)

    def open_flow(self, session: int, target: str, port: TunFlowPort, now: float) -> int:
        assert target == "tun:"
        if self.full:
            raise ResourceError("full")
        handle = 500 + len(self.known)
        self.opened(handle, session - 1000)
        self.ports[handle] = port
        return handle

    def attach_flow(self, handle: int, port: TunFlowPort, now: float) -> None:
        self.known[handle].accepted = True
        self.ports[handle] = port

    def refuse_flow(self, handle: int, code: int, now: float) -> None:
        self.refused.append(handle)

    def accept(self, handle: int) -> None:
        self.known[handle].accepted = True
        self.ports[handle].accepted()

    def broken(self, handle: int, now: float) -> None:
        self.known.pop(handle, None)
        self.ports.pop(handle).reset()

    def readable(self, handle: int) -> None:
        self.read.append(handle)


@dataclass
class Stage:
    """TUN ports without a device."""

    plane: FakePlane = field(default_factory=FakePlane)
    reports: list[TunReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.poller = Poller()
        self.tun = TunPorts(cast(Dataplane, self.plane), self.poller, self.reports.append, lambda: 1.0)

    def sessions(self) -> dict[str, dict[str, object]]:
        """Return what the snapshot says of each session."""
        found = self.tun.snapshot()["sessions"]
        assert isinstance(found, list)
        return {each["session"]: each for each in found}


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_client_opens_one_flow_and_hears_what_became_of_it(stage: Stage) -> None:
    stage.tun.serve(OpenTun(1007), [])
    (handle,) = stage.plane.known
    assert stage.reports == []
    assert stage.sessions()["3ef"]["open"] is False
    stage.plane.accept(handle)
    assert stage.reports == [TunFlow(1007, open=True, code=0)]
    assert stage.sessions()["3ef"]["open"] is True
    assert stage.plane.read == [handle]
    stage.plane.ports[handle].refused(2)
    assert stage.reports[1:] == [TunFlow(1007, open=False, code=2)]
    assert stage.sessions() == {}
    stage.plane.ports[handle].close()
    assert len(stage.reports) == 2


def test_a_flow_that_cannot_be_opened(stage: Stage) -> None:
    stage.plane.full = True
    stage.tun.serve(OpenTun(1007), [])
    assert stage.reports == [TunFlow(1007, open=False, code=1)]
    assert stage.sessions() == {}


def test_a_second_flow_replaces_the_first_without_saying_that_it_ended(stage: Stage) -> None:
    stage.tun.serve(OpenTun(1007), [])
    (first,) = stage.plane.known
    stage.plane.accept(first)
    stage.tun.serve(OpenTun(1007), [])
    (second,) = stage.plane.known
    assert second != first or stage.plane.ports[second].handle == second
    stage.plane.accept(second)
    assert stage.reports == [TunFlow(1007, open=True, code=0)] * 2
    assert stage.sessions()["3ef"]["open"] is True


def test_a_server_without_a_device_refuses(stage: Stage) -> None:
    stage.plane.opened(7, 1)
    stage.tun.serve(AttachTun(7), [])
    assert stage.plane.refused == [7]
    stage.tun.serve(AttachTun(8), [])  # it has ended meanwhile
    assert stage.plane.refused == [7]


def test_what_is_no_device_is_reported(stage: Stage) -> None:
    with open(os.devnull, "rb") as nothing:
        stage.tun.serve(AddTun(3, client=True, client_to_client=False, offloads=0), [nothing.fileno()])
    (report,) = stage.reports
    assert isinstance(report, TunLost)
    assert report.number == 3
    assert "no TUN device" in report.reason
    with pytest.raises(ProtocolError, match="lost on its way"):
        stage.tun.serve(AddTun(3, client=True, client_to_client=False, offloads=0), [])


def test_routes_are_kept_with_or_without_a_flow(stage: Stage) -> None:
    stage.tun.serve(SetTunRoutes(1007, ("10.0.0.1", "fd00::1"), ("10.1.0.0/16",)), [])
    assert stage.sessions()["3ef"]["prefixes"] == 3
    assert stage.tun.snapshot()["prefixes"] == 3
    stage.tun.serve(OpenTun(1007), [])
    stage.tun.end_session(1007)
    assert stage.sessions()["3ef"]["prefixes"] == 0  # its flow is about to end, too
    (handle,) = stage.plane.known
    stage.plane.ports[handle].reset()
    assert stage.sessions() == {}
    stage.tun.end_session(4)


def test_a_slot_is_not_given_away_while_its_flow_is_being_opened(stage: Stage) -> None:
    stage.tun.serve(OpenTun(1007), [])
    stage.tun.serve(SetTunRoutes(1007, (), ()), [])
    stage.tun.serve(SetTunRoutes(1008, ("10.0.0.1",), ()), [])
    (handle,) = stage.plane.known
    stage.plane.accept(handle)
    assert (stage.sessions()["3ef"]["open"], stage.sessions()["3f0"]["open"]) == (True, False)


@pytest.mark.parametrize("address", ["10.0.0.1/24", "x", ""])
def test_routes_that_are_none(stage: Stage, address: str) -> None:
    with pytest.raises(ProtocolError, match="routes of session 3ef"):
        stage.tun.serve(SetTunRoutes(1007, (address,), ()), [])
    assert stage.sessions() == {}


def test_too_many_of_everything(stage: Stage) -> None:
    many = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(MAX_PREFIXES + 1))
    with pytest.raises(ProtocolError, match="1 more than fit"):
        stage.tun.serve(SetTunRoutes(1, (), many), [])
    for session in range(MAX_SESSIONS):
        stage.tun.serve(SetTunRoutes(session, (f"10.0.{session >> 8}.{session & 255}",), ()), [])
    with pytest.raises(ProtocolError, match="have TUN routes or flows already"):
        stage.tun.serve(SetTunRoutes(MAX_SESSIONS, ("10.9.9.9",), ()), [])
    with pytest.raises(ProtocolError, match="have TUN routes or flows already"):
        stage.tun.serve(OpenTun(MAX_SESSIONS), [])


def test_rules(stage: Stage) -> None:
    rows = AccessList.parse(["reject(10.0.0.0/8)", "allow(all, tcp/443)", "reject(suffix:example.org)"], Guard.NONE)
    stage.tun.serve(SetPacketRules(rows.packet_rules()), [])
    assert stage.tun.snapshot()["rules"] == 2
    with pytest.raises(ProtocolError, match="no packet rules"):
        stage.tun.serve(SetPacketRules(b"123"), [])
    with pytest.raises(ProtocolError, match="more than"):
        stage.tun.serve(SetPacketRules(bytes((MAX_PACKET_RULES + 1) * rule_dtype.itemsize)), [])
    assert stage.tun.snapshot()["rules"] == 2
    stage.tun.serve(SetPacketRules(b""), [])
    assert stage.tun.snapshot()["rules"] == 0
