"""The span store against a naive model: a block is complete exactly when k of its shards are there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peer import BULK, Peer, code_row, data, open_record, parity, stream, unit
from tests.property.invariants import check_tables
from vantun.lab.endpoint import MemoryPort
from vantun.session.tables import WINDOW


@dataclass
class Block:
    """One block as its sender sees it, and what of it has come."""

    number: int
    areas: list[bytes]
    rows: dict[int, bytes] = field(default_factory=dict)
    data: set[int] = field(default_factory=set)
    parity: set[int] = field(default_factory=set)
    known: bool = False
    complete: bool = False

    @property
    def k(self) -> int:
        return len(self.areas)

    def frame(self, shard: int, *, tell: bool) -> bytes:
        """Return data shard ``shard``, or parity row ``shard - k``."""
        if shard < self.k:
            return data(BULK, self.number * 128 + shard, self.areas[shard], self.k if tell else 0)
        row = shard - self.k
        if row not in self.rows:
            self.rows[row] = code_row(row, [unit(area) for area in self.areas])
        return parity(BULK, self.number * 128, self.k, row, self.rows[row])

    def take(self, shard: int, *, tell: bool) -> None:
        if self.complete:
            return
        if shard < self.k:
            self.data.add(shard)
            self.known |= tell
        else:
            self.known = True
            if len(self.data) + len(self.parity) < self.k:
                self.parity.add(shard - self.k)
        self.settle()

    def settle(self) -> None:
        """Complete the block if its data is there; parity does it once the batch is through the decoder."""
        self.complete |= self.known and len(self.data) >= self.k

    def decode(self) -> None:
        self.complete |= self.known and len(self.data) + len(self.parity) >= self.k


Journey = tuple[list[int], list[list[tuple[int, int, bool]]]]


@st.composite
def journeys(draw: st.DrawFn) -> Journey:
    """Return sizes of blocks, and batches of (block, shard, whether it tells k), reordered, duplicated and lost."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    shard = st.integers(0, len(sizes) - 1).flatmap(
        lambda b: st.tuples(st.just(b), st.integers(0, 2 * sizes[b]), st.booleans())
    )
    return sizes, draw(st.lists(st.lists(shard, min_size=1, max_size=12), min_size=1, max_size=6))


@pytest.mark.slow
@given(journeys())
def test_blocks_complete_exactly_with_k_shards(journey: Journey) -> None:
    sizes, batches = journey
    peer = Peer()
    peer.send(data(0, 0, open_record(0), k=1))
    port = MemoryPort()
    peer.end.plane.attach_flow(peer.end.events[-1].handle, port, peer.now)  # type: ignore[union-attr]
    blocks, sent = [], b""
    for number, size in enumerate(sizes):
        areas = []
        for column in range(size):
            payload = bytes([number + 1, column]) * (3 * column + number + 1)
            areas.append(stream(0, len(sent), payload, counted=column % 2 == 0))
            sent += payload
        blocks.append(Block(number, areas))
    for batch in batches:
        for b, shard, tell in batch:
            blocks[b].take(shard, tell=tell)
        peer.send(*[blocks[b].frame(shard, tell=tell) for b, shard, tell in batch])
        for block in blocks:
            block.decode()
        check_tables(peer.end.plane)
        floor = next((block.number for block in blocks if not block.complete), len(blocks))
        t = peer.end.plane.context.tables
        assert int(t.channel[BULK]["floor"]) == floor
        for block in blocks[floor:]:
            record = t.rx_block[BULK, block.number & (WINDOW - 1)]
            if block.data or block.parity:
                assert bool(record["complete"]) == block.complete
        assert sent.startswith(port.received)
        if floor == len(blocks):
            assert port.received == sent
    assert peer.violations == []
    assert peer.end_session() == peer.empty


@pytest.mark.parametrize("k", [1, 2, 63, 64, 65, 127, 128])
@pytest.mark.parametrize("lost", ["first", "last", "all"])
def test_spans_at_the_edges_of_the_bitmap(k: int, lost: str) -> None:
    peer = Peer()
    peer.send(data(0, 0, open_record(0), k=1))
    port = MemoryPort()
    peer.end.plane.attach_flow(peer.end.events[-1].handle, port, peer.now)  # type: ignore[union-attr]
    block = Block(0, [stream(0, column, bytes([column])) for column in range(k)])
    gone = {"first": {0}, "last": {k - 1}, "all": set(range(min(k, 3)))}[lost]
    shards = [shard for shard in range(k) if shard not in gone] + list(range(k, k + len(gone)))
    peer.send(*[block.frame(shard, tell=True) for shard in shards])
    assert port.received == bytes(range(k))
    assert int(peer.end.plane.context.tables.channel[BULK]["floor"]) == 1
    assert peer.end.channel_total("rx_recovered") == len(gone)
    check_tables(peer.end.plane)


def test_the_first_block_beyond_the_window_is_refused_and_taken_later() -> None:
    peer = Peer()
    peer.send(data(BULK, 128 * WINDOW, b""))
    assert peer.drops() == {"window": 1}
    peer.send(data(BULK, 0, b"", k=1), data(BULK, 128 * WINDOW, b""))
    assert peer.drops() == {"window": 1}
    assert peer.violations == []


def test_abandoned_blocks_are_forgotten_and_move_the_window() -> None:
    peer = Peer()
    peer.send(data(BULK, 128, b"\0"), data(BULK, 5, b"\0"))
    used = peer.pool().rows
    peer.send(data(0, 0, b"\x08\x02\x00" + b"\x08\x02\x01" + b"\x08\x02\x02" + b"\x08\x03\x00" + b"\x08\x02\x44\x00"))
    t = peer.end.plane.context.tables
    assert int(t.channel[BULK]["floor"]) == 3
    assert peer.pool().rows == used + 2 - 1  # both shards went, the control shard stays
    peer.send(data(BULK, 5, b"\0"))
    assert peer.drops() == {"late": 1}
    check_tables(peer.end.plane)


@pytest.mark.slow
@given(
    st.integers(1, 20).flatmap(lambda n: st.lists(st.integers(0, 126), min_size=n, max_size=n, unique=True)),
    st.integers(1, 128),
)
def test_rebuilding_is_linear_algebra(rows: list[int], k: int) -> None:
    """Any rows of the code repair as many lost shards of a block, whatever its size."""
    rows = rows[:k]
    peer = Peer()
    random = np.random.default_rng(k)
    units = [unit(b"\0" + random.bytes(int(random.integers(0, 30)))) for _ in range(k)]
    lost = set(random.choice(k, len(rows), replace=False).tolist())
    longest = max(map(len, units))
    frames = [bytes([8, BULK]) + j.to_bytes(4, "big") + bytes([k, 0]) + units[j] for j in range(k) if j not in lost]
    frames += [parity(BULK, 0, k, row, code_row(row, units).ljust(longest, b"\0")) for row in rows]
    peer.send(*frames)
    assert peer.end.channel_total("rx_recovered") == len(lost)
    assert peer.drops() == {}
    assert int(peer.end.plane.context.tables.channel[BULK]["floor"]) == 1
