"""The engines of this version, and hypothesis strategies for the jobs they do."""

from __future__ import annotations

import atexit
import shutil
from functools import cache

import pytest
from _pytest.mark import ParameterSet
from hypothesis import strategies as st

from accel.aead.simd import SimdAead, choose_isa
from accel.catalogue import CATALOGUE, Kind, Row
from accel.device.engine import DeviceEngine
from accel.engine import Engine, EngineSession, KeySpec, Operation, Suite
from accel.fec.simd import ISAS as FEC_ISAS
from accel.fec.simd import SimdFec
from accel.ir.aead_layout import ISAS
from accel.reference.engine import ReferenceEngine
from accel.trials import AnyJob, SealRow, SpanRow, copy_job, packet, run
from drivers.cpu import read_cpu
from tests.pocl import works
from tests.present import skip_unless_there
from tests.service import SharedHost


def _parameter(row: Row, kind: Kind) -> ParameterSet:
    """Return a test's parameter: the engine, skipped by its name where what it needs is not installed."""
    marks = [works() if row.emulated else skip_unless_there(row.name)]
    if row.name in ("cuda", "opencl"):
        marks.append(getattr(pytest.mark, f"hw_{row.name}"))
    if row.emulated:
        marks.append(pytest.mark.slow)
    return pytest.param(row.make[kind](), id=row.name, marks=marks)


def _variants() -> list[ParameterSet]:
    """Return AEAD engine ``simd`` in every variant but the one that it chooses here, skipped where it cannot run."""
    flags, chosen = read_cpu().flags, choose_isa(read_cpu().flags)
    return [
        pytest.param(
            SimdAead(isa),
            id=f"simd-{isa}",
            marks=[] if needs <= flags else [pytest.mark.skip(reason=f"this CPU lacks {sorted(needs - flags)}")],
        )
        for isa, needs in ISAS.items()
        if isa != chosen
    ]


ENGINES: dict[Kind, list[ParameterSet]] = {
    kind: [_parameter(row, kind) for row in CATALOGUE if kind in row.make and row.name != "reference"] for kind in Kind
}
"""Every engine but the reference."""
ENGINES[Kind.AEAD] += _variants()


def _fec_variant(isa: str) -> ParameterSet:
    missing = FEC_ISAS[isa] - read_cpu(mask="").flags
    marks = [pytest.mark.skip(reason=f"this processor lacks {', '.join(sorted(missing))}")] if missing else []
    return pytest.param(SimdFec(isa), id=f"simd-{isa}", marks=marks)


for _kind in Kind:  # not in the catalogue: the way to a device, not one
    ENGINES[_kind].append(
        pytest.param(
            SharedHost(),
            id="service",
            marks=pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: apt-get install g++"),
        )
    )

FEC_VARIANTS = [_fec_variant(isa) for isa in FEC_ISAS]
"""Every instruction set of the engine simd, whichever it would choose."""
ENGINES[Kind.FEC] += FEC_VARIANTS

SUITE_SLOT = {suite: 2 * index for index, suite in enumerate(Suite)}
PHASE_0_ONLY, NO_KEY = 6, 63
SLOTS = (*SUITE_SLOT.values(), PHASE_0_ONLY, NO_KEY, 1_000_000)


def key(suite: Suite, seed: int) -> KeySpec:
    size = suite.key_length
    return KeySpec(suite, bytes([seed]) * size, bytes(range(seed, seed + 12)), bytes([seed ^ 0x55]) * size)


KEYS = {slot + phase: key(suite, 16 * slot + phase) for suite, slot in SUITE_SLOT.items() for phase in range(2)}
KEYS[PHASE_0_ONLY] = key(Suite.AES_128_GCM, 200)


def session_of(engine: Engine, operation: Operation) -> EngineSession:
    """Return a session with KEYS."""
    session = engine.open(operation)
    if operation in Kind.AEAD.operations:
        for slot, spec in KEYS.items():
            session.install_key(slot, spec)
    return session


@cache
def _kept(engine: DeviceEngine, operation: Operation) -> EngineSession:
    """Return a session with KEYS that stays open: opening a device takes 0.1 s, and a property has 10,000 examples."""
    session = session_of(engine, operation)
    atexit.register(session.close)
    return session


def finish(engine: Engine, operation: Operation, job: AnyJob) -> AnyJob:
    """Return a copy of a job, done by ``engine``."""
    done = copy_job(job)
    if isinstance(engine, DeviceEngine):
        run(engine, _kept(engine, operation), done)
        return done
    session = session_of(engine, operation)
    run(engine, session, done)
    session.close()
    return done


def refer(operation: Operation, job: AnyJob) -> AnyJob:
    """Return a copy of a job, done by the reference."""
    return finish(ReferenceEngine(), operation, job)


NUMBERS = st.one_of(
    st.integers(0, (1 << 62) - 1), st.integers(0, 40), st.integers(-3, 3).map(lambda near: (1 << 32) + near)
)


@st.composite
def seal_rows(draw: st.DrawFn, slots: tuple[int, ...] = SLOTS) -> SealRow:
    number, phase = draw(NUMBERS), draw(st.integers(0, 1))
    payload = draw(st.binary(min_size=4, max_size=70))
    return SealRow(draw(st.sampled_from(slots)), number, packet(number, phase, payload))


@st.composite
def spans(draw: st.DrawFn, *, decode: bool = False) -> SpanRow:
    k = draw(st.one_of(st.integers(1, 12), st.sampled_from((64, 127, 128))))
    length = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 255))
    units = tuple(bytes((seed + 31 * j + 7 * i * i) & 0xFF for i in range(length)) for j in range(k))
    column = draw(st.integers(0, 127))
    row_numbers = st.integers(0, 126)
    if not decode:
        return SpanRow(units, column, tuple(draw(st.lists(row_numbers, max_size=6))))
    lost = draw(st.lists(st.integers(0, k - 1), unique=True, max_size=12))
    rows = draw(st.lists(row_numbers, unique=True, min_size=len(lost), max_size=len(lost)))
    return SpanRow(units, column, tuple(rows), tuple(lost))
