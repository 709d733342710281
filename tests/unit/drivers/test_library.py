"""Libraries are found at first use, and absence says what to install."""

from __future__ import annotations

import ctypes

import pytest

from drivers.errors import Capability, Unavailable, UnavailableError
from drivers.library import Library

MISSING = Library("Nobody's library", ["libnobody-has-this.so.7"], "install it: apt-get install libnobody7")
LIBC = Library("the C library", ["libnobody-has-this.so.7", "libc.so.6"], "run on glibc")


def test_declaring_a_missing_library_is_free_and_loading_it_says_what_to_install() -> None:
    probe = MISSING.probe()
    assert isinstance(probe, Unavailable)
    assert "libnobody-has-this.so.7" in probe.reason
    with pytest.raises(UnavailableError, match="apt-get install libnobody7"):
        MISSING.load()
    with pytest.raises(UnavailableError, match="Nobody's library"):
        MISSING.function("f", ctypes.c_int)


def test_the_first_name_that_loads_is_taken_and_kept() -> None:
    probe = LIBC.probe()
    assert isinstance(probe, Capability)
    assert probe.facts == {"file": "libc.so.6"}
    assert LIBC.load() is LIBC.load()


def test_prototypes_belong_to_the_caller() -> None:
    signed = LIBC.function("abs", ctypes.c_int, ctypes.c_int)
    other = LIBC.function("abs", ctypes.c_uint, ctypes.c_int)
    assert signed is not other
    assert signed(-3) == 3


def test_a_missing_symbol_is_named() -> None:
    with pytest.raises(UnavailableError, match="no function 'vantun_never'"):
        LIBC.function("vantun_never", ctypes.c_int)


def test_a_library_without_file_names_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one file name"):
        Library("x", [], "y")
