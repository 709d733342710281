"""Programs for the kernel: an assembler of a few lines, and the system call that makes maps and loads programs.

What is said here holds for little-endian machines of 64 bits, as are all that VANTUN runs on.

Source: Linux, include/uapi/linux/bpf.h (``struct bpf_insn``, ``union bpf_attr``), Documentation/bpf/standardization.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from enum import IntEnum

from drivers.errors import SystemCallError

_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 2, 3, 5
_SOCKET_FILTER = 1
_NO_PREALLOC = 1
_LOG = 1 << 16
_PRIVILEGE = "run as root or give CAP_BPF (systemd: AmbientCapabilities=CAP_BPF SystemCallFilter=bpf)"

LOOKUP, LOAD_BYTES = 1, 26
"""Helpers: bpf_map_lookup_elem, bpf_skb_load_bytes."""
FRAME = 10
"""The register that points behind the stack."""


class MapKind(IntEnum):
    """Kinds of maps."""

    ARRAY = 2
    LPM_TRIE = 11


class Op(IntEnum):
    """Instructions; W = on the lower 32 bits, the upper ones become 0."""

    ADD_K, ADD, XOR, OR = 0x07, 0x0F, 0xAF, 0x4F
    LSH_K, RSH_K, AND_K = 0x67, 0x77, 0x57
    MUL_KW, RSH_KW, BE = 0x24, 0x74, 0xDC
    MOV_K, MOV = 0xB7, 0xBF
    LOAD8, LOAD16, LOAD32, LOAD64 = 0x71, 0x69, 0x61, 0x79
    STORE32_K, STORE64_K = 0x62, 0x7A
    STORE32, STORE64 = 0x63, 0x7B
    JEQ_K, JNE_K, JUMP = 0x15, 0x55, 0x05
    CALL, EXIT, WIDE = 0x85, 0x95, 0x18


class Program:
    """Collects instructions; jumps name labels, which may come later."""

    def __init__(self) -> None:
        self._words: list[tuple[int, int, int, int, int]] = []
        self._labels: dict[str, int] = {}
        self._jumps: dict[int, str] = {}

    def add(self, op: Op, target: int = 0, source: int = 0, *, at: int = 0, value: int = 0) -> None:
        """Append an instruction; ``at`` is its offset, ``value`` its constant."""
        self._words.append((op, target, source, at, value - 2**32 if value >= 2**31 else value))

    def jump(self, op: Op, target: int, value: int, label: str) -> None:
        """Append a jump to ``label``."""
        self._jumps[len(self._words)] = label
        self.add(op, target, value=value)

    def label(self, name: str) -> None:
        """Call the place of the next instruction ``name``."""
        self._labels[name] = len(self._words)

    def map(self, target: int, descriptor: int) -> None:
        """Append the load of a map's address."""
        self.add(Op.WIDE, target, 1, value=descriptor)
        self._words.append((0, 0, 0, 0, 0))

    def call(self, helper: int) -> None:
        """Append the call of a helper."""
        self.add(Op.CALL, value=helper)

    def code(self) -> bytes:
        """Return the program; raises KeyError for a jump to nowhere."""
        found = b""
        for place, (op, target, source, at, value) in enumerate(self._words):
            if place in self._jumps:
                at = self._labels[self._jumps[place]] - place - 1
            found += struct.pack("=BBhi", op, source << 4 | target, at, value)
        return found


def create_map(kind: MapKind, key: int, value: int, entries: int) -> int:
    """Return the descriptor of a new map of ``entries`` values of ``value`` bytes. Raises SystemCallError."""
    flags = _NO_PREALLOC if kind == MapKind.LPM_TRIE else 0
    return _bpf(_MAP_CREATE, struct.pack("=IIIII", kind, key, value, entries, flags), "making a map for the kernel")


def set_entry(descriptor: int, key: bytes, value: bytes) -> None:
    """Set a value of a map. Raises SystemCallError."""
    held = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    attributes = struct.pack("=IxxxxQQQ", descriptor, *map(ctypes.addressof, held), 0)
    _bpf(_MAP_UPDATE, attributes, "writing a map of the kernel")


def remove_entry(descriptor: int, key: bytes) -> None:
    """Remove a key of a map, if it is there. Raises SystemCallError."""
    held = ctypes.create_string_buffer(key, len(key))
    try:
        _bpf(_MAP_DELETE, struct.pack("=IxxxxQQQ", descriptor, ctypes.addressof(held), 0, 0), "changing a map")
    except SystemCallError as error:
        if error.errno != errno.ENOENT:
            raise


def load_filter(code: bytes) -> int:
    """Have the kernel check and load a program of the kind "socket filter"; return its descriptor.

    Raises
    ------
    SystemCallError
        When it refuses; with what its verifier said.
    """
    try:
        return _load(code, 0)
    except SystemCallError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
    return _load(code, _LOG)


def _load(code: bytes, room: int) -> int:
    held = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"MIT")
    log = ctypes.create_string_buffer(room) if room else None
    attributes = struct.pack(
        "=IIQQIIQ",
        *(_SOCKET_FILTER, len(code) // 8, ctypes.addressof(held), ctypes.addressof(license_name)),
        *(1 if log else 0, room, ctypes.addressof(log) if log else 0),
    )
    try:
        return _bpf(_PROG_LOAD, attributes, "loading a program into the kernel")
    except SystemCallError as error:
        said = log.value.decode(errors="replace").strip().splitlines()[-3:] if log else []
        raise SystemCallError(
            "loading a program into the kernel", error.errno, f"its verifier said: {' / '.join(said) or 'nothing'}"
        ) from None


def _bpf(command: int, attributes: bytes, doing: str) -> int:
    """Make the system call bpf(2). Raises SystemCallError."""
    call = _SYSCALLS.get(platform.machine())
    if call is None:
        raise SystemCallError(f"{doing} by bpf(2)", errno.ENOSYS, "use x86-64 or aarch64")
    padded = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(call, command, padded, 128))
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        step = "use a kernel with CONFIG_BPF_SYSCALL" if number == errno.ENOSYS else _PRIVILEGE
        raise SystemCallError(f"{doing} by bpf(2)", number, step)
    return result


def close(*descriptors: int) -> None:
    """Close those of the descriptors that are open (not -1)."""
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)
