"""The table of addresses against a dict, through growth, removal and eviction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vantun.dataplane.udp_table import ALLOWED, FREE, PENDING, UdpTable, find_row

NAMES = st.binary(min_size=1, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "oldest"]), NAMES), max_size=80))
def test_table(steps: list[tuple[str, bytes]]) -> None:
    table = UdpTable(5, 6)
    model: dict[bytes, float] = {}
    for now, (step, name) in enumerate(steps):
        if step == "add" and name not in model:
            if table.full:
                oldest = table.name(table.oldest())
                assert model[oldest] == min(model.values())
                table.remove(table.oldest())
                del model[oldest]
            table.add(name, ALLOWED, float(now))
            model[name] = float(now)
        elif step == "remove":
            row = table.find(name)
            assert (row >= 0) == (name in model)
            if row >= 0:
                table.remove(row)
                del model[name]
        elif model:
            assert model[table.name(table.oldest())] == min(model.values())
        assert len(table) == len(model)
        for known in model:
            assert table.name(table.find(known)) == known
        assert (table.find(name) >= 0) == (name in model)


def test_growth_keeps_every_row_where_it_was() -> None:
    table = UdpTable(1000, 8)
    rows = {}
    for i in range(1000):
        name = i.to_bytes(4, "big")
        rows[name] = table.add(name, PENDING, float(i))
        table.table.number[rows[name]] = i
    assert table.full
    assert len(table.table.size) == 1000
    for name, row in rows.items():
        assert table.find(name) == row
        assert table.table.number[row] == int.from_bytes(name, "big")
    assert sorted(rows.values()) == table.rows()


def test_equal_hashes_do_not_make_equal_addresses() -> None:
    table = UdpTable(4, 4)
    table.add(b"aa", ALLOWED, 0.0)
    table.table.name[table.find(b"aa"), 0] = ord("b")  # as if another address had the same hash
    data = np.frombuffer(b"aa", np.uint8).copy()
    assert find_row(table.table, data, 0, 2) == -1
    assert table.find(b"") == table.find(b"too long") == -1


def test_what_is_gone_is_not_removed_twice() -> None:
    table = UdpTable(4, 4)
    row = table.add(b"aa", ALLOWED, 0.0)
    table.remove(row)
    table.remove(row)
    assert len(table) == 0
    assert table.oldest() == -1
    assert table.table.state[row] == FREE
