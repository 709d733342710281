"""A client with the right keys that is after the others: it is bounded, and they do not notice. All in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest

from tests.peer import BULK, CONTROL, INTERACTIVE, Peer, data, open_record, packets, pair, receipt, stream
from tests.property.invariants import check_tables
from vantun.dataplane.config import DataplaneConfig
from vantun.lab.endpoint import MemoryPort
from vantun.lab.link import Link, LinkProfile
from vantun.lab.network import Network, client_address
from vantun.session.limits import Limits

CONFIG = DataplaneConfig(limits=Limits(sessions=8, flows=512, rows=8192, flows_per_session=128))
LINK = LinkProfile(rate=30e6, delay=0.01, queue_bytes=400_000)
ATTACKER, PATH = 0xBAD, 9
TICKS = 24
TICK = 0.025


class Attacker(Peer):
    """A peer by hand, beside an honest client of the same server."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.end = network.server
        self.empty = self.pool()
        self.now = network.now
        self.next = 0
        network.source[PATH] = client_address(PATH)
        network.reachable[PATH] = {client_address(PATH)}
        for direction in (0, 1):
            network.links[PATH, direction] = Link(LINK, 77, direction)
        self.join(ATTACKER, PATH, client_address(PATH), "mallory")

    def flood(self, *frames: bytes) -> None:
        """Put packets in front of the server."""
        for one in frames:
            self.network.inject(0, self.packet(one))

    @property
    def record(self) -> dict[str, int]:
        """What the tables know of the attacker's session."""
        row = self.end.plane.sessions.row(ATTACKER)
        assert row is not None
        return {name: int(self.end.plane.context.tables.session[row][name]) for name in ("rows", "spans", "flows")}


Attack = Callable[[Attacker, int], None]


@dataclass
class Outcome:
    """What an honest client had of the server, and what became of the attacker."""

    goodput: int
    latency: float
    reasons: list[str]
    drops: dict[str, int]
    rows: int
    """The most rows that the attacker held."""
    spans: int


def answer(target: str, port: MemoryPort) -> None:
    """Serve at the server: bulk downloads, and answers to requests."""
    if target.startswith("get"):
        port.feed(bytes(3 << 20))
    elif target.startswith("ask"):
        port.feed(bytes(600))
        port.finish()


def run(attack: Attack | None) -> Outcome:
    """Let an honest client download and ask, while somebody attacks."""
    network = Network(CONFIG, seed=3)
    network.add_path(1, LINK)
    network.on_accept = answer
    attacker = Attacker(network) if attack is not None else None
    network.run(0.1)
    download = MemoryPort()
    network.open("get", download)
    network.run(0.6)
    before = len(download.received)
    times: list[float] = []
    rows = spans = 0
    for tick in range(TICKS):
        end = network.now + TICK
        if attacker is not None and attack is not None and not attacker.violations:
            attack(attacker, tick)
        port = MemoryPort()
        port.feed(bytes(200))
        started = network.now
        network.open(f"ask:{tick}", port)
        network.run(end, lambda port=port: len(port.received) == 600)  # type: ignore[misc]
        while len(port.received) < 600:
            network.run(network.now + 0.005)
            assert network.now - started < 1.0, "a request was not answered"
        times.append(network.now - started)
        if attacker is not None:
            if attacker.violations:
                network.server.plane.end_session(ATTACKER, network.now)
            else:
                rows, spans = max(rows, attacker.record["rows"]), max(spans, attacker.record["spans"])
        network.run(max(end, network.now))
        check_tables(network.server.plane)
    drops: dict[str, int] = network.server.plane.snapshot()["drops"]  # type: ignore[assignment]
    reasons = attacker.violations if attacker is not None else []
    goodput = len(download.received) - before
    elapsed = TICKS * TICK
    return Outcome(int(goodput / elapsed), sorted(times)[len(times) // 2], reasons, drops, rows, spans)


@cache
def undisturbed() -> Outcome:
    """Return what an honest client has without an attacker."""
    return run(None)


def holes(attacker: Attacker, tick: int) -> None:
    """Send single bytes, none next to another: every one needs a piece, and none can be delivered."""
    for shard in range(40):
        number = tick * 40 + shard
        records = b"".join(stream(0, 2 * (number * 100 + i) + 1, b"x") for i in range(100))
        block, column = divmod(number, 64)
        attacker.flood(data(BULK, block * 128 + column, records))


def holes_backwards(attacker: Attacker, tick: int) -> None:
    """Send the same on both sides of a middle: whoever looks for the place from one end walks far."""
    for shard in range(40):
        number = tick * 40 + shard
        apart = [2 * (number * 50 + i // 2) + 1 for i in range(100)]
        offsets = [100_000 + (way if i % 2 else -(way % 100_000)) for i, way in enumerate(apart)]
        block, column = divmod(number, 64)
        attacker.flood(data(BULK, block * 128 + column, b"".join(stream(0, at, b"x") for at in offsets)))


def blocks_without_end(attacker: Attacker, tick: int) -> None:
    """Send all but one shard of each block: the rows stay."""
    for block in range(tick * 5, min(tick * 5 + 5, 128)):
        attacker.flood(*[data(BULK, block * 128 + column, b"", k=64) for column in range(1, 64)])


def accepts(attacker: Attacker, tick: int) -> None:
    """Send records that make Python do something, hundreds in a packet."""
    if tick == 0:
        attacker.flood(data(CONTROL, 0, open_record(0)))
    for number in range(1, 20):
        attacker.flood(data(INTERACTIVE, tick * 128 + number, b"\x02\x00" * 500))


def resets(attacker: Attacker, tick: int) -> None:
    """Open and reset flows, as many as fit."""
    first = tick * 400
    for shard in range(10):
        ids = [2 * (first + shard * 40 + i) for i in range(40)]
        area = b"".join(open_record(flow) + pair(4, flow, 7) for flow in ids)
        attacker.flood(data(INTERACTIVE, tick * 128 + shard, area))


def packet_holes(attacker: Attacker, tick: int) -> None:
    """Send pieces of packets that never become whole."""
    if tick == 0:
        attacker.flood(data(CONTROL, 0, open_record(0, b"udp:")))
    for shard in range(40):
        area = b"".join(packets(0, (tick * 4000 + shard * 100 + i) * 50, 1, b"x") for i in range(100))
        block, column = divmod(tick * 40 + shard, 64)
        attacker.flood(data(3, block * 128 + column, area))


def one_receipt_a_packet(attacker: Attacker, tick: int) -> None:
    """Send as many RECEIPTs as packets; each is legal."""
    attacker.flood(*[receipt([(0, 0)], path=PATH)] * 200)


def never_acknowledges(attacker: Attacker, tick: int) -> None:
    """Ask for megabytes, many times over, and say nothing more."""
    attacker.flood(data(INTERACTIVE, tick * 128, open_record(2 * tick, b"get")))


def slow_loris(attacker: Attacker, tick: int) -> None:
    """Open flows and send a byte now and then."""
    area = b"".join(open_record(2 * (tick * 5 + i)) + stream(2 * (tick * 5 + i), 0, b"x") for i in range(5))
    attacker.flood(data(INTERACTIVE, tick * 128, area))


BOUNDED = [
    holes,
    holes_backwards,
    blocks_without_end,
    accepts,
    resets,
    packet_holes,
    one_receipt_a_packet,
    never_acknowledges,
    slow_loris,
]


@pytest.mark.slow
@pytest.mark.parametrize("attack", BOUNDED, ids=lambda attack: attack.__name__)
def test_what_is_too_much_is_lost_and_others_do_not_notice(attack: Attack) -> None:
    outcome = run(attack)
    assert outcome.rows <= CONFIG.limits.rows // 2 + 130
    assert outcome.spans <= CONFIG.limits.rows // 2 + 200
    assert outcome.goodput > 0.9 * undisturbed().goodput
    assert outcome.latency < 1.1 * undisturbed().latency + 2e-4
    if attack in (blocks_without_end, holes, accepts):
        assert outcome.drops["bound"] > 0


def many_receipts(attacker: Attacker, tick: int) -> None:
    """Fill a packet with RECEIPTs: each would be looked at packet by packet."""
    attacker.flood(receipt([(0, 0)], path=PATH) * 9)


def many_flows(attacker: Attacker, tick: int) -> None:
    """Use an id that opens ten thousand."""
    attacker.flood(data(INTERACTIVE, 0, stream(20_000, 0, b"x")))


def false_receipt(attacker: Attacker, tick: int) -> None:
    """Acknowledge what was not sent."""
    attacker.flood(receipt([(0, 10_000)], path=PATH))


def false_credit(attacker: Attacker, tick: int) -> None:
    """Send more than was granted."""
    attacker.flood(data(INTERACTIVE, 0, stream(0, 1 << 40, b"x")))


def absurd_span(attacker: Attacker, tick: int) -> None:
    """Send parity of a block of no shards."""
    attacker.flood(bytes([0x09, BULK, 0, 0, 0, 0, 0, 0]) + bytes(40))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (many_receipts, "more receipts"),
        (many_flows, "flow id"),
        (false_receipt, "never sent"),
        (false_credit, "credit"),
        (absurd_span, "contradicts"),
    ],
)
def test_who_breaks_the_protocol_is_ended_with_a_reason(attack: Attack, reason: str) -> None:
    outcome = run(attack)
    assert len(outcome.reasons) == 1
    assert reason in outcome.reasons[0]
    assert outcome.goodput > 0.9 * undisturbed().goodput
    assert outcome.latency < 1.1 * undisturbed().latency + 2e-4


def test_two_sessions_share_what_a_third_needs() -> None:
    """Whoever holds rows may hold as many as are free: with two such sessions a third of the pool is left."""
    network = Network(replace(CONFIG, limits=Limits(sessions=8, flows=64, rows=4096)))
    attacker = Attacker(network)
    network.run(0.05)
    blocks_without_end(attacker, 0)
    for tick in range(1, 24):
        blocks_without_end(attacker, tick)
        network.run(network.now + 0.01)
    assert attacker.record["rows"] <= 2048 + 130
    assert network.server.rows_in_use <= 2048 + 200
    check_tables(network.server.plane)
    network.server.plane.end_session(ATTACKER, network.now)
    assert network.server.rows_in_use == 0
