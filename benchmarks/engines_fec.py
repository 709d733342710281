"""The FEC rows of ``./dev bench engines``: our engine against ISA-L, pyeclib, zfec and its own inner loop.

Everybody works on the same memory, and must have written the same bytes before time is taken. Our side of a ratio is
``submit`` from Python; ISA-L's side is a loop in C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from accel.bench.contest import Effort, pool
from accel.bench.work import copier, lose, make_spans
from accel.calls import address_of, aligned
from accel.engine import Engine, Operation, SpanJob
from accel.fec.simd import ISAS, SimdFec
from accel.job_block import JobBlocks
from accel.native import function
from benchmarks import baselines, engines_python
from benchmarks.engines_field import Field, Pass, Result, WrongError, engine_pass, in_turn, need_flags
from benchmarks.engines_rows import Row
from drivers.errors import DriverError, Unavailable
from drivers.isal import ISAL
from drivers.library import Library

SHAPES = ((10, 4), (20, 6), (32, 8), (64, 16))
SMALL = (10, 4)
SIZE = 1200
IN_L2, IN_L3 = 48, 256
PATTERNS = 4
"""Jobs of different patterns that take turns, so that no pattern comes again soon."""
PLACES = 5
"""Jobs of the same contents, one after the other in memory of its own."""
MASKED = ("gfni256", "avx512", "avx2", "plain")
"""Kernels that a CPU with everything does not choose by itself."""
_ENCODE, _DECODE = Operation.FEC_ENCODE, Operation.FEC_DECODE
_DECODE_TARGETS = {(10, 4): 6.0, (32, 8): 15.0}
_VECTOR, _BARE_ROWS, _BARE_VECTORS = 64, 8, 150
_GIVE_PATH = "name ISA-L 2.32, built with GFNI, by --isal PATH"


@dataclass(frozen=True)
class Libraries:
    """ISA-L as the system has it, and the one that is named; each is a library, or why there is none."""

    system: Library | str
    named: Library | str

    @property
    def best(self) -> tuple[str, Library | str]:
        """Name and library of the best one."""
        return ("isal-system", self.system) if isinstance(self.named, str) else ("isal-2.32", self.named)


def find_libraries(path: Path | None) -> Libraries:
    """Load the libraries.

    The system's comes first: both have one SONAME, and what is loaded already answers to it.
    """
    system: Library | str = ISAL
    try:
        ISAL.load()
    except DriverError as error:
        system = str(error)
    if path is None:
        return Libraries(system, _GIVE_PATH)
    named = Library("ISA-L", [str(path.resolve())], "give --isal the path of a shared library")
    if not hasattr(named.load(), "ec_encode_data_avx512_gfni"):
        return Libraries(system, f"{path} has no GFNI; {_GIVE_PATH}")
    if not isinstance(system, str) and system.address("ec_encode_data") == named.address("ec_encode_data"):
        system = f"{path} is the library of the system"
    return Libraries(system, named)


def variant(isa: str = "") -> Engine:
    """Return our engine, held to one kernel; "" = its own choice."""
    need_flags(f"the variant {isa}", ISAS.get(isa, ()))
    return SimdFec(isa=isa or None)


def ours(isa: str, operation: Operation, jobs: Sequence[SpanJob], expected: bytes) -> Pass:
    """Return our way to do the next of the jobs."""
    return _checked(jobs, engine_pass(variant(isa), operation, jobs), operation, expected)


def native(operation: Operation, jobs: Sequence[SpanJob]) -> Pass:
    """Return the kernel's calls alone, without ``submit``: what the rest of the engine costs, is the difference."""
    session: Any = variant().open(operation)
    if not hasattr(session, "kernel"):
        raise ValueError("the session of this engine has no kernel of its own")
    blocks = JobBlocks()

    def call(address: int, _held: JobBlocks = blocks) -> object:
        return session.kernel(address)

    return in_turn([partial(call, blocks.address(job)) for job in jobs])


def theirs(library: Library | str, isa: str, operation: Operation, jobs: Sequence[SpanJob], expected: bytes) -> Pass:
    """Return ISA-L's way to do the next of the jobs."""
    if isinstance(library, str):
        raise ValueError(library)
    need_flags(f"ISA-L's variant {isa}", [isa] if isa else [])
    runs: list[Pass] = [baselines.isal(job, operation, library, isa) for job in jobs]
    return _checked(jobs, in_turn(runs), operation, expected)


def _checked(jobs: Sequence[SpanJob], run: Pass, operation: Operation, expected: bytes) -> Pass:
    """Return ``run`` after it has written every job's units over garbage."""
    for job in jobs:
        for place in _written(job, operation):
            job.memory[place : place + SIZE] ^= 0xA5
        run()
        if job.memory.tobytes() != expected:
            raise WrongError(f"{operation.value}: two ways to do the same work came to different bytes")
    return run


def _written(job: SpanJob, operation: Operation) -> list[int]:
    if operation is _ENCODE:
        return [int(place) for place in job.parity]
    span = np.repeat(np.arange(len(job.k)), job.m)
    return [int(place) for place in job.data[job.data_start[span] + job.lost.astype(np.int64)]]


def encoded(shape: tuple[int, int], blocks: int) -> tuple[SpanJob, bytes]:
    """Return spans with their parity units, and all their bytes."""
    job = make_spans(shape, SIZE, blocks)
    engine_pass(variant(), _ENCODE, [job])
    return job, job.memory.tobytes()


def contest(shape: tuple[int, int], blocks: int, operation: Operation, libraries: Libraries, effort: Effort) -> Result:
    """Let everybody do it, in several places: which pages a job lies on decides how well it fits into the cache."""
    part = replace(effort, budget_s=effort.budget_s / PLACES)
    found = [_contest_in_one_place(shape, blocks, operation, libraries, part) for _ in range(PLACES)]
    return Result(found[0].field, pool([each.outcome for each in found]))


def _contest_in_one_place(
    shape: tuple[int, int], blocks: int, operation: Operation, libraries: Libraries, effort: Effort
) -> Result:
    job, expected = encoded(shape, blocks)
    jobs = [job] if operation is _ENCODE else [lose(job, seed) for seed in range(PATTERNS)]
    there = Field(shape[0] * SIZE * blocks)
    there.add("simd", partial(ours, "", operation, jobs, expected))
    there.add("simd-native", partial(native, operation, jobs))
    for name, library in (("isal-2.32", libraries.named), ("isal-system", libraries.system)):
        there.add(name, partial(theirs, library, "", operation, jobs, expected))
        if blocks == IN_L2:
            there.add(f"{name}-avx2", partial(theirs, library, "avx2", operation, jobs, expected))
    if blocks == IN_L2:
        for isa in MASKED:
            there.add(f"simd-{isa}", partial(ours, isa, operation, jobs, expected))
    there.add("memcpy", lambda: copier(there.size))
    return there.compete(effort)


def cached_row(shape: tuple[int, int], libraries: Libraries, effort: Effort) -> Row:
    """Measure encode with all spans on the units of one: what is left when memory costs nothing."""
    job = make_spans(shape, SIZE, IN_L2, cached=True)
    there = Field(shape[0] * SIZE * IN_L2)
    there.add("simd", partial(engine_pass, variant(), _ENCODE, [job]))
    best, library = libraries.best
    expected = job.memory.tobytes()
    there.add(best, partial(theirs, library, "", _ENCODE, [job], expected))
    row = Row("fec-masked", f"({shape[0]},{shape[1]}) encode, units of one span (L1)", against=best)
    return there.compete(effort).row(row)


def isal_rows(shape: tuple[int, int], libraries: Libraries, effort: Effort) -> list[Row]:
    """Measure encode in L2 and L3 and decode, for one shape."""
    case = f"({shape[0]},{shape[1]})"
    encode = contest(shape, IN_L2, _ENCODE, libraries, effort)
    decode = contest(shape, IN_L2, _DECODE, libraries, effort)
    far = contest(shape, IN_L3, _ENCODE, libraries, effort)
    best = libraries.best[0]
    small = 1.0 if shape == SMALL else None
    rows = [
        encode.row(Row("encode-l2", case, target=1.15, against="isal-2.32")),
        encode.row(Row("encode-l2-debian", case, against="isal-system")),
        far.row(Row("encode-l3", case, against="isal-2.32")),
        decode.row(Row("decode", case, target=_DECODE_TARGETS.get(shape), against=best)),
    ]
    rows += [
        found.row(Row("fec-masked", f"{case} {what}, kernel alone", engine="simd-native", against=best))
        for what, found in (("encode", encode), ("decode", decode), ("encode, L3", far))
    ]
    rows.append(cached_row(shape, libraries, replace(effort, budget_s=effort.budget_s / PLACES)))
    for isa in MASKED:
        for what, found in (("encode", encode), ("decode", decode)):
            against = found.fastest("isal", "isal-system-avx2", "-avx2") if isa == "avx2" else best
            row = Row("fec-masked", f"{case} {what}", engine=f"simd-{isa}", against=against)
            if isa == "avx2" and what == "encode":
                row = replace(row, requirement="avx2", case=case, target=small)
            rows.append(found.row(row))
    return rows


def python_rows(effort: Effort) -> list[Row]:
    """Measure against what a Python user has: pyeclib, and zfec for the kernel without SIMD."""
    job, expected = encoded(SMALL, IN_L2)
    work = {"encode": (_ENCODE, [job]), "decode": (_DECODE, [lose(job, seed) for seed in range(PATTERNS)])}
    rows = []
    for (what, (operation, jobs)), target in zip(work.items(), (12.0, 10.0), strict=True):
        there = Field(SMALL[0] * SIZE * IN_L2)
        there.add("simd", partial(ours, "", operation, jobs, expected))
        for kind in engines_python.PYECLIB:
            there.add(f"pyeclib {kind}", partial(engines_python.pyeclib, jobs[0], what, kind))
        found = there.compete(effort)
        best = found.fastest("pyeclib", f"pyeclib {engines_python.PYECLIB[0]}")
        rows.append(found.row(Row("pyeclib", what, target=target, against=best)))
    for (what, (operation, jobs)), least in zip(work.items(), (3.0, None), strict=True):
        there = Field(SMALL[0] * SIZE * IN_L2)
        there.add("simd-plain", partial(ours, "plain", operation, jobs, expected))
        there.add("zfec", partial(engines_python.zfec, jobs[0], what))
        rows.append(there.compete(effort).row(Row("swar", what, target=least, engine="simd-plain", against="zfec")))
    return rows


def loop_rows(effort: Effort) -> list[Row]:
    """Measure the kernel of 512-bit GFNI against a loop that multiplies and adds and does nothing else.

    All spans of a job lie on the units of one, which fit into the first-level cache; the bare loop does as many
    products of 64 bytes. The loop is what is judged, so units are long in that row. The others are for information:
    with units of the usual length the walk over spans counts, and row 0 of code 1, all ones, needs no product.
    """
    rows = []
    for (k, m), size, first, target in (
        ((10, 4), 2304, 1, 0.85),
        ((10, 4), SIZE, 1, None),
        ((10, 4), SIZE, 0, None),
        ((16, 8), SIZE, 1, None),
    ):
        blocks = IN_L3 * SIZE // size
        job = make_spans((k, m), size, blocks, cached=True)
        job.row[:] = np.tile(np.arange(first, first + m, dtype=np.uint8), blocks)
        there = Field(k * size * blocks)
        there.add("simd-gfni512", partial(_unchecked, "gfni512", job))
        products = blocks * k * m * size / _VECTOR
        there.add("bare loop", partial(bare_loop, round(products / (_BARE_ROWS * _BARE_VECTORS))))
        row = Row("inner-loop", f"({k},{m}), {size} B, rows {first}-{first + m - 1}", target=target)
        rows.append(there.compete(effort).row(replace(row, engine="simd-gfni512", against="bare loop")))
    return rows


def _unchecked(isa: str, job: SpanJob) -> Pass:
    """Return our way to encode; spans of one memory write the same units, which other rows of the table checked."""
    return engine_pass(variant(isa), _ENCODE, [job])


def bare_loop(rounds: int) -> Pass:
    """Return ``rounds`` times 150 vectors by 8 rows of products and sums, in one native call."""
    need_flags("the bare loop", ISAS["gfni512"])
    try:
        run = function("fec", "bare_affine_512")
    except (KeyError, ModuleNotFoundError) as error:
        raise Unavailable(f"no bare loop in this version ({error})", "take a later version").error() from None
    source, target = aligned(_BARE_VECTORS * _VECTOR), aligned(_BARE_ROWS * _VECTOR)
    source[:] = np.random.default_rng(4).integers(0, 256, source.size, np.uint8)
    context = np.array([address_of(source), _BARE_VECTORS, rounds, address_of(target)], np.int64)
    address = address_of(context)

    def call(_held: tuple[object, ...] = (source, target, context)) -> int:
        return run(address)

    return call


def measure(libraries: Libraries, effort: Effort) -> list[Row]:
    """Return every row."""
    rows = [row for shape in SHAPES for row in isal_rows(shape, libraries, effort)]
    return [*rows, *python_rows(effort), *loop_rows(effort)]
