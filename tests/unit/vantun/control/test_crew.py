"""Several workers as one: what each is told of sessions, flows, UDP sockets and packets, and what is heard of them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from drivers.errors import SystemCallError
from drivers.linux.tun_steering import TunSteering
from tests.unit.vantun.dataplane.worker_pair import lane_pair
from vantun.config_accel import DEFAULT_ACCEL
from vantun.control import crew as crew_module
from vantun.control import crew_tunnel
from vantun.control.crew import Crew
from vantun.control.crew_numbers import SHIFT
from vantun.control.crew_tun import CrewTun
from vantun.control.recruits import Recruits
from vantun.control.slices import FIRST_NUMBER
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import FlowOpened, LaneMoved, SessionRestarted
from vantun.dataplane.ports import RefusalCode
from vantun.errors import WorkerError
from vantun.lanes import LaneSpec
from vantun.tun_messages import AddTun, AttachTun, OpenTun, SetPacketRules, SetTunRoutes, TunFlow
from vantun.udp_messages import AskUdp, JudgeUdp, NotePorts, UdpAction, UdpVerdict
from vantun.worker_messages import AddPeer, JoinMesh, StreamReply, UserRate

SESSION = 77


def refuse(_descriptor: int, _row: object) -> TunSteering:
    """Be a kernel that does not let us choose a TUN's queues."""
    raise SystemCallError("loading a program", errno.EPERM, "be root")


class Link:
    """Stands where a WorkerLink would, and keeps what it was told."""

    def __init__(self, _recruits: object, listener: Any, *, alone: bool) -> None:
        assert not alone
        self.listener = listener
        self.told: list[Any] = []
        self.serving = True
        self.pid = 0
        self.deaths = self.dropped = 0
        self.shows: dict[str, object] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **_named: self.told.append((name, *arguments))

    def _post(self, message: Any, sock: Any = None) -> None:
        self.told.append(message)
        if sock is not None:
            sock.close()

    async def begin(self) -> None:
        self.told.append("begin")

    async def replace(self) -> None:
        self.serving = True
        self.told.append("replace")

    async def close(self) -> None:
        self.told.append("close")

    async def snapshot(self) -> dict[str, object]:
        if not self.serving:
            raise WorkerError("gone")
        return self.shows

    def taken(self, kind: Any) -> list[Any]:
        """Return what it was told of one kind, and forget everything."""
        if isinstance(kind, str):
            found = [each for each in self.told if isinstance(each, tuple) and each[0] == kind]
        else:
            found = [each for each in self.told if isinstance(each, kind)]
        self.told.clear()
        return found


async def _busy() -> dict[str, object]:
    raise WorkerError("no time")


class Owner:
    """A CrewListener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.lost: list[tuple[int, str]] = []

    def on_datagram(self, number: int, data: bytes, peer: tuple[str, int]) -> None:
        self.events.append((number, data, peer))

    def on_event(self, event: Any) -> None:
        self.events.append(event)

    def on_worker_lost(self, reason: str, worker: int = 0) -> None:
        self.lost.append((worker, reason))


def lane(part: int, worker: int, path: int = 0, session: int = SESSION) -> LaneSpec:
    spec = lane_pair(path, (1, 2))[0]
    return replace(spec, session=session, slice=part, receive_cid=bytes([worker]) + spec.receive_cid[1:])


class Scene:
    """A crew whose workers are Links, with a session of two slices."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 2) -> None:
        monkeypatch.setattr(crew_module, "WorkerLink", Link)
        self.owner = Owner()
        self.workers = workers

    async def __aenter__(self) -> Scene:
        self.crew = await Crew.start(Recruits(DataplaneConfig(), DEFAULT_ACCEL), self.owner, self.workers)
        self.links = cast("list[Link]", self.crew._links)
        for part in range(2):
            self.crew.add_lane(lane(part, part))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.crew.close()

    def number(self, part: int) -> int:
        return next(each.number for each in self.crew._slices.of(SESSION) if each.part == part)


def play(scene: Scene, act: Callable[[Scene], None]) -> None:
    async def run() -> None:
        async with scene:
            act(scene)

    asyncio.run(run())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_workers_are_joined_in_a_mesh_and_slices_are_sessions_to_them(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        first, second = scene.links
        assert [each for each in first.told if isinstance(each, JoinMesh | AddPeer)] == [JoinMesh(0), AddPeer(1)]
        assert [each for each in second.told if isinstance(each, JoinMesh | AddPeer)] == [AddPeer(0), JoinMesh(1)]
        assert scene.number(0) == SESSION
        assert scene.number(1) >= FIRST_NUMBER
        (added,) = second.taken("add_lane")
        assert added[1].session == scene.number(1)
        scene.crew.close_lane(SESSION, 0)
        assert second.taken("close_lane") == [("close_lane", scene.number(1), 0)]
        ended = scene.number(1)
        scene.crew.end_session(SESSION)
        assert second.taken("end_session") == [("end_session", ended)]
        scene.crew.end_session(SESSION)
        assert not second.told

    play(scene, act)


def test_what_is_heard_of_a_slice_is_news_of_its_session(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        slice_1 = scene.number(1)
        scene.links[1].listener.on_event(SessionRestarted(slice_1, 2, True))
        scene.links[1].listener.on_event(FlowOpened(5, slice_1, "a:1"))
        scene.links[0].listener.on_event(FlowOpened(5, SESSION, "a:1"))
        scene.links[1].listener.on_event(LaneMoved(slice_1, 0, ("192.0.2.1", 9)))
        assert scene.owner.events == [
            SessionRestarted(SESSION, 2, True),
            FlowOpened(1 << SHIFT | 5, SESSION, "a:1"),
            FlowOpened(5, SESSION, "a:1"),
            LaneMoved(SESSION, 0, ("192.0.2.1", 9)),
        ]
        assert scene.links[1].taken("move_lane") == [("move_lane", slice_1, 0, ("192.0.2.1", 9))]
        scene.crew.refuse_flow(1 << SHIFT | 5, RefusalCode.GENERAL)
        assert scene.links[1].taken("refuse_flow") == [("refuse_flow", 5, RefusalCode.GENERAL)]
        assert scene.crew.is_of(1, 1 << SHIFT | 5)

    play(scene, act)


def test_new_flows_go_to_the_slice_with_least_to_do_and_never_to_a_dead_worker(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        def opened() -> list[int]:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                scene.crew.open_flow(SESSION, "a:1", ours, StreamReply())
            return [len(link.taken("open_flow")) for link in scene.links]

        assert [opened() for _ in range(4)] == [[1, 0], [0, 1], [1, 0], [0, 1]]
        scene.crew.load.look(0, {"flows": {"open": 3}})
        assert [opened() for _ in range(2)] == [[0, 1], [1, 0]]
        scene.links[1].serving = False
        assert [opened() for _ in range(3)] == [[1, 0]] * 3

    play(scene, act)


def test_an_answer_to_a_worker_that_has_died_reaches_nobody(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        listener = scene.links[1].listener
        listener.on_event(AskUdp(9, "a", 1))
        (asked,) = scene.owner.events
        scene.links[1].told.clear()
        scene.crew.udp_verdict(asked.number, UdpAction.TUNNEL)
        assert scene.links[1].taken(UdpVerdict) == [UdpVerdict(9, UdpAction.TUNNEL, "", 0)]
        listener.on_worker_lost("killed")
        assert scene.owner.lost == [(1, "killed")]
        scene.crew.udp_verdict(asked.number, UdpAction.TUNNEL)
        assert not scene.links[1].told

    play(scene, act)


def test_a_new_worker_is_told_what_the_one_before_knew(scene: Scene) -> None:
    async def run() -> None:
        async with scene:
            crew, link = scene.crew, scene.links[1]
            queues = [os.open("/dev/null", os.O_RDWR) for _ in range(2)]
            used: list[tuple[int, bool]] = []
            crew.add_tun(1, queues, client=True, offloads=3)
            crew._tunnel.tun = CrewTun(
                queues, use=lambda descriptor, wanted: used.append((descriptor, wanted)), steer=refuse
            )
            crew.set_packet_rules(b"x")
            crew.judge_udp(7, judged=True)
            crew.limit_users([UserRate("alice", 1.0, 2.0)])
            crew.limit_users([UserRate("bob", 1.0, 2.0)])
            crew.set_tun_routes(SESSION, ["10.0.0.2"], [])
            crew.open_tun(SESSION)
            scene.links[0].listener.on_event(TunFlow(SESSION, True, 0))
            link.listener.on_event(TunFlow(scene.number(1), True, 0))
            assert scene.links[0].taken(SetTunRoutes)[-1] == SetTunRoutes(SESSION, ("10.0.0.2",), (), away=1)
            link.told.clear()
            link.serving = False
            link.listener.on_worker_lost("killed")
            assert scene.links[0].taken(SetTunRoutes) == [SetTunRoutes(SESSION, ("10.0.0.2",), ())]
            await crew.replace(1)
            assert link.told == [
                "replace",
                AddPeer(0),
                JoinMesh(1),
                NotePorts(1),
                SetPacketRules(b"x"),
                JudgeUdp(True, 7),
                ("limit_users", (UserRate("bob", 0.5, 1.0),)),
                AddTun(1, True, False, 3),
                SetTunRoutes(scene.number(1), ("10.0.0.2",), (), away=0),
                OpenTun(scene.number(1)),
            ]
            assert not scene.links[0].told
            for descriptor in queues:
                os.close(descriptor)

    asyncio.run(run())


def test_packets_flow_on_workers_that_have_a_queue(scene: Scene) -> None:
    def act(scene: Scene) -> None:
        queue = os.open("/dev/null", os.O_RDWR)
        scene.crew.add_tun(1, [queue], client=False)
        os.close(queue)
        scene.links[1].told.clear()
        scene.crew.attach_tun(1 << SHIFT | 4)
        assert scene.links[1].taken("refuse_flow") == [("refuse_flow", 4, RefusalCode.NOT_ALLOWED)]
        scene.crew.open_tun(SESSION)
        assert scene.links[0].taken(OpenTun) == [OpenTun(SESSION)]
        assert not scene.links[1].taken((OpenTun, AttachTun))

    play(scene, act)


def test_the_owner_hears_of_the_first_slices_flow_and_another_is_opened_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_tunnel, "_AGAIN", 0.0)

    async def run() -> None:
        async with scene:
            queues = [os.open("/dev/null", os.O_RDWR) for _ in range(2)]
            scene.crew.add_tun(1, queues, client=True)
            scene.crew.open_tun(SESSION)
            scene.links[1].told.clear()
            for part, link in enumerate(scene.links):
                link.listener.on_event(TunFlow(scene.number(part), True, 0))
            assert scene.owner.events == [TunFlow(SESSION, True, 0)]
            scene.links[1].listener.on_event(TunFlow(scene.number(1), False, 0))
            await asyncio.sleep(0.01)
            assert scene.links[1].taken(OpenTun) == [OpenTun(scene.number(1))]
            scene.links[1].listener.on_event(TunFlow(scene.number(1), False, int(RefusalCode.NOT_ALLOWED)))
            await asyncio.sleep(0.01)
            assert not scene.links[1].told, "what was refused is not asked for again"
            for descriptor in queues:
                os.close(descriptor)

    asyncio.run(run())


def test_snapshots_are_of_sessions(scene: Scene) -> None:
    async def run() -> None:
        async with scene:
            for part, link in enumerate(scene.links):
                name = f"{scene.number(part):x}"
                counted = {"sent_bytes": 10 + part, "received_bytes": 1, "mtu": 1400 + part, "state": "active"}
                link.shows = {
                    "lanes": [{"session": name, "path": 0, **counted}],
                    "channels": [{"session": name, "channel": 2, "shards": 4}],
                    "flows": {"open": 1, "largest": [{"session": name, "flow": 2, **counted}]},
                    "users": [{"user": "alice", "sessions": 1, "sent_bytes": 5, "send_limit_bps": 100}],
                    "stages": [{"name": "open", "calls": 1, "packets": 2, "ns": 10, "ns_per_packet": 5.0}],
                    "engine_watch": [{"operation": "seal", "engine": "simd", "fallback": bool(part), "redone": 1}],
                    "worker": {"pid": 0, "cpu_s": 1.5, "cpu_wait_s": None if part else 0.1},
                    "tun": {"packets": {"in": 1}, "sessions": [{"session": name, "open": True}]},
                    "udp_flows": {"relays": 1, "associations": 2, "sources": 10 * part, "destinations": 50},
                }
            taken: Any = await scene.crew.snapshot()
            (path,) = taken["lanes"]
            assert (path["session"], path["sent_bytes"], path["mtu"]) == (f"{SESSION:x}", 21, 1400)
            assert [(each["slice"], each["worker"], each["sent_bytes"]) for each in path["slices"]] == [
                (0, 0, 10),
                (1, 1, 11),
            ]
            assert taken["channels"] == [{"session": f"{SESSION:x}", "channel": 2, "shards": 8}]
            assert taken["flows"]["open"] == 2
            assert [(row["session"], row["worker"]) for row in taken["flows"]["largest"]] == [
                (f"{SESSION:x}", 1),
                (f"{SESSION:x}", 0),
            ]
            assert taken["users"] == [{"user": "alice", "sessions": 1, "sent_bytes": 10, "send_limit_bps": 200}]
            assert taken["stages"][0]["ns_per_packet"] == 5.0
            assert (taken["engine_watch"][0]["fallback"], taken["engine_watch"][0]["redone"]) == (True, 2)
            assert taken["worker"] == {"pid": 0, "cpu_s": 3.0, "cpu_wait_s": None}
            assert taken["tun"]["packets"] == {"in": 2}
            assert taken["tun"]["sessions"] == [{"session": f"{SESSION:x}", "open": True}]
            assert [row["sent_bytes"] for row in taken["each"]] == [10, 11]
            assert [row["udp"] for row in taken["each"]] == [3, 13]
            assert taken["crew"] == 2
            answer = scene.links[0].snapshot
            scene.links[0].snapshot = _busy  # type: ignore[method-assign]
            again: Any = await scene.crew.snapshot()
            assert again["lanes"][0]["sent_bytes"] == 21, "what it said last counts"
            scene.links[0].snapshot = answer  # type: ignore[method-assign]
            scene.links[0].serving = False
            rest: Any = await scene.crew.snapshot()
            assert [row["worker"] for row in rest["each"]] == [1]
            scene.links[1].serving = False
            with pytest.raises(WorkerError):
                await scene.crew.snapshot()

    asyncio.run(run())


def test_one_worker_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with Scene(monkeypatch, 1) as scene:
            (link,) = scene.links
            assert not [each for each in link.told if isinstance(each, JoinMesh | AddPeer)]
            link.told.clear()
            await scene.crew.replace(0)
            assert link.told == ["replace"], "its owner tells it everything else"

    asyncio.run(run())
