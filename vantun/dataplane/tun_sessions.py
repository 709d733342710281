"""The sessions that a TUN device serves: their slots in the tables, routes, rules and counters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from vantun.dataplane.tun_routes import set_routes
from vantun.dataplane.tun_tables import AWAY_HEAD, DIRECTIONS, IN, OUT, REASONS, make_tun_tables, rule_dtype
from vantun.errors import ProtocolError, ResourceError
from vantun.tun_messages import MAX_PACKET_RULES


class TunSessions:
    """Which session has which slot, and what the tables say about it.

    Attributes
    ----------
    tables
        What the kernels are given.
    """

    def __init__(self) -> None:
        self.tables, self._arena = make_tun_tables()
        self._record = self.tables.root[0]
        self._slots: dict[int, int] = {}
        self._held: set[int] = set()
        """Sessions with a flow, be it one that was not accepted yet."""
        self._beside: dict[int, int] = {}
        """Session -> the one whose routes it shares."""

    def hold(self, session: int) -> int:
        """Return the slot of a session, which keeps it until :meth:`disconnect`. Raises ResourceError."""
        slot = self._slot(session)
        self._held.add(session)
        return slot

    def _slot(self, session: int) -> int:
        known = self._slots.get(session)
        if known is not None:
            return known
        free = np.flatnonzero(self._record["slot"]["used"] == 0)
        if not len(free):
            raise ResourceError(f"{len(self._slots)} sessions have TUN routes or flows already; end some")
        slot = int(free[0])
        self._record["slot"][slot] = 0
        self._record["slot"][slot]["used"] = 1
        self._record["slot"][slot]["flow"] = -1
        self._record["slot"][slot]["away"] = -1
        self._record["slot"][slot]["owner"] = self._slots.get(self._beside.get(session, -1), slot)
        self._slots[session] = slot
        return slot

    def _release(self, session: int) -> None:
        """Give the slot of a session back that has neither routes nor a flow, here or elsewhere."""
        slot = self._slots.get(session)
        if slot is None:
            return
        entry = self._record["slot"][slot]
        if entry["prefixes"] == 0 and entry["away"] < 0 and session not in self._held:
            entry["used"] = 0
            del self._slots[session]

    def set_routes(
        self, session: int, addresses: Iterable[str], prefixes: Iterable[str], away: int = -1, beside: int = -1
    ) -> None:
        """Replace the addresses and prefixes of a session. Raises ValueError, ResourceError.

        Parameters
        ----------
        away
            Worker that has a flow of the session, for as long as there is none here.
        beside
            Session whose routes this one shares: they are two slices of one.
        """
        wanted = (list(addresses), list(prefixes))
        if beside >= 0:
            self._beside[session] = beside
        else:
            self._beside.pop(session, None)
        if not any(wanted) and away < 0 and session not in self._slots:
            return
        slot = self._slot(session)
        entry = self._record["slot"][slot]
        try:
            set_routes(self.tables, slot, *wanted)
            entry["away"] = away
            entry["owner"] = self._slots.get(beside, slot)
        finally:
            self._release(session)
        self._serve_one(slot)

    def _serve_one(self, slot: int) -> None:
        """Have the packets of a client go to this slot, if it has a flow somewhere and the one before has none."""
        state, entries = self._record["state"][0], self._record["slot"]
        if entries[slot]["used"] and (entries[slot]["away"] >= 0 or entries[slot]["flow"] >= 0):
            if state["slot"] < 0 or not self._has_way(int(state["slot"])):
                state["slot"] = slot
        elif state["slot"] == slot and not entries[slot]["used"]:
            state["slot"] = -1

    def _has_way(self, slot: int) -> bool:
        entry = self._record["slot"][slot]
        return bool(entry["used"] and (entry["flow"] >= 0 or entry["away"] >= 0))

    @property
    def any_away(self) -> bool:
        """Whether a session has its flow of packets on another worker."""
        entries = self._record["slot"]
        return bool(((entries["used"] != 0) & (entries["away"] >= 0)).any())

    def take_away(self) -> list[tuple[int, memoryview]]:
        """Return (worker, packet) of what was read for other workers; the memory is used again by the next call."""
        state, away = self._record["state"][0], self.tables.away
        end, place = int(state["away"]), 0
        state["away"] = 0
        taken: list[tuple[int, memoryview]] = []
        while place < end:
            worker, size = away[place : place + AWAY_HEAD].view("<i4").tolist()
            place += AWAY_HEAD
            taken.append((worker, away.data[place : place + size]))
            place += size
        return taken

    def count_by(self, buckets: NDArray[np.int64]) -> None:
        """Count what passes of each bucket in memory that the control process sees."""
        self.tables = self.tables._replace(buckets=buckets)

    def set_rules(self, rows: bytes) -> None:
        """Replace the rules of packets; raises ProtocolError."""
        if len(rows) % rule_dtype.itemsize or len(rows) > MAX_PACKET_RULES * rule_dtype.itemsize:
            raise ProtocolError(
                f"{len(rows)} B are no packet rules of {rule_dtype.itemsize} B, or more than {MAX_PACKET_RULES}; "
                "join networks in acl"
            )
        rules = np.frombuffer(rows, rule_dtype)
        self._record["rule"][: len(rules)] = rules
        self._record["state"][0]["rules"] = len(rules)

    def use_device(
        self, descriptor: int, offloads: int, *, client: bool, client_to_client: bool, plain: bool = False
    ) -> None:
        """Have the kernels use a device; -1 = none."""
        state = self._record["state"][0]
        state["descriptor"], state["offloads"], state["plain"] = descriptor, offloads, plain
        state["bulk"] = -1
        state["client"], state["client_to_client"] = client, client_to_client

    def connect(self, slot: int, flow: int) -> None:
        """Have packets of a slot go to a row of the flow table; -1 = nowhere."""
        self._record["slot"][slot]["flow"] = flow
        self._record["state"][0]["slot"] = slot

    def disconnect(self, session: int) -> None:
        """Have packets of a session go nowhere."""
        slot = self._slots.get(session)
        if slot is None:
            return
        self._held.discard(session)
        self._record["slot"][slot]["flow"] = -1
        if self._record["state"][0]["slot"] == slot and self._record["slot"][slot]["away"] < 0:
            self._record["state"][0]["slot"] = -1
        self._release(session)

    def snapshot(self) -> dict[str, object]:
        """Return counters by direction and reason, and by session."""
        state, count = self._record["state"][0], self._record["count"]
        return {
            "prefixes": int(state["prefixes"]),
            "conflicts": int(state["conflicts"]),
            "rules": int(state["rules"]),
            "packets": {DIRECTIONS[way]: int(count[way, 0]) for way in (OUT, IN)},
            "dropped": {
                DIRECTIONS[way]: {
                    name: int(number) for name, number in zip(REASONS[1:], count[way, 1:], strict=True) if number
                }
                for way in (OUT, IN)
            },
            "sessions": [self._session(session, slot) for session, slot in self._slots.items()],
        }

    def _session(self, session: int, slot: int) -> dict[str, object]:
        entry = self._record["slot"][slot]
        counters = {
            DIRECTIONS[way]: {name: int(entry[name][way]) for name in ("packets", "bytes", "dropped")}
            for way in (OUT, IN)
        }
        open_ = bool(entry["flow"] >= 0)
        return {"session": f"{session:x}", "open": open_, "prefixes": int(entry["prefixes"]), **counters}
