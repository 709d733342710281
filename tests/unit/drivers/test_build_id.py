from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.build_id import build_id


def elf(notes: bytes) -> bytes:
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 2)
    load = struct.pack("<IIQQQQ", 1, 0, 0, 0, 0, 0).ljust(56, b"\0")
    note = struct.pack("<IIQQQQ", 4, 0, 176, 0, 0, len(notes)).ljust(56, b"\0")
    return bytes(head) + load + note + notes


def note(name: bytes, kind: int, content: bytes) -> bytes:
    head = struct.pack("<III", len(name), len(content), kind)
    return head + name.ljust(len(name) + 3 & ~3, b"\0") + content.ljust(len(content) + 3 & ~3, b"\0")


def test_the_note_is_found_behind_others(tmp_path: Path) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(elf(note(b"stapsdt\0", 3, b"123") + note(b"GNU\0", 1, b"abcde") + note(b"GNU\0", 3, b"\xab\xcd")))
    assert build_id(file) == "abcd"


def test_no_note_no_elf_no_file(tmp_path: Path) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(elf(note(b"GNU\0", 1, b"abcd")))
    assert build_id(file) == ""
    file.write_bytes(b"#!/bin/sh\n")
    assert build_id(file) == ""
    assert build_id(tmp_path / "none") == ""
    assert build_id(tmp_path) == ""


@given(st.binary(max_size=64), st.integers(0, 200))
@example(bytes(15) + b"\x80", 24)  # a table of headers where no file can have one
def test_any_damage(tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int) -> None:
    file = tmp_path_factory.mktemp("elf") / "lib.so"
    good = elf(note(b"GNU\0", 3, b"\xab\xcd"))
    file.write_bytes(good[:place] + junk + good[place + len(junk) :])
    build_id(file)
