"""Empty tables are memory that nobody has written to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vantun.session.limits import Limits
from vantun.session.pool import stack_up, stacked
from vantun.session.tables import make_tables

MOST_KB = 120
"""40 when this was written; 1,350 while free rows and free places of hash tables were written down."""


def _touched_kb(address: int) -> int:
    """Return how much of the mapping that holds ``address`` has pages."""
    held = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if found:
            held = int(found[1], 16) <= address < int(found[2], 16)
        elif held and line.startswith("Rss:"):
            return int(line.split()[1])
    raise AssertionError(f"no mapping holds {address:#x}")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the kernel does not tell (CONFIG_PROC_PAGE_MONITOR)")
def test_empty_tables_take_next_to_nothing() -> None:
    tables, arena = make_tables(Limits(), 1600)
    assert _touched_kb(arena.address) < MOST_KB
    assert int(tables.pool[0]["rows_free"]) == Limits().rows


def test_a_stack_begins_with_the_lowest_and_gives_back_the_last() -> None:
    tables, _ = make_tables(Limits(rows=8), 1600)
    stack = tables.free_row
    taken = [int(stacked(stack, 8, count)) for count in range(8, 0, -1)]
    assert taken == list(range(8))
    for count, number in enumerate((3, 7, 0)):
        stack_up(stack, 8, count, number)
    assert [int(stacked(stack, 8, count)) for count in (3, 2, 1)] == [0, 7, 3]
