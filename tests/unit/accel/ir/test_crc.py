"""Every form of the CRC-32C gives what the reference does, wherever the memory lies, and reads nothing beside it."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.ir import crc, crc_fold
from accel.kernels.crc32c import crc32c, unit_crc
from accel.native import target_machine
from drivers.cpu import read_cpu
from tests.peer import crc32c as slow_crc32c

Crc = Callable[[int, int], int]
_MEMORY = np.random.default_rng(7).integers(0, 256, 8192, dtype=np.uint8)
_ENGINES: list[Any] = []
_LONGEST = 2100


def compiled(text: str) -> Callable[[int], Crc]:
    """Return a function that chooses a form by its number and returns SYMBOL."""
    module: Any = llvm.parse_assembly(text)
    module.triple = llvm.get_default_triple()
    module.verify()
    engine = llvm.create_mcjit_compiler(module, target_machine(jit=True))
    engine.finalize_object()
    _ENGINES.append(engine)  # it keeps the code alive
    choose = ctypes.CFUNCTYPE(None, ctypes.c_int64)(engine.get_function_address(crc.CHOOSE))
    kind = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_int64, ctypes.c_int64)
    of_memory = kind(engine.get_function_address(crc.SYMBOL))

    def chosen(number: int) -> Crc:
        choose(number)
        return of_memory

    return chosen


@pytest.fixture(scope="module", params=crc.FORMS)
def of_memory(request: pytest.FixtureRequest) -> Crc:
    missing = crc.FORMS[request.param] - read_cpu().flags
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    return compiled(crc.text(crc.forms_for()))(list(crc.FORMS).index(request.param))


def test_known_answer(of_memory: Crc) -> None:
    digits = np.frombuffer(b"123456789", np.uint8)  # RFC 3720, appendix B.4
    assert of_memory(digits.ctypes.data, 9) == 0xE3069283
    assert crc.checksum(b"123456789") == 0xE3069283


def test_every_length_of_a_unit(of_memory: Crc) -> None:
    for length in range(_LONGEST + 1):
        start = 1 + length % 64
        assert of_memory(_MEMORY.ctypes.data + start, length) == int(crc32c(_MEMORY, start, length)), length


@pytest.mark.slow
def test_every_length_at_every_place(of_memory: Crc) -> None:
    begin = _MEMORY.ctypes.data
    for start in range(64):
        for length in range(_LONGEST + 1):
            assert of_memory(begin + start, length) == int(crc32c(_MEMORY, start, length)), (start, length)


@given(st.binary(max_size=_LONGEST), st.integers(0, 63), st.integers(0, 255))
def test_any_content_at_any_place(of_memory: Crc, content: bytes, start: int, around: int) -> None:
    memory = np.full(len(content) + 512, around, np.uint8)
    place = 256 + start
    memory[place : place + len(content)] = np.frombuffer(content, np.uint8)
    before = memory.copy()
    assert of_memory(memory.ctypes.data + place, len(content)) == slow_crc32c(content)
    assert (memory == before).all()


@pytest.fixture(scope="module")
def fenced() -> tuple[np.ndarray[Any, Any], int]:
    """Return the bytes of a page between two that nobody may touch, and its address."""
    page = mmap.PAGESIZE
    pages = mmap.mmap(-1, 3 * page)
    whole = np.frombuffer(pages, np.uint8)
    whole[:] = _MEMORY[np.arange(3 * page) % _MEMORY.size]
    begin = whole.ctypes.data
    libc = ctypes.CDLL(None, use_errno=True)
    for place in (begin, begin + 2 * page):
        assert libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0) == 0, ctypes.get_errno()
    return whole[page : 2 * page], begin + page


def test_nothing_beside_the_memory_is_read(of_memory: Crc, fenced: tuple[np.ndarray[Any, Any], int]) -> None:
    memory, begin = fenced
    for length in range(_LONGEST + 1):
        assert of_memory(begin, length) == int(crc32c(memory, 0, length)), length
        start = memory.size - length
        assert of_memory(begin + start, length) == int(crc32c(memory, start, length)), length


@given(st.integers(0, 2048), st.integers(0, 2048))
def test_what_kernels_call(start: int, length: int) -> None:
    assert int(unit_crc(_MEMORY, start, length)) == int(crc32c(_MEMORY, start, length))


@pytest.mark.parametrize("forms", [list(crc.FORMS), list(crc.FORMS)[:-1], ["tables"]])
def test_the_form_that_was_chosen_is_called(forms: list[str]) -> None:
    stubs = "\n".join(
        f"define internal i32 @{crc._name(form)}(i64 %a, i64 %b) {{\n  ret i32 {number}\n}}"
        for number, form in enumerate(crc.FORMS)
    )
    choose = compiled(stubs + crc._choice_text(forms))
    numbers = [list(crc.FORMS).index(form) for form in forms]
    for number in range(len(crc.FORMS)):
        assert choose(number)(0, 0) == (number if number in numbers else numbers[-1])


def test_until_a_form_is_chosen_it_is_the_one_that_needs_least() -> None:
    for forms in (list(crc.FORMS), list(crc.FORMS)[:-1]):
        assert f"@vantun_crc_form = internal global i64 {len(forms) - 1}," in crc.text(forms)


def test_a_processor_gets_no_form_that_it_cannot_run() -> None:
    names = list(crc.FORMS)
    everything = frozenset().union(*crc.FORMS.values())
    assert crc.choose_form(everything) == 0
    assert names[crc.choose_form([])] == "tables"
    for flag in everything:
        assert names[crc.choose_form(everything - {flag})] == ("tables" if flag == "sse4_2" else "instruction")


def test_elsewhere_there_are_tables() -> None:
    assert crc.forms_for("aarch64") == ["tables"]
    assert crc.forms_for("x86_64", without_tables=True) == ["folding", "instruction"]
    assert "x86" not in crc.text(["tables"])


@pytest.mark.parametrize("zeros", [0, 1, 3, 60, 255])
def test_powers(zeros: int) -> None:
    """A bit and the zero bytes behind it: what the bit adds to the CRC is a power of x."""
    message = b"\x80" + bytes(zeros)
    added = crc.checksum(message) ^ crc.checksum(bytes(len(message)))
    assert crc_fold.reflected(crc_fold.power(8 * zeros + 32), 32) == added


@given(st.integers(-600, 600))
def test_powers_there_and_back(exponent: int) -> None:
    one_more = crc_fold.power(exponent) << 1
    assert crc_fold.power(exponent + 1) == (one_more ^ crc_fold.POLYNOMIAL if one_more >> 32 else one_more)
