"""Code 1 against known answers of galois, for every FEC engine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accel.engine import Engine, Operation, Status
from accel.fec.simd import SimdFec
from accel.gf256 import COLUMNS, MATRIX, ROWS
from accel.known_answers import PARITY, SPAN
from accel.reference.engine import ReferenceEngine
from accel.reference.fec import coefficient
from accel.trials import SpanRow, copy_job, difference, lose_units, run, span_job

FOLDER = Path(__file__).parent
DOCUMENT = json.loads((FOLDER / "code1.json").read_text(encoding="utf-8"))
SPANS = [
    SpanRow(tuple(map(bytes.fromhex, each["units"])), each["column"], tuple(each["rows"]), tuple(each["lost"]))
    for each in DOCUMENT["answers"]
]
PARITIES = [bytes.fromhex(unit) for each in DOCUMENT["answers"] for unit in each["parity"]]


def test_the_matrix() -> None:
    assert hashlib.sha256(MATRIX.tobytes()).hexdigest() == DOCUMENT["matrix_sha256"]
    assert MATRIX.tolist() == [[coefficient(row, column) for column in range(COLUMNS)] for row in range(ROWS)]


@pytest.mark.parametrize("engine", [ReferenceEngine(), SimdFec()], ids=lambda engine: engine.name)
def test_encode_and_decode(engine: Engine) -> None:
    job = span_job(SPANS)
    run(engine, engine.open(Operation.FEC_ENCODE), job)
    assert set(job.status.tolist()) == {Status.DONE}
    sizes = np.repeat(job.length, job.m).tolist()
    assert [
        job.memory[start : start + size].tobytes() for start, size in zip(job.parity.tolist(), sizes, strict=True)
    ] == PARITIES
    whole = copy_job(job)
    lose_units(job)
    assert difference(job, whole).startswith("memory")
    run(engine, engine.open(Operation.FEC_DECODE), job)
    assert not difference(job, whole)


def test_the_self_test_knows_one() -> None:
    assert SPAN in SPANS
    assert set(PARITY) <= set(PARITIES)


@pytest.mark.slow
def test_the_generator_makes_the_file() -> None:
    """In a process of its own: galois compiles, and warns."""
    done = subprocess.run([sys.executable, str(FOLDER / "generate_code1.py"), "--check"], check=False)
    assert done.returncode == 0
