"""Names to addresses past the client's own TUN: questions of our own to the machine's name servers.

The C library's resolver cannot mark its sockets, so with the default route in the tunnel its questions would go into
the tunnel, also while that has to be set up again and the server's address is what is asked for. Here they leave by
marked sockets, like the tunnel's own packets. Where that finds nothing the system is asked; what it found the last time
serves when it does not answer.
Format: RFC 1035, section 4; RFC 3596 for AAAA.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import select
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from vantun.control.resolver import Address, Lookup, look_up

log = logging.getLogger(__name__)

PORT = 53
SECONDS = 1.0
"""For the answers of one name server."""
ROUNDS = 2
MOST_SERVERS = 3
"""Of the system's configuration, as the C library uses (resolv.conf(5), MAXNS)."""
REMEMBERED = 256
"""Names whose last addresses are kept."""
A, AAAA = 1, 28
_IN = 1
_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_RESPONSE, _RECURSION, _CODE = 0x8000, 0x0100, 0x000F
_NO_ERROR, _NO_NAME = 0, 3
_FAMILIES = {A: (socket.AF_INET, 4), AAAA: (socket.AF_INET6, 16)}


class DnsError(ValueError):
    """A message of DNS that cannot be read, or is no answer to what was asked."""


def question(number: int, name: str, kind: int) -> bytes:
    """Return a message that asks for the records of ``kind`` (A, AAAA). Raises ValueError when it is no host name."""
    labels = [label.encode("ascii") for label in name.removesuffix(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError(f"{name!r} is no host name")
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEAD.pack(number, _RECURSION, 1, 0, 0, 0) + packed + struct.pack("!HH", kind, _IN)


def answer(data: bytes, asked: bytes) -> list[str] | None:
    """Return the addresses in an answer to the message ``asked``; None when the name server could not find out.

    The empty list means that there are none. Raises DnsError.
    """
    if len(data) < _HEAD.size:
        raise DnsError("it is too short")
    number, flags, questions, answers, _, _ = _HEAD.unpack_from(data)
    same = data[_HEAD.size : len(asked)].lower() == asked[_HEAD.size :].lower()
    if number != int.from_bytes(asked[:2], "big") or not flags & _RESPONSE or questions != 1 or not same:
        raise DnsError("it answers something else")
    if flags & _CODE not in (_NO_ERROR, _NO_NAME):
        return None
    kind = int.from_bytes(asked[-4:-2], "big")
    family, size = _FAMILIES[kind]
    found: list[str] = []
    position = len(asked)
    for _ in range(answers):
        position = _skip_name(data, position)
        if position + _RECORD.size > len(data):
            raise DnsError("a record is cut short")
        type_, class_, _, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size
        if position + length > len(data):
            raise DnsError("a record is cut short")
        if (type_, class_, length) == (kind, _IN, size):  # those of aliases stand beside them
            found.append(socket.inet_ntop(family, data[position : position + length]))
        position += length
    return found


def _skip_name(data: bytes, position: int) -> int:
    """Return the position behind a name, which may end with a pointer."""
    while position < len(data):
        length = data[position]
        if length == 0:
            return position + 1
        if length >= 0xC0:
            return position + 2
        if length >= 0x40:
            break
        position += 1 + length
    raise DnsError("a name is cut short, or of an unknown kind")


def name_servers(text: str) -> list[str]:
    """Return the name servers in the text of a resolv.conf that may be beyond this machine.

    One on this machine (systemd-resolved, dnsmasq) asks others by sockets that are not ours to mark.
    """
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            if not address.is_loopback and not address.is_unspecified:
                found.append(words[1])
    return found[:MOST_SERVERS]


def hosts(text: str, name: str) -> list[str]:
    """Return the addresses that the text of a hosts(5) file gives for a name."""
    wanted = name.lower().removesuffix(".")
    found: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if wanted in (word.lower() for word in words[1:]):
            try:
                found.append(str(ipaddress.ip_address(words[0])))
            except ValueError:
                continue
    return found


class OwnLookup:
    """A Lookup of :class:`vantun.control.resolver.Resolver`, for sockets with a firewall mark.

    Parameters
    ----------
    mark
        Of the sockets; 0 = none.
    system
        What is asked when the name servers do not answer.
    folder
        Where resolv.conf and hosts are; they are read for every lookup, as they change with the network.
    """

    def __init__(self, mark: int, system: Lookup = look_up, folder: Path = Path("/etc"), port: int = PORT) -> None:
        self._mark = mark
        self._system = system
        self._folder = folder
        self._port = port
        self._known: OrderedDict[str, list[str]] = OrderedDict()
        self._pending: set[str] = set()
        """Names that the system is asked for now; one that it is asked for again did not come back in time."""
        self._lock = threading.Lock()

    def __call__(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a name, best first; blocks for seconds. Raises OSError."""
        found = hosts(self._read("hosts"), host)
        if not found and "." in host.removesuffix("."):  # else the system's search list decides what is meant
            found = sorted(self._ask(host), key=self._is_out_of_reach)
        if not found:
            found = self._ask_system(host, port)
        with self._lock:
            self._known[host] = found
            self._known.move_to_end(host)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return [Address(socket.AF_INET6 if ":" in where else socket.AF_INET, where, port) for where in found]

    def _ask_system(self, host: str, port: int) -> list[str]:
        """Return what the C library finds, or what is known if it finds nothing, or has not come back the last time."""
        known = self._known.get(host)
        if known is not None and host in self._pending:
            self._pending.discard(host)
            log.warning("the name %s cannot be looked up: its last address is used, %s", host, known[0])
            return known
        self._pending.add(host)
        try:
            found = [address.host for address in self._system(host, port)]
        except OSError:
            if known is None:
                raise
            log.warning("the name %s cannot be looked up: its last address is used, %s", host, known[0])
            found = known
        finally:
            self._pending.discard(host)
        return found

    def _is_out_of_reach(self, host: str) -> bool:
        """Tell whether there is no route to an address (RFC 6724, section 6, rule 1); nothing is sent."""
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                self._mark_it(sock)
                sock.connect((host, self._port))
        except OSError:
            return True
        return False

    def _mark_it(self, sock: socket.socket) -> None:
        if self._mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _ask(self, host: str) -> list[str]:
        """Return what the first name server that knows anything says."""
        servers = name_servers(self._read("resolv.conf"))
        for _ in range(ROUNDS):
            for server in servers:
                try:
                    found = self._ask_one(server, host)
                except (OSError, ValueError) as error:
                    log.debug("the name server %s: %s", server, error)
                    continue
                if found is not None:
                    return found
        return []

    def _ask_one(self, server: str, host: str) -> list[str] | None:
        """Ask one name server for both kinds; None = it does not answer, or cannot find out. Raises OSError."""
        where = socket.getaddrinfo(server, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
        asked = {kind: question(secrets.randbits(16), host, kind) for kind in (A, AAAA)}
        told: dict[int, list[str]] = {}
        with socket.socket(where[0], socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            self._mark_it(sock)
            sock.connect(where[4])
            for message in asked.values():
                sock.send(message)
            end = time.monotonic() + SECONDS
            while asked and (left := end - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
                kind, found = _sort(sock.recv(4096), asked.items())
                if kind and asked.pop(kind, None) is not None and found is not None:
                    told[kind] = found
        return [*told.get(AAAA, ()), *told.get(A, ())] if told else None


def _sort(data: bytes, asked: Iterable[tuple[int, bytes]]) -> tuple[int, list[str] | None]:
    """Return which question a message answers, 0 = none, and how."""
    for kind, message in asked:
        try:
            return kind, answer(data, message)
        except DnsError:
            continue
    return 0, None
