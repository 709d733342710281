"""Loss on a link: an eBPF program at its receiving end drops packets by the kernel's random numbers, and counts them.

netem is not in every kernel; this needs CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF and a clsact queue, which all have. It
stands at the ingress, behind the segmentation of the sending end: with offloads off, every packet meets it alone.

Source: Linux, include/uapi/linux/bpf.h (instructions, ``union bpf_attr``), pkt_cls.h (TC_ACT_*), rtnetlink.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
from types import TracebackType

from benchmarks.line_town import LineError, Town, inside
from drivers.linux.netlink import CREATE, EXCLUSIVE, NetlinkSocket, attribute, number

_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_LOOKUP, _PROG_LOAD = 0, 1, 5
_ARRAY_MAP, _SCHED_CLS = 2, 3
_INGRESS = 0xFFFFFFF2
"""TC_H_CLSACT and TC_H_MIN_INGRESS."""
_NEW_FILTER = 44
_KIND, _OPTIONS, _FD, _NAME, _FLAGS, _DIRECT = 1, 2, 6, 7, 8, 1
_LOOKUP, _RANDOM = 1, 7
"""Helpers: bpf_map_lookup_elem, bpf_get_prandom_u32."""
_OK, _SHOT = 0, 2
_COUNTS = struct.Struct("=QQ")
_LOG = 1 << 16


def instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Return ``struct bpf_insn``."""
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def program(map_fd: int, loss: float) -> bytes:
    """Return the program: count a packet in the map's first number; drop some, and count them in the second."""
    most = min(int(loss * 2**32), 2**32 - 1)
    signed = most - 2**32 if most >= 2**31 else most
    words = [
        instruction(0x85, value=_RANDOM),  # r0 = random
        instruction(0xBF, 7, 0),  # r7 = r0
        instruction(0x62, 10, offset=-4, value=0),  # key 0 on the stack
        instruction(0xBF, 2, 10),
        instruction(0x07, 2, value=-4),
        instruction(0x18, 1, 1, value=map_fd),  # r1 = map (two words)
        instruction(0),
        instruction(0x85, value=_LOOKUP),
        instruction(0x15, 0, offset=5),  # no value: let it pass
        instruction(0xB7, 1, value=1),
        instruction(0xDB, 0, 1, offset=0),  # seen += 1
        instruction(0xBC, 7, 7),  # r7 = lower half
        instruction(0xB4, 2, value=signed),
        instruction(0x2D, 2, 7, offset=2),  # loss > random: drop
        instruction(0xB7, 0, value=_OK),
        instruction(0x95),
        instruction(0xDB, 0, 1, offset=8),  # dropped += 1
        instruction(0xB7, 0, value=_SHOT),
        instruction(0x95),
    ]
    return b"".join(words)


class Loss:
    """Drops a share of the IPv4 packets that arrive at a side's interface; a context manager.

    Raises
    ------
    LineError
        When the kernel refuses, with what its verifier said.
    """

    def __init__(self, town: Town, side: str, loss: float, link: int = 0) -> None:
        self._town, self._side, self._loss, self._device = town, side, loss, town.device(side, link)
        self._map = self._program = -1

    def __enter__(self) -> Loss:
        try:
            self._map = bpf(_MAP_CREATE, struct.pack("=IIII", _ARRAY_MAP, 4, _COUNTS.size, 1), "making a map")
            self._program = load(program(self._map, self._loss))
            self._town.run(self._side, "tc", "qdisc", "add", "dev", self._device, "clsact")
            with inside(self._town, self._side), NetlinkSocket() as netlink:
                index = socket.if_nametoindex(self._device)
                options = number(_FD, self._program) + attribute(_NAME, b"line\0") + number(_FLAGS, _DIRECT)
                head = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0, _INGRESS, 1 << 16 | socket.htons(0x0800))
                body = head + attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options)
                netlink.change(_NEW_FILTER, CREATE | EXCLUSIVE, body, f"attaching a filter to {self._device}")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._town.run(self._side, "tc", "qdisc", "del", "dev", self._device, "clsact")
        self._close()

    def _close(self) -> None:
        for descriptor in (self._program, self._map):
            if descriptor >= 0:
                os.close(descriptor)
        self._program = self._map = -1

    def counts(self) -> tuple[int, int]:
        """Return the packets that have arrived so far, and those of them that were dropped."""
        key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(_COUNTS.size)
        attributes = struct.pack("=IxxxxQQQ", self._map, ctypes.addressof(key), ctypes.addressof(value), 0)
        bpf(_MAP_LOOKUP, attributes, "reading a map")
        seen, dropped = _COUNTS.unpack(value.raw)
        return seen, dropped


def load(words: bytes) -> int:
    """Have the kernel check and load a classifier; return its descriptor."""
    code, log = ctypes.create_string_buffer(words, len(words)), ctypes.create_string_buffer(_LOG)
    license_name = ctypes.create_string_buffer(b"MIT")
    attributes = struct.pack(
        "=IIQQIIQ",
        *(_SCHED_CLS, len(words) // 8, ctypes.addressof(code), ctypes.addressof(license_name)),
        *(1, _LOG, ctypes.addressof(log)),
    )
    try:
        return bpf(_PROG_LOAD, attributes, "loading a program")
    except LineError as error:
        said = log.value.decode(errors="replace").strip().splitlines()[-3:]
        raise LineError(f"{error}; the verifier said: {' / '.join(said) or 'nothing'}") from None


def bpf(command: int, attributes: bytes, doing: str) -> int:
    """Make the system call bpf(2); LineError when it fails."""
    call = _SYSCALLS.get(platform.machine())
    if call is None:
        raise LineError(
            f"{doing} by bpf(2): its number on {platform.machine()} is not known here; use x86-64 or aarch64"
        )
    padded = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(call, command, padded, 128))
    if result < 0:
        raise LineError(f"{doing} by bpf(2): {os.strerror(ctypes.get_errno())}; run as root with CONFIG_BPF_SYSCALL")
    return result
