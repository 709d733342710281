"""What a rehearsal may not do is an error that names the kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.aot.failure import BuildError
from accel.aot.merge import merge
from accel.aot.record import Recorder
from accel.kernels.crc32c import crc32c
from drivers.kernel import kernel

pytestmark = pytest.mark.slow


@kernel
def doubled(value: Any) -> Any:
    return value + value


@kernel
def first_of_many(values: NDArray[np.int64]) -> Any:
    return values[:1]


def record(recorder: Recorder, function: Any, *arguments: Any) -> None:
    function.dispatcher(*arguments)
    recorder(function, arguments)


def test_one_signature() -> None:
    recorder = Recorder()
    record(recorder, doubled, 3)
    record(recorder, doubled, 4)
    (seen,) = recorder.seen.values()
    assert seen.arguments == ("i8",)
    assert seen.result_kind == "i8"


def test_two_signatures() -> None:
    recorder = Recorder()
    record(recorder, doubled, 3)
    with pytest.raises(BuildError, match=r"doubled is called from Python with two signatures"):
        record(recorder, doubled, 3.5)


def test_a_result_that_is_an_array() -> None:
    with pytest.raises(BuildError, match=r"first_of_many returns array"):
        record(Recorder(), first_of_many, np.zeros(3, np.int64))


def test_an_argument_that_is_no_number() -> None:
    with pytest.raises(BuildError, match=r"doubled is called with complex128"):
        record(Recorder(), doubled, 1j)


@kernel
def scaled(value: float) -> float:
    return math.ldexp(value, 3)


def test_a_function_that_nobody_would_give_is_refused() -> None:
    digits = np.frombuffer(b"123456789", np.uint8).copy()
    plain: Any = crc32c
    plain.dispatcher(digits, 0, 9)
    compiled = plain.dispatcher.overloads[tuple(plain.dispatcher.typeof_pyval(each) for each in (digits, 0, 9))]
    recorder = Recorder()
    record(recorder, scaled, 1.5)
    with pytest.raises(BuildError, match="a kernel calls numba_ldexp"):
        merge(recorder.seen.values(), compiled)
