"""The kernels compiled for real GPUs, by NVRTC, which needs none: that they compile, and stay in their registers."""

from __future__ import annotations

import pytest

from accel.device.compiled_code1 import RowKernel, compiled_text
from accel.device.program import AEAD, FEC, HORNER, KERNELS, program
from accel.device.strips import common_shapes
from accel.sight import find_module
from benchmarks.gpu_code import (
    FRAME,
    REGISTERS,
    attributes,
    compile_for,
    count,
    disassemble,
    disassembler,
    instructions,
)
from drivers.cuda.device import BLOCK

pytestmark = pytest.mark.skipif(
    not find_module("cuda.bindings"), reason="NVRTC: pip install cuda-bindings nvidia-cuda-nvrtc"
)

MOST_REGISTERS = {FEC: 64, HORNER: 128, AEAD: 128}
"""Of 65,536 a multiprocessor; 128 leave room for four blocks of 128 threads."""


ARCHITECTURES = pytest.mark.parametrize(
    "architecture",
    ["sm_90", pytest.param("sm_80", marks=pytest.mark.soak), pytest.param("sm_100", marks=pytest.mark.soak)],
)


@ARCHITECTURES
@pytest.mark.parametrize("name", [FEC, HORNER, AEAD])
def test_registers_suffice(name: str, architecture: str) -> None:
    image = compile_for(name, program(name), architecture)
    registers = attributes(image, REGISTERS)
    kernels = len(KERNELS[name]) + (len(KERNELS[FEC]) if name == HORNER else 0)  # which it includes
    assert len(registers) == kernels
    assert max(registers) <= MOST_REGISTERS[name]
    assert 65536 // (max(registers) * BLOCK) >= 4
    assert attributes(image, FRAME) == [0] * kernels  # nothing is spilled


INSTRUCTIONS = {4: 64, 8: 104, 16: 168}
"""Most for each column of a kernel, by its rows: 8 a row, 22 for sums that rows share, and the way to them."""
MOST_OF_ROWS = {4: 80, 8: 128, 16: 168}
"""Registers; the last leave room for three blocks, with two words beside the loop in memory."""
KERNELS_OF_ROWS = sorted({kernel for shape in common_shapes() for kernel in shape.kernels})


@ARCHITECTURES
@pytest.mark.parametrize(
    "kernel",
    [
        *(kernel._replace(columns=32) for kernel in KERNELS_OF_ROWS[:3]),
        *(pytest.param(kernel, marks=pytest.mark.soak) for kernel in KERNELS_OF_ROWS),
    ],
    ids=lambda kernel: f"{kernel.name}, {kernel.columns} columns",
)
def test_rows_compiled_in_stay_in_registers_and_share_their_sums(kernel: RowKernel, architecture: str) -> None:
    image = compile_for(kernel.name, compiled_text(kernel), architecture)
    (registers,) = attributes(image, REGISTERS)
    assert registers <= MOST_OF_ROWS[kernel.rows]
    assert 65536 // (registers * BLOCK) >= (3 if kernel.rows > 8 else 4)
    (frame,) = attributes(image, FRAME)
    assert frame <= (8 if kernel.rows > 8 else 0)
    beside = 200 + 80 * kernel.rows  # what is there once: finding the strip, transposing units and sums
    assert (instructions(image, kernel.name) - beside) / kernel.columns <= INSTRUCTIONS[kernel.rows]


@ARCHITECTURES
@pytest.mark.skipif(disassembler() is None, reason="nvdisasm: pip install nvidia-cuda-nvdisasm")
def test_what_sixteen_rows_leave_in_memory_is_not_touched_in_their_loop(architecture: str) -> None:
    kernel = KERNELS_OF_ROWS[2]._replace(columns=32)
    text = disassemble(compile_for(kernel.name, compiled_text(kernel), architecture))
    once, often = (count(text, kernel.name, (1, columns)) for columns in (1, 1000))
    assert once["LDL"] == often["LDL"]
    assert once["STL"] == often["STL"] <= 2
