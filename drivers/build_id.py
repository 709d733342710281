"""The build id of a shared library: what the linker has hashed, from the note in its file; nothing is loaded."""

from __future__ import annotations

import struct
from pathlib import Path

_PT_NOTE = 4
_GNU_BUILD_ID = 3
_MOST_NOTES = 1 << 16


def build_id(file: Path) -> str:
    """Return the build id of an ELF file (64-bit, little-endian) as hex, empty when it has none or cannot be read.

    Source: ELF-64 object file format, version 1.5, sections 2 and 5; binutils' note type NT_GNU_BUILD_ID.
    """
    try:
        with file.open("rb") as binary:
            head = binary.read(64)
            if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
                return ""
            (table,) = struct.unpack_from("<Q", head, 32)
            size, count = struct.unpack_from("<HH", head, 54)
            for entry in range(count):
                binary.seek(table + entry * size)
                kind, _, offset, _, _, length = struct.unpack("<IIQQQQ", binary.read(40))
                if kind == _PT_NOTE:
                    binary.seek(offset)
                    found = _find(binary.read(min(length, _MOST_NOTES)))
                    if found:
                        return found
    except (OSError, struct.error, ValueError, OverflowError):  # the last two: offsets that no file has
        return ""
    return ""


def _find(notes: bytes) -> str:
    place = 0
    while place + 12 <= len(notes):
        name, size, kind = struct.unpack_from("<III", notes, place)
        body = place + 12 + (name + 3 & ~3)
        if kind == _GNU_BUILD_ID and notes[place + 12 : place + 16] == b"GNU\0":
            return notes[body : body + size].hex()
        place = body + (size + 3 & ~3)
    return ""
