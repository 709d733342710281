"""A program of ours that chooses the queue of a TUN device for every packet, by a table that may change at any moment.

A packet falls into one of BUCKETS buckets by a hash of its addresses and ports, which is the same for both directions
of a flow. A row says which queue each bucket goes to. Row 0 is for every packet, unless its destination is in a prefix
for which another row was set: some destinations can be served by some queues only.

All queues must be in use: the kernel numbers those that are. Needs CAP_BPF (Linux 5.8; CAP_SYS_ADMIN before that, and
Linux 4.16 for the call).

Source: Linux, drivers/net/tun.c (tun_ebpf_select_queue), include/uapi/linux/if_tun.h.
"""

from __future__ import annotations

import fcntl
import ipaddress
import struct
from collections.abc import Callable, Mapping, Sequence

from drivers.errors import SystemCallError
from drivers.linux import bpf
from drivers.linux.bpf import FRAME, MapKind, Op, Program
from drivers.linux.tun import BUCKET_FACTOR

TUNSETSTEERINGEBPF = 0x800454E0
BUCKETS = 256
ROWS = 64
"""Rows of a table, at most."""
PREFIXES = 8192
_KEY = struct.Struct("=II16s")
_FAMILY_BITS = 32
_BYTES, _KEY_AT, _ROW_AT = -40, -64, -68
"""On the stack: what was read of the packet, the key of its destination, the number of its row."""
_TCP, _UDP = 6, 17

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def bucket_of(source: str, target: str, ports: tuple[int, int] | None = None) -> int:
    """Return the bucket of a packet; ``ports`` of TCP or UDP, None for anything else and for fragments."""
    mixed = int(ipaddress.ip_address(source)) ^ int(ipaddress.ip_address(target))
    while mixed >> 32:
        mixed = mixed >> 32 ^ mixed & 0xFFFFFFFF
    if ports is not None:
        mixed ^= (ports[0] ^ ports[1]) * 0x10001
    return (mixed * BUCKET_FACTOR & 0xFFFFFFFF) >> 24


def _read(p: Program, offset: int | None, size: int, failed: str) -> None:
    """Copy bytes of the packet to the stack; ``offset`` None = register 8 has it."""
    p.add(Op.MOV, 1, 6)
    if offset is None:
        p.add(Op.MOV, 2, 8)
    else:
        p.add(Op.MOV_K, 2, value=offset)
    p.add(Op.MOV, 3, FRAME)
    p.add(Op.ADD_K, 3, value=_BYTES)
    p.add(Op.MOV_K, 4, value=size)
    p.call(bpf.LOAD_BYTES)
    p.jump(Op.JNE_K, 0, 0, failed)


def _version6(p: Program) -> None:
    """Leave in registers: 7 = addresses, 8 = where the ports are, 9 = protocol."""
    _read(p, 0, 40, "first")
    p.add(Op.STORE32_K, FRAME, at=_KEY_AT + 4, value=6)
    for half in (0, 8):
        p.add(Op.LOAD64, 1, FRAME, at=_BYTES + 24 + half)
        p.add(Op.STORE64, FRAME, 1, at=_KEY_AT + 8 + half)
    p.add(Op.LOAD64, 7, FRAME, at=_BYTES + 8)
    for at in (16, 24, 32):
        p.add(Op.LOAD64, 1, FRAME, at=_BYTES + at)
        p.add(Op.XOR, 7, 1)
    p.add(Op.MOV, 1, 7)
    p.add(Op.RSH_K, 1, value=32)
    p.add(Op.XOR, 7, 1)
    p.add(Op.MOV_K, 8, value=40)
    p.add(Op.LOAD8, 9, FRAME, at=_BYTES + 6)
    p.jump(Op.JUMP, 0, 0, "ports")


def _version4(p: Program) -> None:
    p.add(Op.STORE32_K, FRAME, at=_KEY_AT + 4, value=4)
    p.add(Op.LOAD32, 1, FRAME, at=_BYTES + 16)
    p.add(Op.STORE32, FRAME, 1, at=_KEY_AT + 8)
    p.add(Op.LOAD32, 7, FRAME, at=_BYTES + 12)
    p.add(Op.XOR, 7, 1)
    p.add(Op.LOAD8, 8, FRAME, at=_BYTES)
    p.add(Op.AND_K, 8, value=15)
    p.add(Op.LSH_K, 8, value=2)
    p.add(Op.LOAD8, 9, FRAME, at=_BYTES + 9)
    p.add(Op.LOAD16, 1, FRAME, at=_BYTES + 6)
    p.add(Op.BE, 1, value=16)
    p.add(Op.AND_K, 1, value=0x3FFF)
    p.jump(Op.JNE_K, 1, 0, "hash")  # a fragment: only the first has ports


def program(table: int, routes: int) -> bytes:
    """Return the program; ``table`` and ``routes`` are its maps."""
    p = Program()
    p.add(Op.MOV, 6, 1)
    p.add(Op.STORE32_K, FRAME, at=_KEY_AT, value=_FAMILY_BITS + 128)
    p.add(Op.STORE64_K, FRAME, at=_KEY_AT + 8)
    p.add(Op.STORE64_K, FRAME, at=_KEY_AT + 16)
    _read(p, 0, 20, "first")
    p.add(Op.LOAD8, 1, FRAME, at=_BYTES)
    p.add(Op.RSH_K, 1, value=4)
    p.jump(Op.JEQ_K, 1, 4, "version 4")
    p.jump(Op.JNE_K, 1, 6, "first")
    _version6(p)
    p.label("version 4")
    _version4(p)
    p.label("ports")
    p.jump(Op.JEQ_K, 9, _TCP, "read ports")
    p.jump(Op.JNE_K, 9, _UDP, "hash")
    p.label("read ports")
    _read(p, None, 4, "hash")
    p.add(Op.LOAD16, 1, FRAME, at=_BYTES)
    p.add(Op.LOAD16, 2, FRAME, at=_BYTES + 2)
    p.add(Op.XOR, 1, 2)
    p.add(Op.MOV, 2, 1)
    p.add(Op.LSH_K, 2, value=16)
    p.add(Op.OR, 1, 2)
    p.add(Op.XOR, 7, 1)
    p.label("hash")
    p.add(Op.BE, 7, value=32)
    p.add(Op.MUL_KW, 7, value=BUCKET_FACTOR)
    p.add(Op.RSH_KW, 7, value=24)
    p.add(Op.MOV_K, 8)
    p.map(1, routes)
    p.add(Op.MOV, 2, FRAME)
    p.add(Op.ADD_K, 2, value=_KEY_AT)
    p.call(bpf.LOOKUP)
    p.jump(Op.JEQ_K, 0, 0, "row")
    p.add(Op.LOAD32, 8, 0)
    p.label("row")
    p.add(Op.STORE32, FRAME, 8, at=_ROW_AT)
    p.map(1, table)
    p.add(Op.MOV, 2, FRAME)
    p.add(Op.ADD_K, 2, value=_ROW_AT)
    p.call(bpf.LOOKUP)
    p.jump(Op.JEQ_K, 0, 0, "first")
    p.add(Op.ADD, 0, 7)
    p.add(Op.LOAD8, 0, 0)
    p.add(Op.EXIT)
    p.label("first")
    p.add(Op.MOV_K, 0)
    p.add(Op.EXIT)
    return p.code()


Attach = Callable[[int, int], None]
"""(descriptor of a queue, descriptor of a program, -1 = none)"""


def attach(descriptor: int, loaded: int) -> None:
    """Have a program choose the queue of a device; raises OSError."""
    fcntl.ioctl(descriptor, TUNSETSTEERINGEBPF, struct.pack("=i", loaded))


class TunSteering:
    """The program of a device, and its tables. Close it when the device is closed; the program stays with the device.

    Raises
    ------
    SystemCallError
        When this process may not, or the kernel cannot; says why.
    """

    def __init__(self, descriptor: int, row: Sequence[int], attach: Attach = attach) -> None:
        self._table = self._routes = -1
        self._rows: dict[int, bytes] = {}
        self._known: dict[IPNetwork, int] = {}
        loaded = -1
        try:
            self._table = bpf.create_map(MapKind.ARRAY, 4, BUCKETS, ROWS)
            self._routes = bpf.create_map(MapKind.LPM_TRIE, _KEY.size, 4, PREFIXES)
            self.set_row(0, row)
            loaded = bpf.load_filter(program(self._table, self._routes))
            try:
                attach(descriptor, loaded)
            except OSError as error:
                step = "use Linux 4.16 or newer"
                raise SystemCallError("giving the TUN device a steering program", error.errno or 0, step) from None
        except BaseException:
            self.close()
            raise
        finally:
            bpf.close(loaded)

    def set_row(self, number: int, row: Sequence[int]) -> None:
        """Say which queue each bucket of a row goes to. Raises SystemCallError."""
        wanted = bytes(row)
        if self._rows.get(number) != wanted:
            bpf.set_entry(self._table, struct.pack("=I", number), wanted)
            self._rows[number] = wanted

    def set_routes(self, rows: Mapping[IPNetwork, int]) -> None:
        """Say which row packets to each of these networks go by, and to no others. Raises SystemCallError."""
        for network in [each for each in self._known if each not in rows]:
            bpf.remove_entry(self._routes, _key(network))
            del self._known[network]
        for network, row in rows.items():
            if self._known.get(network) != row:
                bpf.set_entry(self._routes, _key(network), struct.pack("=I", row))
                self._known[network] = row

    def close(self) -> None:
        """Give the tables up, as they are. May be called twice."""
        bpf.close(self._table, self._routes)
        self._table = self._routes = -1


def _key(network: IPNetwork) -> bytes:
    address = network.network_address.packed.ljust(16, b"\0")
    return _KEY.pack(_FAMILY_BITS + network.prefixlen, network.version, address)


def probe_tun_steering() -> str:
    """Return why this process cannot load the program, empty if it can; changes nothing."""
    try:
        TunSteering(-1, bytes(BUCKETS), lambda _descriptor, _program: None).close()
    except SystemCallError as error:
        return str(error)
    return ""
