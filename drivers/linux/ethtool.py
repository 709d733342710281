"""What a network interface does in hardware, as ``ethtool -k`` shows it: whether it splits UDP messages (USO).

Without ``tx-udp-segmentation`` the kernel splits a message of 64 packets itself before it gives them to the driver: one
system call all the same, but every packet is then a buffer of its own on the way down. Reading features needs no
privilege; nothing is changed here.

Source: Linux, include/uapi/linux/ethtool.h; net/ethtool/common.c has the names.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from drivers.errors import Capability, Unavailable

USO = "tx-udp-segmentation"
_SIOCETHTOOL, _SIOCGIFADDR = 0x8946, 0x8915
_CLASS = Path("/sys/class/net")
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_FEATURES = 4
"""ETH_SS_FEATURES."""
_NAME = 32
"""ETH_GSTRING_LEN."""
_MOST = 1024
"""Features that are believed; Linux 6.12 has 64."""
_REQUEST = struct.Struct("@16sP16x")
"""struct ifreq: the name, and a pointer."""

Ioctl = Callable[[str, "array.array[int]"], None]
"""(interface, the structure of the request, which is filled in); raises OSError."""


def ask(interface: str, request: array.array[int]) -> None:
    """Make one SIOCETHTOOL request, in place."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        address, _ = request.buffer_info()
        fcntl.ioctl(sock, _SIOCETHTOOL, _REQUEST.pack(interface.encode()[:15], address))


def features(interface: str, ioctl: Ioctl = ask) -> dict[str, bool]:
    """Return which features of an interface are active, by name; raises OSError where the kernel does not tell."""
    # struct ethtool_sset_info: cmd, reserved, mask (64 bits), then a count for each bit of the answer's mask
    info = array.array("I", [_GSSET_INFO, 0, 1 << _FEATURES, 0, 0])
    ioctl(interface, info)
    count = info[4] if info[2] & 1 << _FEATURES else 0
    if not 0 < count <= _MOST:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    strings = array.array("I", [_GSTRINGS, _FEATURES, count] + [0] * (count * _NAME // 4))
    ioctl(interface, strings)
    blocks = (count + 31) // 32
    # struct ethtool_gfeatures: cmd, size, then available, requested, active, never_changed for each 32 features
    bits = array.array("I", [_GFEATURES, blocks] + [0] * (4 * blocks))
    ioctl(interface, bits)
    raw = strings.tobytes()[12:]
    names = [raw[i * _NAME : (i + 1) * _NAME].split(b"\0")[0].decode("ascii", "replace") for i in range(count)]
    return {name: bool(bits[2 + 4 * (i // 32) + 2] >> i % 32 & 1) for i, name in enumerate(names)}


def probe_uso(interface: str, ioctl: Ioctl = ask) -> Capability | Unavailable:
    """Say whether an interface splits UDP messages itself."""
    try:
        found = features(interface, ioctl)
    except OSError as error:
        step = "nothing needs to be done; `ethtool -k` may know more"
        return Unavailable(f"the kernel does not say what {interface} does in hardware: {error.strerror}", step)
    if found.get(USO):
        return Capability("UDP segmentation in hardware", {"interface": interface})
    if USO not in found:
        step = "use Linux 4.18 or newer"
    else:
        step = f"ethtool -K {interface} {USO} on; where that is refused ([fixed]), another card, or accept it"
    return Unavailable(f"{interface} does not split UDP messages ({USO} is off), so the kernel does it", step)


def device_towards(host: str) -> str | None:
    """Return the interface by which packets to an IP literal leave; sends nothing.

    None if that cannot be told, or is a TUN device: the tunnel's own packets do not leave by it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9))
            found = device_of(sock.getsockname()[0])
    except OSError:  # no route, or no such family
        return None
    return None if found is None or (_CLASS / found / "tun_flags").exists() else found


def device_of(address: str) -> str | None:
    """Return the interface that has an address (of several IPv4 ones, the first), None if none is found."""
    if ":" in address:
        wanted = socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
        try:
            lines = _IPV6_ADDRESSES.read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next((fields[5] for fields in map(str.split, lines) if fields[0] == wanted), None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("@16s24x", name.encode()))
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None
