"""What a client and the service say to each other beside the ring, over a socket of the kind SEQPACKET.

A client begins with a greeting that names its operation, and gets the descriptors of its memory and of the bell that it
rings, and what the device's engine has measured of its kernels. Then it may install and remove keys; each is answered,
so that a job never overtakes a key. The service speaks unasked once: to say why it ends.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence

from accel.engine import NONCE_LENGTH, KeySpec, Operation, Suite
from accel.service.ring import UnbelievableError
from drivers.errors import SystemCallError

LONGEST = 512
"""Bytes of a message."""
LONGEST_WELCOME = 8192
"""Bytes of the answer to a greeting."""
GREETING, INSTALL, REMOVE = b"VTS3", b"I", b"R"
GOOD, BAD, OVER = b"+", b"-", b"!"
"""First bytes of what the service says; a reason follows BAD and OVER."""
_OPERATIONS = tuple(Operation)
_SUITES = tuple(Suite)
_SLOT = struct.Struct("<i")
_KEY = struct.Struct("<iB")
_CREDENTIALS = struct.Struct("3i")


def address_of_name(name: str) -> str:
    """Return what the kernel calls a socket ``name``: ``@`` stands for the names that are in no folder."""
    return "\0" + name[1:] if name.startswith("@") else name


def listen(name: str) -> socket.socket:
    """Return a socket that listens at ``name``. Raises DriverError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(address_of_name(name))
        sock.listen()
    except OSError as error:
        sock.close()
        raise SystemCallError(f"listening at {name}", error.errno or 0, "choose another name") from None
    return sock


def is_ours(sock: socket.socket) -> bool:
    """Return whether the other end belongs to this process's user: names outside of folders are anybody's."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1]) == os.geteuid()


def greeting(operation: Operation) -> bytes:
    """Return a client's first message."""
    return GREETING + bytes([_OPERATIONS.index(operation)])


def read_greeting(message: bytes) -> Operation:
    """Return the operation of a greeting. Raises UnbelievableError."""
    if len(message) != len(GREETING) + 1 or message[:-1] != GREETING or message[-1] >= len(_OPERATIONS):
        raise UnbelievableError("a greeting of another version; start all processes of VANTUN again")
    return _OPERATIONS[message[-1]]


def welcome(kernels: Sequence[str]) -> bytes:
    """Return the answer to a greeting: what the service's engine has measured of its own kernels, as many as fit."""
    told = list(kernels)
    while len(answer := GOOD + json.dumps(told).encode()) > LONGEST_WELCOME:
        told.pop()
    return answer


def read_welcome(answer: bytes) -> tuple[str, ...]:
    """Return what a service tells of its kernels."""
    return tuple(str(each) for each in json.loads(answer[1:]))


def install(slot: int, spec: KeySpec) -> bytearray:
    """Return the message that makes ``slot`` usable; to be wiped when it was sent."""
    key = bytearray(INSTALL + _KEY.pack(slot, _SUITES.index(spec.suite)))
    for part in (spec.key, spec.iv, spec.header_key):
        key += part
    return key


def read_install(message: bytearray) -> tuple[int, KeySpec]:
    """Return slot and keys. Raises UnbelievableError."""
    body = memoryview(message)[1:]
    if len(body) < _KEY.size:
        raise UnbelievableError("a key without a suite")
    slot, suite = _KEY.unpack_from(body)
    if suite >= len(_SUITES):
        raise UnbelievableError(f"suite {suite}")
    size = _SUITES[suite].key_length
    parts = body[_KEY.size :]
    if len(parts) != 2 * size + NONCE_LENGTH:
        raise UnbelievableError(f"a key of {len(parts)} bytes")
    iv, header = bytes(parts[size : size + NONCE_LENGTH]), bytes(parts[size + NONCE_LENGTH :])
    return slot, KeySpec(_SUITES[suite], bytes(parts[:size]), iv, header)


def remove(slot: int) -> bytearray:
    """Return the message that wipes ``slot``."""
    return bytearray(REMOVE + _SLOT.pack(slot))


def read_remove(message: bytearray) -> int:
    """Return the slot. Raises UnbelievableError."""
    if len(message) != 1 + _SLOT.size:
        raise UnbelievableError("a removal of no slot")
    return int(_SLOT.unpack_from(message, 1)[0])


def reason(code: bytes, text: str) -> bytes:
    """Return an answer that says why."""
    return code + text.encode()[: LONGEST - 1]


def wipe(message: bytearray) -> None:
    """Overwrite what was sent, or received."""
    message[:] = bytes(len(message))
