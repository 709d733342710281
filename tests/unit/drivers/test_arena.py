"""The arena: alignment, laziness, guard pages, and views that outlive it."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.arena import ALIGNMENT, Arena, row_stride
from drivers.errors import DriverError, SystemCallError

ROOT = Path(__file__).parents[3]


@given(st.integers(0, 1 << 20))
def test_row_stride_is_the_smallest_odd_number_of_lines_that_fits(length: int) -> None:
    stride = row_stride(length)
    assert stride >= length
    assert stride % 128 == 64
    assert stride - 128 < max(length, 1)
    assert stride == 64 or stride & (stride - 1)


@pytest.mark.parametrize(
    ("length", "stride"), [(0, 64), (1, 64), (65, 192), (1350, 1472), (2048, 2112), (65536, 65600)]
)
def test_row_stride_by_example(length: int, stride: int) -> None:
    assert row_stride(length) == stride


@given(st.integers(1, 40), st.integers(1, 9000))
def test_rows_are_disjoint_aligned_and_zero(rows: int, stride: int) -> None:
    with Arena(rows, stride) as arena:
        assert arena.address % ALIGNMENT == 0
        assert arena.address == arena.memory.ctypes.data
        assert arena.memory.shape == (rows * stride,)
        assert not arena.memory.any()
        for index in range(rows):
            arena.row(index)[:] = index + 1
        assert np.array_equal(arena.memory.reshape(rows, stride)[:, 0], np.arange(rows) + 1)
        assert np.array_equal(arena.memory.reshape(rows, stride)[:, -1], np.arange(rows) + 1)


def test_an_emptied_arena_gives_its_pages_back_and_reads_as_zeros() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])

    with Arena(16 << 10, 1024) as arena:
        view, before = arena.row(3), resident()
        arena.memory[:] = 7
        filled = resident()
        arena.empty()
        assert filled - before > 3000
        assert resident() - before < 1000
        assert not view.any()
        view[:] = 1
        assert arena.memory.sum() == 1024


def test_a_closed_arena_has_nothing_to_empty() -> None:
    arena = Arena(4, 64)
    view = arena.row(0)
    view[:] = 1
    arena.close()
    arena.empty()
    assert view.all()


@pytest.mark.parametrize("index", [-1, 4, 1000])
def test_rows_outside_are_refused(index: int) -> None:
    with Arena(4, 64) as arena, pytest.raises(IndexError):
        arena.row(index)


@pytest.mark.parametrize("size", [(0, 64), (4, 0), (-1, 64)])
def test_an_empty_arena_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DriverError, match="makes no sense"):
        Arena(*size)


def test_memory_that_the_kernel_does_not_have_is_a_named_error() -> None:
    with pytest.raises(SystemCallError, match="bytes of packet memory failed"):
        Arena(1 << 30, 1 << 30)


def test_a_view_outlives_close() -> None:
    arena = Arena(4, 4096)
    view = arena.row(3)
    view[:] = 7
    arena.close()
    arena.close()
    assert arena.closed
    del arena
    gc.collect()
    assert view.sum() == 7 * 4096
    view[:] = 9
    assert view[-1] == 9


def test_a_closed_arena_refuses_its_memory() -> None:
    arena = Arena(1, 64)
    arena.close()
    with pytest.raises(DriverError, match="is closed"):
        _ = arena.memory
    with pytest.raises(DriverError, match="is closed"):
        arena.row(0)


def _resident(address: int) -> int:
    """Return the resident KiB of the mapping that holds ``address``."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, high = (int(part, 16) for part in head.split("-"))
            inside = low <= address < high
        elif inside and head == "Rss:":
            return int(line.split()[1])
    raise AssertionError(f"no mapping holds {address:#x}")


def test_pages_cost_nothing_until_they_are_written() -> None:
    with Arena(16, 1 << 16) as arena:
        assert _resident(arena.address) == 0
        arena.row(5)[0] = 1
        assert _resident(arena.address) > 0


CHILD = """
import ctypes
from drivers.arena import Arena
arena = Arena(3, 4096)
neighbour = Arena(1, 64)
ctypes.memset(arena.address, 1, 3 * 4096)
print("inside is fine", flush=True)
ctypes.memset(arena.address + {where}, 1, 1)
print("survived", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", [-1, 3 * 4096], ids=["before", "past the end"])
def test_a_write_outside_dies_in_the_guard_page(where: int) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(where=where)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert child.returncode == -signal.SIGSEGV
    assert child.stdout == "inside is fine\n"
