"""Kernels of a library do what numba's do, take what they were compiled for, and hand on everything else."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.kernel import KernelError
from drivers.kernel_calls import dtype_mark, forget_arguments, layout_fault
from drivers.kernel_library import KernelLibrary
from tests.unit.drivers import little_library as little
from tests.unit.drivers.little_library import Columns, Sums, columns, opened, pair_dtype, write_library

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> KernelLibrary:
    root = tmp_path_factory.mktemp("root")
    return opened(write_library(root / "library", root), root)


class Bound:
    """An entry, and what it refused."""

    def __init__(self, library: KernelLibrary, kernel: Any) -> None:
        entry = library.entry(kernel.name)
        assert entry is not None
        self.refused: list[str] = []
        self.call = entry.bind(self._refuse)

    def _refuse(self, arguments: tuple[Any, ...], why: str) -> str:
        self.refused.append(why)
        return "refused"


def test_numbers_tuples_and_arrays(library: KernelLibrary) -> None:
    bound = Bound(library, little.add_all)
    for count in (1, 5, 50):
        for flip in (False, True):
            given = columns(count), 0.25, 7, flip
            result = bound.call(*given)
            assert isinstance(result, Sums)
            assert result == little.add_all(*given)
            assert type(result.big) is bool
    assert bound.refused == []


def test_the_same_tuple_sees_what_its_arrays_hold_now(library: KernelLibrary) -> None:
    bound = Bound(library, little.add_all)
    given = columns(4)
    assert bound.call(given, 1.0, 0, False).total == 6
    given.value[:] = 5
    assert bound.call(given, 1.0, 0, False).total == 20


def test_a_tuple_is_kept_until_it_is_to_be_forgotten(library: KernelLibrary) -> None:
    bound = Bound(library, little.add_all)
    given = columns(4)
    bound.call(given, 1.0, 0, False)
    array = weakref.ref(given.value)
    del given
    assert array() is not None
    forget_arguments()
    assert array() is None
    assert bound.call(columns(4), 1.0, 0, False).total == 6
    assert bound.refused == []


def test_any_number_but_0_is_true(library: KernelLibrary) -> None:
    bound = Bound(library, little.add_all)
    assert [bound.call(columns(3), 1.0, 0, flag).total for flag in (0, 1, 2, 256, -1)] == [3, -3, -3, -3, -3]


def test_two_dimensions_and_memory_of_its_own(library: KernelLibrary) -> None:
    bound = Bound(library, little.transpose_sum)
    grid = np.arange(15, dtype=np.uint8).reshape(3, 5)
    for _ in range(1000):
        assert bound.call(grid) == (4, 5)
    assert bound.call(grid[1:]) == (9, 5)


def test_records(library: KernelLibrary) -> None:
    bound = Bound(library, little.write_pairs)
    pairs = np.zeros(4, pair_dtype)
    assert bound.call(pairs[1:3], -3) is None
    assert pairs["a"].tolist() == [0, -3, -3, 0]
    assert pairs["b"].tolist() == [0, 0, 0.5, 0]
    same = np.zeros(1, np.dtype([("a", "i4"), ("b", "f8")], align=True))  # another object that describes the same bytes
    bound.call(same, 9)
    assert same["a"] == 9
    assert bound.refused == []


def test_unsigned(library: KernelLibrary) -> None:
    bound = Bound(library, little.highest_bit)
    assert bound.call(np.uint64(5)) == (1 << 63) | 5
    assert bound.call((1 << 64) - 1) == (1 << 64) - 1
    assert bound.call(-1) == "refused"


@pytest.mark.parametrize(
    "grid",
    [
        np.zeros((2, 3), np.int8),
        np.zeros((2, 3), np.uint16),
        np.zeros(6, np.uint8),
        np.zeros((2, 3, 1), np.uint8),
        np.zeros((2, 6), np.uint8)[:, ::2],
        np.zeros((3, 2), np.uint8).T,
        [[1, 2]],
        None,
        b"12",
    ],
    ids=repr,
)
def test_other_arrays_are_refused(library: KernelLibrary, grid: Any) -> None:
    bound = Bound(library, little.transpose_sum)
    bound.call(np.zeros((2, 3), np.uint8))
    assert bound.call(grid) == "refused"
    assert "a0 is" in bound.refused[0]
    assert bound.call(np.ones((2, 3), np.uint8)) == (1, 3)


def test_arrays_that_cannot_be_written_are_refused(library: KernelLibrary) -> None:
    grid = np.zeros((2, 3), np.uint8)
    grid.flags.writeable = False
    assert Bound(library, little.transpose_sum).call(grid) == "refused"


@pytest.mark.parametrize(
    "arguments",
    [
        (Columns(np.zeros(3, np.int32), np.zeros(3)), 1.0, 1, False),
        ((np.zeros(3, np.int64),), 1.0, 1, False),
        ((), 1.0, 1, False),
        ([np.zeros(3, np.int64), np.zeros(3)], 1.0, 1, False),
        (7, 1.0, 1, False),
        (columns(3), "x", 1, False),
        (columns(3), 1.0, 1.5, False),
        (columns(3), 1.0, 1 << 63, False),
    ],
)
def test_other_arguments_are_refused(library: KernelLibrary, arguments: tuple[Any, ...]) -> None:
    bound = Bound(library, little.add_all)
    assert bound.call(columns(3), 1.0, 1, False).total == 4
    assert bound.call(*arguments) == "refused"
    assert "than it was compiled for" in bound.refused[0]
    assert bound.call(columns(3), 1.0, 1, False).total == 4


def test_an_error_in_the_kernel_is_an_exception(library: KernelLibrary) -> None:
    bound = Bound(library, little.fails_above)
    assert bound.call(3, 3) == 3
    with pytest.raises(KernelError, match="fails_above"):
        bound.call(3, 4)
    assert bound.call(3, 2) == 2


def test_threads_have_rows_of_their_own(library: KernelLibrary) -> None:
    bound = Bound(library, little.add_all)
    wrong: list[int] = []

    def work(number: int) -> None:
        given = Columns(np.full(10, number, np.int64), np.ones(10))
        totals = {bound.call(given, 1.0, 0, False).total for _ in range(2000)}
        wrong.extend(totals - {10 * number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_arrays_lie_where_they_are_expected() -> None:
    assert layout_fault() == ""


def test_marks_tell_layouts_apart() -> None:
    assert dtype_mark(np.dtype("u1")) == "|u1"
    one, other = np.dtype([("a", "i4"), ("b", "i4")]), np.dtype([("b", "i4"), ("a", "i4")])
    assert dtype_mark(one) != dtype_mark(other)
    assert dtype_mark(one) == dtype_mark(np.dtype(one.descr))
    assert dtype_mark(np.dtype([("a", "i4", (3,))])) != dtype_mark(np.dtype([("a", "i4", (4,))]))


def test_an_entry_that_is_not_there(library: KernelLibrary, tmp_path: Path) -> None:
    assert library.entry("no.such") is None
    assert library.address("no_such_symbol") == 0
