"""Sessions and lanes of a worker: entering them in the tables, their keys, their end; never per packet."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivers.linux.address import pack, unpack
from vantun.dataplane.context import Context
from vantun.dataplane.events import Event, LaneChanged, LaneClosed, LaneMoved, SessionViolated, UnitChanged
from vantun.dataplane.users import UserBook
from vantun.errors import ResourceError
from vantun.lanes import LaneSpec
from vantun.session import index, pool, wheel
from vantun.session.ecn import begin_ecn
from vantun.session.floors import claim_lane, claim_session, refuse_all_below
from vantun.session.keys import Ratchet
from vantun.session.layout import channel_dtype
from vantun.session.limits import PACKET_START
from vantun.session.mtu import begin_search, size_refused
from vantun.session.rate import BBR, BRUTAL, begin_rate
from vantun.session.rebind import OTHER, settle_peer
from vantun.session.recovery import ACTIVE, STATE_NAMES, VALIDATING, lane_timeout, suspect, trust_lane
from vantun.session.repack import repack_session
from vantun.session.restart import forget_in_flight
from vantun.session.tables import CHANNELS, SESSION_LANES, WINDOW
from vantun.session.teardown import empty_channel
from vantun.wire.frames import SHARD_HEADER
from vantun.wire.short_header import HEADER_LENGTH, cid_key

PACKET_OVERHEAD = HEADER_LENGTH + SHARD_HEADER + 16
"""Bytes of a packet around the unit of its shard."""
_IPV6_MTU = 1452
"""UDP payload of an Ethernet frame with IPv6; IPv4 leaves 1472."""
_NAMES = channel_dtype.names or ()
_COUNTERS = list(_NAMES[_NAMES.index("shards") : _NAMES.index("last_k")])
"""What a channel has counted: it goes on when the session restarts."""
_NEW_CHANNEL = {
    "open_row": -1,
    "open_flow": -1,
    "parity_head": -1,
    "parity_tail": -1,
    "credit": WINDOW,
    "largest_seq": -1,
    "expiry": float("inf"),
}
RESTARTS_TOO_OFTEN, TOO_MUCH_MEMORY = 10, 11
VIOLATIONS = {
    1: "stream data beyond its credit",
    2: "a flow id that it may not use, or too many flows",
    3: "contradicting final sizes",
    4: "a shard that contradicts its block",
    5: "a receipt for packets that were never sent",
    6: "an unknown frame",
    7: "a record that cannot be read",
    9: "more receipts in a packet than a session has paths",
    8: "packets in a stream, a stream among packets, or a packet of an impossible length",
    RESTARTS_TOO_OFTEN: "RESTART again and again",
    TOO_MUCH_MEMORY: "memory is short, and its user's sessions hold more than half of it",
}


@dataclass
class _Lane:
    spec: LaneSpec
    send: Ratchet
    receive: Ratchet


class SessionBook:
    """Which session and lane has which row of the tables."""

    def __init__(self, context: Context) -> None:
        t = context.tables
        self._context = context
        self._sessions: dict[int, int] = {}
        self._lanes: dict[int, _Lane] = {}
        self._free_rows = list(range(int(t.pool[0]["sessions"])))
        self._free_lanes = list(range(len(t.lane)))
        self._repacks: set[int] = set()
        self.users = UserBook(context)
        self._late_keys: list[tuple[float, int, int]] = []
        self.peers: NDArray[np.uint8] = t.peer
        """Destination of each lane; the ``address`` table of outgoing batches."""
        self.events: list[Event] = []
        """What the owner should know, beside what :meth:`on_event` returns."""

    def row(self, session: int) -> int | None:
        """Return the table row of a session id."""
        return self._sessions.get(session)

    def session_id(self, row: int) -> int:
        """Return the id of the session in a table row."""
        return int(self._context.tables.session[row]["id"])

    def lane_spec(self, lane: int) -> LaneSpec:
        """Return what was asked for when the lane in this row was added."""
        return self._lanes[lane].spec

    def lanes(self) -> list[int]:
        """Return the rows of all lanes."""
        return list(self._lanes)

    def add_lane(self, spec: LaneSpec, now: float) -> int:
        """Enter a lane, and its session if it is the first; return its row. Raises ResourceError, ValueError."""
        t = self._context.tables
        session = self._sessions.get(spec.session)
        if session is None:
            session = self._begin_session(spec)
        places = t.session_lane[session]
        place = next((i for i in range(SESSION_LANES) if places[i] < 0), None)
        if not self._free_lanes or place is None:
            raise ResourceError(
                f"no room for path {spec.path} of session {spec.session:x}: "
                f"{SESSION_LANES} lanes a session and {len(t.lane)} lanes a worker are allowed; close one first"
            )
        lane = self._free_lanes[0]
        self._fill_lane(lane, session, spec, now)
        heapq.heappop(self._free_lanes)
        places[place] = lane
        t.session[session]["lanes"] += 1
        self._install_keys(lane, spec)
        index.insert(t.lane_key, t.lane_value, cid_key(spec.receive_cid), lane)
        self.fit_unit(session, now)
        wheel.wake(t.root, session)
        return lane

    def _begin_session(self, spec: LaneSpec) -> int:
        t = self._context.tables
        if not self._free_rows:
            raise ResourceError(
                f"no room for session {spec.session:x}: {len(self._sessions)} are open; raise limits or end one"
            )
        row = heapq.heappop(self._free_rows)
        record = t.session[row]
        t.session[row : row + 1] = np.zeros(1, t.session.dtype)
        record["used"] = 1
        record["id"] = spec.session
        record["client"] = spec.client
        record["next_flow"] = 0 if spec.client else 1
        record["peer_flow"] = -1
        record["unit"] = spec.mtu - PACKET_OVERHEAD
        record["user"] = self.users.begin(spec.user)
        record["effort"] = 1e6
        record["floor"] = spec.session_floor
        if spec.session_floor >= 0:
            own = int(record["next_flow"])
            epoch, flow = claim_session(self._context.floors, spec.session_floor, spec.session, own)
            record["epoch"] = epoch
            record["restart"] = epoch > 0  # a worker before this one had the session
            record["next_flow"] = record["restart_flow"] = flow
        self._begin_channels(row)
        self._sessions[spec.session] = row
        return row

    def _begin_channels(self, row: int) -> None:
        t = self._context.tables
        for channel in range(row * CHANNELS, (row + 1) * CHANNELS):
            t.channel[channel : channel + 1] = np.zeros(1, t.channel.dtype)
            t.block[channel]["used"] = 0
            t.rx_block[channel]["used"] = 0
            for name, value in _NEW_CHANNEL.items():
                t.channel[channel][name] = value

    def _fill_lane(self, lane: int, session: int, spec: LaneSpec, now: float) -> None:
        t = self._context.tables
        # first, because it raises for what is no address
        self.peers[lane] = np.frombuffer(pack(*spec.peer), np.uint8)
        t.lane[lane : lane + 1] = np.zeros(1, t.lane.dtype)
        record = t.lane[lane]
        values = {
            "used": 1,
            "state": VALIDATING,
            "backup": spec.backup,
            "session": session,
            "path": spec.path,
            "socket": spec.socket,
            "peer": lane,
            "slot": 2 * lane,
            "send_cid": cid_key(spec.send_cid),
            "mtu": spec.mtu,
            "mtu_base": min(1200, spec.mtu),
            "largest_acked": -1,
            "largest_rx": -1,
            "probe_due": 1,
            "probe_value": int.from_bytes(spec.send_secret[:8], "little") ^ 0x9E3779B97F4A7C15,
            "last_sent": now,
            "last_heard": now,
            "loss_seen": 0.01,
        }
        for name, value in values.items():
            record[name] = value
        t.replay[lane] = 0
        self._resume(lane, spec)
        settle_peer(t.root, lane)
        control, limit = (BRUTAL, spec.rate) if spec.rate > 0 else (BBR, spec.cap)
        begin_rate(t.root, lane, control, limit / 8.0, now)
        begin_ecn(t.root, lane)
        most = min(spec.max_mtu, _IPV6_MTU if ":" in spec.peer[0] else spec.max_mtu)
        begin_search(t.root, lane, min(most, int(t.pool[0]["stride"]) - PACKET_START), now)
        # The first path is used at once: waiting for the answer to a PROBE would cost a client's first byte a round
        # trip. One that joins others is probed first: what waits for it could go by them.
        others = [int(other) for other in t.session_lane[session] if other >= 0]
        if spec.client and spec.rtt > 0.0 and not any(t.lane[other]["state"] == ACTIVE for other in others):
            trust_lane(t.root, lane, spec.rtt, now)

    def _resume(self, lane: int, spec: LaneSpec) -> None:
        """Begin above what a worker before this one has sent and received on the lane, if there was one."""
        t, floors, record = self._context.tables, self._context.floors, self._context.tables.lane[lane]
        record["floor"] = spec.floor
        if spec.floor < 0:
            return
        first, largest, _, _ = claim_lane(floors, spec.floor, spec.receive_cid)
        record["next_pn"] = record["una"] = first
        record["largest_rx"] = largest
        if first:
            refuse_all_below(t, lane)

    def _install_keys(self, lane: int, spec: LaneSpec) -> None:
        t = self._context.tables
        updates = (0, 0)
        if spec.floor >= 0:
            entry = self._context.floors[0]["lane"][spec.floor]
            updates = int(entry["send_updates"]), int(entry["receive_updates"])
            t.lane[lane]["phase_start"] = entry["send_start"]
        t.lane[lane]["phase"], t.lane[lane]["rx_phase"] = updates[0] & 1, updates[1] & 1
        send = Ratchet(spec.send_secret, spec.suite, updates[0])
        receive = Ratchet(spec.receive_secret, spec.suite, updates[1])
        self._lanes[lane] = _Lane(spec, send, receive)
        engines = self._context.engines
        ends = (engines.seal.session, send, updates[0] & 1), (engines.open.session, receive, updates[1] & 1)
        for session, ratchet, phase in ends:
            session.install_key(2 * lane + phase, ratchet.current)
            session.install_key(2 * lane + (phase ^ 1), ratchet.following)

    def close_lane(self, session: int, path: int, now: float) -> None:
        """Take a lane out; what it carried is made good on the others. Unknown lanes are ignored."""
        t = self._context.tables
        row = self._sessions.get(session)
        if row is None:
            return
        for place in range(SESSION_LANES):
            lane = int(t.session_lane[row, place])
            if lane >= 0 and int(t.lane[lane]["path"]) == path:
                pool_events = t.pool[0]["events"]
                suspect(t.root, lane)
                t.pool[0]["events"] = pool_events  # its end is the owner's own wish: not news
                self._drop_lane(lane)
                t.session_lane[row, place] = -1
                t.session[row]["lanes"] -= 1
        self.fit_unit(row, now)
        wheel.wake(t.root, row)

    def _drop_lane(self, lane: int) -> None:
        t, spec = self._context.tables, self._lanes.pop(lane).spec
        index.remove(t.lane_key, t.lane_value, cid_key(spec.receive_cid))
        for serving in (self._context.engines.seal, self._context.engines.open):
            serving.session.remove_key(2 * lane)
            serving.session.remove_key(2 * lane + 1)
        t.lane[lane]["used"] = 0
        heapq.heappush(self._free_lanes, lane)
        self._late_keys = [late for late in self._late_keys if late[1] != lane]  # the next lane in this row has others

    def restart(self, row: int, epoch: int, peer_flow: int) -> None:
        """Begin a session's channels anew in ``epoch``, which the peer has begun; its flows must have been ended."""
        t = self._context.tables
        record = t.session[row]
        if record["floor"] >= 0:
            self._context.floors[0]["session"][int(record["floor"])]["epoch"] = epoch
        for channel in range(row * CHANNELS, (row + 1) * CHANNELS):
            empty_channel(t.root, channel)
        channels = t.channel[row * CHANNELS : (row + 1) * CHANNELS]
        counted = channels[_COUNTERS].copy()
        self._begin_channels(row)
        channels[_COUNTERS] = counted
        forget_in_flight(t.root, row)
        record["epoch"] = epoch
        record["restart_flow"] = record["next_flow"]
        record["repack_due"] = 0
        self._repacks.discard(row)
        self.settle(row, peer_flow)

    def settle(self, row: int, peer_flow: int) -> None:
        """Speak in the present epoch: the peer is in it, and ``peer_flow`` is its first flow id there."""
        record = self._context.tables.session[row]
        record["restart"] = 0
        record["peer_flow"] = max(peer_flow - 2, -1)
        wheel.wake(self._context.tables.root, row)

    def end_session(self, session: int) -> None:
        """Free everything a session holds; its flows must have been ended before. Unknown sessions are ignored."""
        t = self._context.tables
        row = self._sessions.pop(session, None)
        if row is None:
            return
        for place in range(SESSION_LANES):
            lane = int(t.session_lane[row, place])
            if lane >= 0:
                self._drop_lane(lane)
            t.session_lane[row, place] = -1
        for channel in range(row * CHANNELS, (row + 1) * CHANNELS):
            empty_channel(t.root, channel)
        t.session[row]["used"] = 0
        wheel.forget(t.root, row)
        self._repacks.discard(row)
        self.users.end(int(t.session[row]["user"]))
        heapq.heappush(self._free_rows, row)

    def fit_unit(self, session: int, now: float) -> None:
        """Set the session's unit to what fits its lanes; blocks that no longer fit are repacked.

        A lane whose first search is not over does not count while another one carries the session: it would make every
        shard short for as long as the search takes, and everything under way would have to be packed anew.
        """
        t = self._context.tables
        lanes = t.lane[[int(lane) for lane in t.session_lane[session] if lane >= 0]]
        if not len(lanes):
            return
        settled = lanes[lanes["mtu_settled"] == 1]
        if (settled["state"] == ACTIVE).any():
            lanes = settled
        unit = int(lanes["mtu"].min()) - PACKET_OVERHEAD
        before = int(t.session[session]["unit"])
        if unit == before:
            return
        t.session[session]["unit"] = unit
        self.events.append(UnitChanged(self.session_id(session), unit))
        if unit < before:
            self._repack(session, now)

    def refused_for_size(self, peer: int, size: int, now: float) -> None:
        """Act on a packet of ``size`` bytes to address row ``peer`` that the kernel refused because of its length."""
        t = self._context.tables
        size_refused(t.root, peer % OTHER, size, now)
        if t.lane[peer % OTHER]["used"]:
            wheel.wake(t.root, int(t.lane[peer % OTHER]["session"]))

    def run_late(self, now: float) -> None:
        """Install receive keys whose time has come, and retry repacking."""
        while self._late_keys and self._late_keys[0][0] <= now:
            _, lane, phase = self._late_keys.pop(0)
            if lane in self._lanes:
                following = self._lanes[lane].receive.advance()
                self._context.engines.open.session.install_key(2 * lane + (phase ^ 1), following)
        for row in list(self._repacks):
            self._repack(row, now)

    def late_due(self) -> float:
        """Return when :meth:`run_late` has to be called (inf = not at all)."""
        return -np.inf if self._repacks else self._late_keys[0][0] if self._late_keys else np.inf

    def _repack(self, row: int, now: float) -> None:
        t = self._context.tables
        whole = bool(repack_session(t.root, row, now))
        t.session[row]["repack_due"] = 0 if whole else 1
        (self._repacks.discard if whole else self._repacks.add)(row)
        wheel.wake(t.root, row)

    def on_event(self, event: NDArray[np.int64], now: float) -> Event | None:
        """Act on a table event about lanes or sessions; return what the owner should know."""
        kind, session, lane, a, b = (int(event[i]) for i in range(5))
        t = self._context.tables
        if not t.session[session]["used"]:
            return None
        identity = self.session_id(session)
        if kind == pool.EVENT_VIOLATION:
            return SessionViolated(identity, VIOLATIONS[a])
        if lane not in self._lanes:
            return None
        path = int(t.lane[lane]["path"])
        if kind == pool.EVENT_LANE_STATE:
            self.fit_unit(session, now)
            return LaneChanged(identity, path, STATE_NAMES[a], STATE_NAMES[b])
        if kind == pool.EVENT_LANE_CLOSED:
            return LaneClosed(identity, path, a)
        if kind == pool.EVENT_LANE_MOVED:
            return LaneMoved(identity, path, unpack(self.peers[lane]))
        if kind == pool.EVENT_MTU:
            self.fit_unit(session, now)
        elif kind == pool.EVENT_REKEY_SENT:
            self._note_update(lane, "send_updates", int(t.lane[lane]["phase_start"]))
            following = self._lanes[lane].send.advance()
            self._context.engines.seal.session.install_key(2 * lane + (a ^ 1), following)
        elif kind == pool.EVENT_REKEY_RECEIVED:
            self._note_update(lane, "receive_updates")
            # the old key serves what is under way for one probe timeout; the peer waits three (RFC 9001, section 6.5)
            self._late_keys.append((now + float(lane_timeout(t.root, lane)), lane, a))
        return None

    def _note_update(self, lane: int, name: str, start: int = -1) -> None:
        """Note a key update for the worker after this one, before a packet of the new phase leaves or is delivered."""
        place = int(self._context.tables.lane[lane]["floor"])
        if place >= 0:
            entry = self._context.floors[0]["lane"][place]
            entry[name] += 1
            if start >= 0:
                entry["send_start"] = start
