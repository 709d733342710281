"""Random events against a whole tunnel, and what must hold after each of them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.engine import KeySpec, SealJob
from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.dataplane.events import SessionViolated
from vantun.lab.endpoint import Endpoint, MemoryPort
from vantun.lab.link import LinkProfile
from vantun.lab.network import SESSION, Network
from vantun.session.limits import Limits
from vantun.session.tables import CHANNELS, SESSION_LANES, WINDOW

ROWS = 8192
MAX_FLOWS = 10
CHECK_EVERY = 1000
ATTACKER = ("203.0.113.66", 666)
CLEAN = LinkProfile(rate=40e6, delay=0.01, queue_bytes=200_000)


@dataclass
class Flow:
    """One flow: what was fed into either end, and whether its bytes have to arrive."""

    name: str
    near: MemoryPort
    handle: int
    fed: tuple[bytearray, bytearray]
    finished: list[bool]
    broken: bool = False


class Nonces:
    """Sees every packet that an end seals, and that no (key, number) comes twice."""

    def __init__(self, end: Endpoint) -> None:
        serving = end.plane.context.engines.seal
        self.count = 0
        self._keys: dict[int, bytes] = {}
        self._used: dict[bytes, set[int]] = {}
        install, run = serving.session.install_key, serving.run

        def installs(slot: int, spec: KeySpec) -> None:
            self._keys[slot] = spec.key
            install(slot, spec)

        def runs(job: Any) -> None:
            if isinstance(job, SealJob):
                for slot, number in zip(job.slot.tolist(), job.number.tolist(), strict=True):
                    used = self._used.setdefault(self._keys[slot], set())
                    assert number not in used, f"packet number {number} was used twice under one key"
                    used.add(number)
                    self.count += 1
            run(job)

        serving.session.install_key = installs  # type: ignore[method-assign]
        serving.run = runs  # type: ignore[method-assign]


class Chaos:
    """A tunnel in the hands of a seeded adversary.

    Attributes
    ----------
    events
        Events so far, by name; fates of packets other than plain delivery are events, too.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        limits = Limits(sessions=2, flows=64, rows=ROWS, flows_per_session=32)
        self.network = Network(DataplaneConfig(limits=limits, rekey_after=3000), seed=seed)
        self.ends = (self.network.client, self.network.server)
        self.nonces = [Nonces(end) for end in self.ends]
        self.events: Counter[str] = Counter()
        self.flows: dict[str, Flow] = {}
        self.paths: list[int] = []
        self._made = 0
        self._old: deque[tuple[int, bytes]] = deque(maxlen=300)
        self._copying = 0.0
        self._fates = 0.0
        self.network.tamper = self._fate
        self.network.accept_with = self._accept
        self._actions = {
            "feed": (self._feed, 24), "open": (self._open, 3), "finish": (self._finish, 2), "reset": (self._reset, 1),
            "read": (self._read, 6), "cut": (self._cut, 1), "restore": (self._restore, 3), "shape": (self._shape, 2),
            "rebind": (self._rebind, 2), "copy": (self._copy, 1), "fates": (self._choose_fates, 2),
            "garbage": (self._garbage, 16), "replay": (self._replay, 16), "corrupt": (self._corrupt, 16),
            "join": (self._join, 1), "leave": (self._leave, 1), "jump": (self._jump, 0.06), "refuse": (self._refuse, 1),
            "step": (self._step, 24),
        }  # fmt: skip
        weights = np.array([weight for _, weight in self._actions.values()])
        self._names = list(self._actions)
        self._shares = weights / weights.sum()
        self._join()
        self._join()

    @property
    def total(self) -> int:
        """How many events there were."""
        return sum(self.events.values())

    def run(self, events: int) -> None:
        """Let ``events`` happen, then everything come to its end."""
        checked = 0
        while self.total < events:
            for name in self.random.choice(self._names, 64, p=self._shares).tolist():
                self.events[name] += 1
                self._actions[name][0]()
            if self.total - checked >= CHECK_EVERY:
                checked = self.total
                self.check()
        self.calm_down()

    # --- what may happen

    def _accept(self, target: str) -> MemoryPort:
        return MemoryPort(limit=20_000 if target.startswith("slow") else None)

    def _one(self) -> Flow | None:
        return self.flows[str(self.random.choice(list(self.flows)))] if self.flows else None

    def _side(self, flow: Flow, side: int) -> tuple[MemoryPort | None, int]:
        if side == 0:
            return flow.near, flow.handle
        return self.network.accepted.get(flow.name), self.network.handles.get(flow.name, -1)

    def _open(self) -> None:
        if len(self.flows) >= MAX_FLOWS:
            return
        self._made += 1
        slow = self.random.random() < 0.3
        name = f"{'slow' if slow else 'fast'}{self._made}.example:80"
        near = MemoryPort(limit=20_000 if slow else None)
        handle = self.network.open(name, near)
        self.flows[name] = Flow(name, near, handle, (bytearray(), bytearray()), [False, False])

    def _feed(self) -> None:
        flow = self._one()
        if flow is None:
            return
        side = int(self.random.integers(2))
        port, handle = self._side(flow, side)
        if port is None or flow.finished[side] or port.fed > 100_000:
            return
        data = self.random.bytes(int(self.random.integers(1, 6000)))
        port.feed(data)
        flow.fed[side].extend(data)
        self.ends[side].plane.readable(handle)

    def _finish(self) -> None:
        flow = self._one()
        if flow is not None:
            self._finish_side(flow, int(self.random.integers(2)))

    def _finish_side(self, flow: Flow, side: int) -> None:
        port, handle = self._side(flow, side)
        if port is not None and not flow.finished[side]:
            flow.finished[side] = True
            port.finish()
            self.ends[side].plane.readable(handle)

    def _reset(self) -> None:
        flow = self._one()
        if flow is None:
            return
        side = int(self.random.integers(2))
        port, handle = self._side(flow, side)
        if port is not None:
            flow.broken = True
            port.break_stream()
            self.ends[side].plane.broken(handle, self._now(side))

    def _read(self) -> None:
        for flow in self.flows.values():
            for side in (0, 1):
                port, handle = self._side(flow, side)
                if port is not None:
                    port.drain()
                    self.ends[side].plane.writable(handle)

    def _now(self, side: int) -> float:
        return self.network.clocks[side]()

    def _any_path(self) -> int:
        return int(self.random.choice(self.paths))

    def _cut(self) -> None:
        path, way = self._any_path(), int(self.random.integers(3))
        for direction in (0, 1) if way == 2 else (way,):
            link = self.network.links[path, direction]
            link.set_profile(link.profile.cut)

    def _restore(self) -> None:
        path = self._any_path()
        for direction in (0, 1):
            self.network.links[path, direction].set_profile(CLEAN)

    def _shape(self) -> None:
        link = self.network.links[self._any_path(), int(self.random.integers(2))]
        profile = replace(
            CLEAN,
            rate=float(self.random.choice([5e6, 40e6, 200e6])),
            delay=float(self.random.choice([0.001, 0.02, 0.12])),
            loss=float(self.random.choice([0.0, 0.02, 0.2])),
            mtu=int(self.random.choice([1228, 1300, 1400, 1500])),
            jitter=float(self.random.choice([0.0, 0.03])),
            reorder=bool(self.random.random() < 0.5),
            duplicate=float(self.random.choice([0.0, 0.1])),
        )
        link.set_profile(profile)

    def _rebind(self) -> None:
        port = int(self.random.integers(1024, 60_000))
        host = f"192.0.2.{self.random.integers(1, 200)}" if self.random.random() < 0.5 else None
        self.network.rebind(self._any_path(), host=host, port=port, keep=bool(self.random.random() < 0.3))

    def _copy(self) -> None:
        self._copying = 0.0 if self._copying else float(self.random.choice([0.0001, 0.005, 0.03]))

    def _choose_fates(self) -> None:
        self._fates = float(self.random.choice([0.0, 0.02, 0.2]))

    def _fate(self, path: int, direction: int, datagram: bytes) -> bytes | None:
        if self.random.random() < 0.1:
            self._old.append((direction, datagram))
        if self._copying and direction == 0:
            self.network.inject(0, datagram, self._copying, ATTACKER)
        draw = self.random.random()
        if draw >= self._fates:
            return datagram
        kind = int(draw / self._fates * 4)
        self.events["packet lost, doubled, changed, late"] += 1
        if kind == 1:
            self.network.inject(direction, datagram, 0.005, self.network.source[path] if direction == 0 else ("", 0))
        elif kind == 2:
            place = int(self.random.integers(len(datagram)))
            return (
                datagram[:place] + bytes([datagram[place] ^ 1 << int(self.random.integers(8))]) + datagram[place + 1 :]
            )
        elif kind == 3:
            self.network.inject(direction, datagram, 0.2, self.network.source[path] if direction == 0 else ("", 0))
            return None
        return datagram if kind == 1 else None

    def _garbage(self) -> None:
        direction = int(self.random.integers(2))
        data = self.random.bytes(int(self.random.integers(0, 1400)))
        if self._old and self.random.random() < 0.7:
            data = self._old[int(self.random.integers(len(self._old)))][1][:9] + data
        self.network.inject(direction, data, float(self.random.random() * 0.01), ATTACKER)

    def _replay(self) -> None:
        if self._old:
            direction, datagram = self._old[int(self.random.integers(len(self._old)))]
            self.network.inject(direction, datagram, float(self.random.random()), ATTACKER)

    def _corrupt(self) -> None:
        if self._old:
            direction, datagram = self._old[int(self.random.integers(len(self._old)))]
            self.network.inject(direction, datagram[: int(self.random.integers(len(datagram)))], 0.001, ATTACKER)

    def _join(self) -> None:
        if len(self.paths) < 4:
            self._made += 1
            self.network.add_path(self._made, CLEAN, max_mtu=1472)
            self.paths.append(self._made)

    def _leave(self) -> None:
        if len(self.paths) > 1:
            path = self.paths.pop(int(self.random.integers(len(self.paths))))
            for side in self.random.permutation(2).tolist():
                self.ends[side].plane.close_lane(SESSION, path, self._now(side))

    def _jump(self) -> None:
        ahead = float(self.random.choice([0.3, 5.0, 30.0, 3600.0]))
        for side in range(2) if self.random.random() < 0.5 else (int(self.random.integers(2)),):
            self.network.skew[side] += ahead

    def _refuse(self) -> None:
        side = int(self.random.integers(2))
        row = int(self.random.integers(SESSION_LANES))
        self.ends[side].plane.refused_for_size(row, int(self.random.integers(1000, 1500)), self._now(side))

    def _step(self) -> None:
        self.network.run(self.network.now + float(self.random.exponential(0.001)))

    # --- what must hold

    def check(self) -> None:
        """Check every invariant; forget flows that have ended."""
        for end in self.ends:
            check_tables(end.plane)
            assert not [event for event in end.events if isinstance(event, SessionViolated)]
            end.events.clear()
            assert 0 <= end.rows_in_use <= ROWS
            self._check_lanes(end)
        for near, far in (self.ends, self.ends[::-1]):
            self._check_credit(near, far)
            self._check_receipts(near, far)
        for name in list(self.flows):
            if self._check_flow(self.flows[name]):
                del self.flows[name]

    def _check_lanes(self, end: Endpoint) -> None:
        t = end.plane.context.tables
        for lane in end.plane.sessions.lanes():
            record = t.lane[lane]
            assert 1200 <= int(record["mtu"]) <= int(record["mtu_limit"])
            assert int(record["other_sent"]) <= 3 * int(record["other_received"])

    def _check_credit(self, near: Endpoint, far: Endpoint) -> None:
        """Nobody sends beyond what the other end has granted: bytes of flows, blocks of channels."""
        mine, theirs = near.plane.context.tables, far.plane.context.tables
        granted = {int(flow["id"]): int(flow["granted"]) for flow in theirs.flow[theirs.flow["used"] == 1]}
        for flow in mine.flow[mine.flow["used"] == 1]:
            assert int(flow["offset"]) <= int(flow["credit"])
            if int(flow["id"]) in granted and flow["announced"]:
                assert int(flow["credit"]) <= granted[int(flow["id"])]
        for channel in range(CHANNELS):
            assert int(mine.channel[channel]["credit"]) <= int(theirs.channel[channel]["floor"]) + WINDOW
            blocks = mine.block[channel]
            begun = blocks["number"][(blocks["used"] == 1) & (blocks["sent"] > 0)]
            assert not len(begun) or int(begun.max()) < int(mine.channel[channel]["credit"])

    def _check_receipts(self, near: Endpoint, far: Endpoint) -> None:
        """Check that whatever an end would report as received was sent."""
        sent = {
            int(far.plane.context.tables.lane[lane]["path"]): int(far.plane.context.tables.lane[lane]["next_pn"])
            for lane in far.plane.sessions.lanes()
        }
        t = near.plane.context.tables
        for lane in near.plane.sessions.lanes():
            ranges = t.rx_range[lane, : int(t.lane[lane]["rx_ranges"])]
            path = int(t.lane[lane]["path"])
            assert path not in sent or not len(ranges) or int(ranges.max()) < sent[path]

    def _check_flow(self, flow: Flow) -> bool:
        """Check what has arrived; return whether the flow is over."""
        far = self.network.accepted.get(flow.name)
        for side, port in ((1, flow.near), (0, far)):
            if port is None:
                continue
            fed = flow.fed[side]
            if not flow.broken:
                assert not port.was_reset, f"{flow.name} was reset by nobody"
                assert not port.ended or len(port.received) == len(fed)
            assert fed[: len(port.received)] == port.received, f"{flow.name}: other bytes than were sent"
        if far is None:  # reset before its OPEN had arrived
            return flow.broken and flow.near.closed
        return flow.near.closed and far.closed

    def calm_down(self) -> None:
        """Let the attacks end and the paths heal: every flow that was not reset comes to its end with all its bytes."""
        self._copying = self._fates = 0.0
        for path in self.paths:
            for direction in (0, 1):
                self.network.links[path, direction].set_profile(CLEAN)
        for flow in self.flows.values():
            for side in (0, 1):
                self._finish_side(flow, side)
        for _ in range(1200):
            for flow in self.flows.values():
                for side in (0, 1):
                    self._finish_side(flow, side)
            self._read()
            self.network.run(self.network.now + 0.1)
            self.check()
            if all(flow.broken for flow in self.flows.values()):
                break
        assert not {name: flow for name, flow in self.flows.items() if not flow.broken}, (
            self.network.client.plane.snapshot()
        )
