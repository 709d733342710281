"""What a rehearsal may not do is an error that names the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.aot.failure import BuildError
from accel.aot.record import Recorder
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
