"""Both forms of the CRC-32C give what the reference does, for every length around the ends of its stretches."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.ir import crc
from accel.kernels.crc32c import crc32c, unit_crc
from accel.native import target_machine
from drivers.cpu import read_cpu

Crc = Callable[[int, int], int]
_MEMORY = np.random.default_rng(7).integers(0, 256, 4096, dtype=np.uint8)
_ENGINES: list[Any] = []


@pytest.fixture(scope="module", params=[True, False], ids=["instruction", "tables"])
def of_memory(request: pytest.FixtureRequest) -> Crc:
    if request.param and "sse4_2" not in read_cpu().flags:
        pytest.skip("this processor has no SSE 4.2")
    module: Any = llvm.parse_assembly(crc.text(instruction=request.param))
    module.triple = llvm.get_default_triple()
    engine = llvm.create_mcjit_compiler(module, target_machine(jit=True))
    engine.finalize_object()
    _ENGINES.append(engine)  # it keeps the code alive
    return ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_int64, ctypes.c_int64)(engine.get_function_address(crc.SYMBOL))


def test_known_answer(of_memory: Crc) -> None:
    digits = np.frombuffer(b"123456789", np.uint8)  # RFC 3720, appendix B.4
    assert of_memory(digits.ctypes.data, 9) == 0xE3069283


def test_every_length_of_a_unit(of_memory: Crc) -> None:
    for length in range(1500):
        assert of_memory(_MEMORY.ctypes.data + 1, length) == int(crc32c(_MEMORY, 1, length)), length


@given(st.integers(0, 2048), st.integers(0, 2048))
def test_what_kernels_call(start: int, length: int) -> None:
    assert int(unit_crc(_MEMORY, start, length)) == int(crc32c(_MEMORY, start, length))
