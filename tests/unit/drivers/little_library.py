"""A library of a few kernels of the tests' own, built once for each test process."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.aot.emit import emit_object, levels_of, link
from accel.aot.merge import merge
from accel.aot.record import Recorder
from accel.ir import crc
from accel.kernels.crc32c import crc32c
from drivers.kernel import Kernel, kernel
from drivers.kernel_library import FORMAT, MANIFEST, KernelLibrary, digest, open_library

pair_dtype = np.dtype([("a", "i4"), ("b", "f8")], align=True)


class Columns(NamedTuple):
    value: NDArray[np.int64]
    weight: NDArray[np.float64]


class Sums(NamedTuple):
    total: int
    mean: float
    big: bool


@kernel
def add_all(columns: Columns, scale: float, base: int, flip: bool) -> Sums:
    total = base
    mean = 0.0
    for i in range(columns.value.size):
        total += columns.value[i]
        mean += columns.weight[i] * scale
    return Sums(-total if flip else total, mean / columns.value.size, total > 100)


@kernel
def transpose_sum(grid: NDArray[np.uint8]) -> tuple[int, int]:
    made = np.zeros((grid.shape[1], grid.shape[0]), np.int64)  # memory of its own
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            made[j, i] = grid[i, j]
    return made[grid.shape[1] - 1, 0], made.shape[0]


@kernel
def write_pairs(pairs: NDArray[Any], a: int) -> None:
    for i in range(pairs.size):
        pairs[i]["a"] = a
        pairs[i]["b"] = 0.5 * i


@kernel
def highest_bit(word: np.uint64) -> np.uint64:
    return np.uint64(word | (np.uint64(1) << np.uint64(63)))


@kernel
def fails_above(limit: int, value: int) -> int:
    if value > limit:
        raise ValueError("too large")
    return value


ALL: tuple[Any, ...] = (add_all, transpose_sum, write_pairs, highest_bit, fails_above)


def columns(count: int) -> Columns:
    return Columns(np.arange(count, dtype=np.int64), np.ones(count))


def _record() -> Recorder:
    recorder = Recorder()

    def call(function: Any, *arguments: Any) -> None:
        each: Kernel = function
        each.dispatcher(*arguments)
        recorder(each, arguments)

    call(add_all, columns(3), 1.0, 1, False)
    call(transpose_sum, np.zeros((2, 3), np.uint8))
    call(write_pairs, np.zeros(2, pair_dtype), 1)
    call(highest_bit, np.uint64(1))
    call(fails_above, 1, 1)
    return recorder


@cache
def objects() -> tuple[Path, dict[str, Any]]:
    """Compile; return the folder with the objects, and the entries."""
    plain: Any = crc32c
    digits = np.frombuffer(b"123456789", np.uint8).copy()
    plain.dispatcher(digits, 0, 9)
    compiled = plain.dispatcher.overloads[tuple(plain.dispatcher.typeof_pyval(each) for each in (digits, 0, 9))]
    recorder = _record()
    module, entries = merge(recorder.seen.values(), compiled)
    folder = Path(mkdtemp(prefix="vantun-little-"))
    for level in levels_of(platform.machine()):
        part = folder / f"{level}.o"
        part.write_bytes(emit_object(module, level))
        link([part], folder / f"kernels-{level}.so")
    return folder, entries


def write_library(folder: Path, root: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """Write a library of the little kernels, made of one source below ``root``, into ``folder``; return that."""
    made, entries = objects()
    folder.mkdir(exist_ok=True)
    (root / "source.py").write_text("x = 1\n")
    files = {}
    for level in levels_of(platform.machine()):
        path = folder / f"kernels-{level}.so"
        path.unlink(missing_ok=True)  # whoever has the old one mapped would crash on other bytes in it
        path.write_bytes((made / path.name).read_bytes())
        files[level] = {"file": path.name, "digest": digest(path)}
    manifest = {
        "format": FORMAT,
        "machine": platform.machine(),
        "sources": {"source.py": digest(root / "source.py")},
        "objects": files,
        "choices": {crc.CHOOSE: [sorted(needs) for needs in crc.FORMS.values()]},
        "entries": entries,
    }
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def opened(folder: Path, root: Path) -> KernelLibrary:
    """Return the library in ``folder``, which must be good."""
    found = open_library(folder, root, None)
    assert isinstance(found, KernelLibrary), found.reason
    return found
