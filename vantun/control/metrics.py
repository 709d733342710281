"""The status document as Prometheus metrics: counters go up for ever, names carry base units, labels are bounded.

A lane's counters end with the lane. :class:`Totals` carries them over, so that what Prometheus sees never falls; what a
lane moves between the last look (every 2 s) and its end is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from vantun.control.metrics_engines import engines

Document = Mapping[str, object]
Row = Mapping[str, object]

MOST_PATHS = 256
"""Pairs of labels (path, peer) kept apart; names come from clients, so the rest is counted as one, ``other``."""
OTHER = ("other", "other")

_LANE_COUNTERS = {
    "received_bytes": ("vantun_path_receive_bytes", "Bytes received by UDP, authenticated."),
    "sent_bytes": ("vantun_path_transmit_bytes", "Bytes sent by UDP."),
    "received": ("vantun_path_receive_packets", "Packets received, authenticated."),
    "sent": ("vantun_path_transmit_packets", "Packets sent."),
    "acked": ("vantun_path_acknowledged_packets", "Packets that the peer has acknowledged."),
    "lost": ("vantun_path_lost_packets", "Packets given up as lost."),
    "ecn_marks": ("vantun_path_congestion_marked_packets", "Packets marked as congested (ECN) on the way to the peer."),
    "ecn_events": ("vantun_path_congestion_events", "Times that a path slowed down for congestion marks."),
    "bad_tags": ("vantun_path_bad_packets", "Packets whose authentication failed."),
}
_CHANNEL_COUNTERS = {
    "shards": ("vantun_fec_data_shards", "Data shards sent for the first time."),
    "parity": ("vantun_fec_parity_shards", "Parity shards sent."),
    "resent": ("vantun_fec_resent_shards", "Data shards sent again."),
    "rx_shards": ("vantun_fec_received_shards", "Data shards received."),
    "rx_parity": ("vantun_fec_received_parity_shards", "Parity shards received."),
    "rx_recovered": ("vantun_fec_recovered_packets", "Packets that parity has recovered."),
}
_PACKET_COUNTERS = {
    "packets_in": ("vantun_packets_transmit", "Packets of TUN and UDP taken for the tunnel."),
    "packets_out": ("vantun_packets_receive", "Packets of TUN and UDP that have come out of the tunnel."),
    "dropped_full": ("vantun_packets_no_room", "Packets for which a full queue had no room."),
    "expired": (
        "vantun_fec_residual_packets",
        "Shards of packets given up, unacknowledged, at their deadline.",
    ),
    "holes": ("vantun_packets_holes", "Gaps that a receiver has waited for in vain."),
}
_USER_COUNTERS = {
    "received_bytes": ("vantun_user_receive_bytes", "Bytes received from a user by UDP, authenticated."),
    "sent_bytes": ("vantun_user_transmit_bytes", "Bytes sent to a user by UDP."),
}
_LANE_GAUGES = {
    "rtt_ms": ("vantun_path_rtt_seconds", "Smoothed round-trip time.", 1e-3),
    "loss": ("vantun_path_loss_ratio", "Share of packets lost, smoothed.", 1.0),
    "rate_bps": ("vantun_path_pacing_bytes_per_second", "Rate that packets are paced at.", 0.125),
    "cwnd": ("vantun_path_congestion_window_bytes", "Congestion window.", 1.0),
    "in_flight": ("vantun_path_in_flight_bytes", "Bytes sent and not acknowledged.", 1.0),
    "mtu": ("vantun_path_mtu_bytes", "UDP payload of a full packet.", 1.0),
}


def rows(document: Document, name: str) -> list[Row]:
    """Return a list of mappings of the document; anything else in its place counts as empty."""
    found = document.get(name)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def number(row: Row, name: str) -> float:
    """Return a number of ``row``; 0 for anything that is none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


Present = dict[tuple[str, ...], tuple[tuple[str, str], Row]]


class Totals:
    """Counters of things that come and go, summed up per label for ever.

    Parameters
    ----------
    fields
        The counters.
    most
        Labels kept apart; what comes later is counted under OTHER.
    """

    def __init__(self, fields: Iterable[str], most: int = MOST_PATHS) -> None:
        self._fields = tuple(fields)
        self._most = most
        self._seen: dict[tuple[str, ...], dict[str, float]] = {}
        self.sums: dict[tuple[str, str], dict[str, float]] = {}

    def label(self, wanted: tuple[str, str]) -> tuple[str, str]:
        """Return the label under which ``wanted`` is counted."""
        if wanted not in self.sums and len(self.sums) >= self._most:
            wanted = OTHER
        self.sums.setdefault(wanted, dict.fromkeys(self._fields, 0.0))
        return wanted

    def update(self, present: Mapping[tuple[str, ...], tuple[tuple[str, str], Row]], *, several: bool = False) -> None:
        """Add what each thing has counted since the last look: ``present`` is identity -> (label, its counters).

        ``several`` workers add up to a counter: if it falls, one of them was lost, and the others go on counting.
        """
        seen: dict[tuple[str, ...], dict[str, float]] = {}
        for identity, (wanted, row) in present.items():
            before = self._seen.get(identity, {})
            sums = self.sums[self.label(wanted)]
            seen[identity] = {}
            for name in self._fields:
                value = number(row, name)
                last = before.get(name, 0.0)
                fallen = 0.0 if several else value  # the only worker, when it was replaced, counts from 0
                sums[name] += value - last if value >= last else fallen
                seen[identity][name] = value
        self._seen = seen


class Exporter(Collector):
    """Turns the latest document into metrics.

    :meth:`look` takes a document; :meth:`page` returns what was seen last as Prometheus' text.
    """

    def __init__(self) -> None:
        self._lanes = Totals(_LANE_COUNTERS)
        self._channels = Totals(_CHANNEL_COUNTERS)
        self._packets = Totals(_PACKET_COUNTERS)
        self._users = Totals(_USER_COUNTERS)
        self._document: Document = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def look(self, document: Document) -> None:
        """Take in a document; call it at every look at the worker, scrape or not."""
        if not document:
            return
        self._document, several = document, number(document, "crew") > 1
        self._lanes.update(
            {
                (str(lane.get("session")), str(lane.get("path"))): (_path_label(document, lane), lane)
                for lane in rows(document, "lanes")
            },
            several=several,
        )
        self._channels.update(
            {
                (str(row.get("session")), str(row.get("channel"))): ((str(row.get("class")), ""), row)
                for row in rows(document, "channels")
            },
            several=several,
        )
        packets: Present = {(str(row.get("session")),): (("", ""), row) for row in rows(document, "packets")}
        self._packets.update(packets, several=several)
        users: Present = {(name,): ((name[:64], ""), row) for name, row in _users(document)}
        self._users.update(users, several=several)

    def page(self) -> bytes:
        """Return the metrics as text (text/plain; version=0.0.4)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; called by prometheus-client."""
        document = self._document
        yield _info(document)
        yield GaugeMetricFamily("vantun_up", "Whether it can do its work.", value=float(bool(document.get("ready"))))
        yield GaugeMetricFamily("vantun_uptime_seconds", "Since its start.", value=number(document, "uptime"))
        yield from _counters(_LANE_COUNTERS, self._lanes, ("path", "peer"))
        yield from _counters(_CHANNEL_COUNTERS, self._channels, ("class",))
        yield from _counters(_PACKET_COUNTERS, self._packets, ())
        yield from _counters(_USER_COUNTERS, self._users, ("user",))
        yield from _lane_gauges(document, self._lanes)
        yield from engines(document)
        yield from _stages(document)
        yield from _worker(document)


def _path_label(document: Document, lane: Row) -> tuple[str, str]:
    """Return (path, peer): the peer of a client is the server's address, that of a server the user."""
    peer = lane.get("user") if document.get("role") == "server" else lane.get("peer")
    return str(lane.get("name", ""))[:64], str(peer or "")[:64]


def _users(document: Document) -> list[tuple[str, Row]]:
    """Return (user, counters), of a server; "" is everybody, where one password is for all."""
    return [(str(row.get("user", "")), row) for row in rows(document, "users")]


def _info(document: Document) -> Metric:
    facts = {"version": str(document.get("version", "")), "role": str(document.get("role", ""))}
    return InfoMetricFamily("vantun_build", "What runs here.", value=facts)


def _counters(
    names: Mapping[str, tuple[str, str]], totals: Totals, labels: tuple[str, ...]
) -> Iterator[CounterMetricFamily]:
    for field, (name, text) in names.items():
        family = CounterMetricFamily(name, text, labels=labels)
        for values, sums in totals.sums.items():
            family.add_metric(values[: len(labels)], sums[field])
        yield family


def _lane_gauges(document: Document, totals: Totals) -> Iterator[Metric]:
    lanes = {totals.label(_path_label(document, lane)): lane for lane in rows(document, "lanes")}
    for field, (name, text, factor) in _LANE_GAUGES.items():
        family = GaugeMetricFamily(name, text, labels=("path", "peer"))
        for label, lane in lanes.items():
            family.add_metric(label, number(lane, field) * factor)
        yield family
    up = GaugeMetricFamily("vantun_path_up", "Whether packets pass.", labels=("path", "peer"))
    for label, lane in lanes.items():
        up.add_metric(label, float(lane.get("state") == "active"))
    yield up


def _stages(document: Document) -> Iterator[Metric]:
    for field, unit, factor in (("calls", "calls", 1.0), ("packets", "packets", 1.0), ("ns", "seconds", 1e-9)):
        family = CounterMetricFamily(f"vantun_stage_{unit}", f"{unit.capitalize()} of a stage.", labels=("stage",))
        for row in rows(document, "stages"):
            family.add_metric((str(row.get("name")),), number(row, field) * factor)
        yield family


def _worker(document: Document) -> Iterator[Metric]:
    drops = CounterMetricFamily("vantun_dropped_packets", "Packets dropped, by reason.", labels=("reason",))
    found = document.get("drops")
    for reason, count in found.items() if isinstance(found, Mapping) else ():
        drops.add_metric((str(reason),), float(count))
    yield drops
    flows, worker, pool = (document.get(name) for name in ("flows", "worker", "pool"))
    if isinstance(flows, Mapping):
        yield GaugeMetricFamily("vantun_flows_open", "Open flows.", value=number(flows, "open"))
    sessions = {lane.get("session") for lane in rows(document, "lanes")}
    yield GaugeMetricFamily("vantun_sessions_open", "Sessions with a path.", value=float(len(sessions)))
    if isinstance(pool, Mapping):
        for name in ("rows", "rows_free"):
            yield GaugeMetricFamily(f"vantun_pool_{name}", "Packet buffers.", value=number(pool, name))
    if isinstance(worker, Mapping):
        yield CounterMetricFamily("vantun_worker_cpu_seconds", "Processor time.", value=number(worker, "cpu_s"))
        yield GaugeMetricFamily("vantun_worker_resident_bytes", "Memory.", value=number(worker, "rss_bytes"))
    yield from _moves(document.get("tun"))
    workers = document.get("workers")
    yield from _each_worker(rows(workers, "each") if isinstance(workers, Mapping) else [])


def _moves(tun: object) -> Iterator[Metric]:
    """Yield what was moved between the queues of a TUN, if it has several."""
    if not isinstance(tun, Mapping):
        return
    packets = tun if "moved_buckets" in tun else tun.get("packets")
    if not isinstance(packets, Mapping) or "moved_buckets" not in packets:
        return
    moved = CounterMetricFamily("vantun_tun_moved_buckets", "Buckets of flows moved between workers.", labels=("by",))
    moved.add_metric(("load",), number(packets, "moved_buckets"))
    moved.add_metric(("peer",), number(packets, "followed_buckets"))
    yield moved
    handed = number(packets, "handed_over")
    yield CounterMetricFamily("vantun_tun_handed_over_packets", "Packets read for another worker.", value=handed)


def _each_worker(each: list[Row]) -> Iterator[Metric]:
    """Yield what tells the workers apart, if there are several."""
    if len(each) < 2:
        return
    busy = CounterMetricFamily("vantun_each_worker_cpu_seconds", "Processor time of a worker.", labels=("worker",))
    opened = GaugeMetricFamily("vantun_each_worker_flows", "Open flows of a worker.", labels=("worker",))
    spoken = GaugeMetricFamily(
        "vantun_each_worker_udp", "UDP associations and local sources of a worker.", labels=("worker",)
    )
    for row in each:
        label = (str(row.get("worker")),)
        busy.add_metric(label, number(row, "cpu_s"))
        opened.add_metric(label, number(row, "flows"))
        spoken.add_metric(label, number(row, "udp"))
    yield busy
    yield opened
    yield spoken
