"""TUN devices: a network interface whose packets are read and written by this process.

Every packet carries a virtio-net header of 10 bytes, so that one read or write may move a TCP or UDP superpacket of
64 KB instead of 48 packets (2.4x the throughput of a plain forwarder), and nobody computes checksums that the tunnel's
authentication makes needless. What the kernel does not grant is left out, step by step, each step with its reason
(:attr:`TunDevice.missing`).

Imports nothing heavy: the control process opens the device and keeps a descriptor, so that the interface outlives its
data worker; the worker adopts a copy (:meth:`TunDevice.adopt`). The calls per packet are in
:mod:`drivers.linux.tun_kernel`.

Source: Linux, Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h and virtio_net.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import struct
from collections.abc import Callable
from enum import IntFlag
from pathlib import Path

from drivers.errors import Capability, DriverError, SystemCallError, Unavailable

TUN_PATH = "/dev/net/tun"
VNET_HEADER = 10
"""Bytes of ``struct virtio_net_hdr`` before every packet."""
MAX_PACKET = 65_535
"""Bytes of the largest IP packet that a device is asked for: no jumbograms (RFC 2675)."""
NAME_BYTES = 15
BUCKET_FACTOR = 0x9E3779B1
"""By which addresses and ports are spread over buckets (:mod:`drivers.linux.tun_steering`)."""

IFF_TUN, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0100, 0x1000, 0x4000
IFF_ATTACH_QUEUE, IFF_DETACH_QUEUE = 0x0200, 0x0400

TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE = 0x400454CA, 0x400454D0, 0x400454D8, 0x400454D9
TUNGETFEATURES, TUNGETIFF, TUNGETVNETHDRSZ = 0x800454CF, 0x800454D2, 0x800454D7

_CAP_NET_ADMIN = 12
_PRIVILEGE = (
    "run as root or give CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN; "
    "containers: --cap-add NET_ADMIN --device /dev/net/tun)"
)
_NO_DRIVER = "load the driver (`modprobe tun`), or hand /dev/net/tun into the container (--device /dev/net/tun)"
IFF_PERSIST, IFF_TUN_EXCL = 0x0800, 0x8000

Ioctl = Callable[[int, int, bytes | int], bytes | int]
"""``fcntl.ioctl``, or what stands in its place in tests."""


def system_ioctl(descriptor: int, request: int, argument: bytes | int) -> bytes | int:
    """Call the kernel; raises OSError."""
    return fcntl.ioctl(descriptor, request, argument)


class TunOffload(IntFlag):
    """What a kernel may leave to the reader of a device (``TUN_F_*``)."""

    NONE = 0
    CSUM = 0x01
    """Packets whose checksum is to be completed."""
    TSO4 = 0x02
    TSO6 = 0x04
    """TCP superpackets."""
    TSO_ECN = 0x08
    """TCP superpackets that answer a congestion mark."""
    USO4 = 0x20
    USO6 = 0x40
    """UDP superpackets (Linux 6.2)."""


TCP_OFFLOADS = TunOffload.CSUM | TunOffload.TSO4 | TunOffload.TSO6 | TunOffload.TSO_ECN
UDP_OFFLOADS = TunOffload.USO4 | TunOffload.USO6
ALL_OFFLOADS = TCP_OFFLOADS | UDP_OFFLOADS

_LADDER = (
    (UDP_OFFLOADS, "UDP superpackets", "use Linux 6.2 or newer; UDP passes packet by packet meanwhile"),
    (TunOffload.TSO_ECN, "TCP superpackets with congestion marks", "nothing needs to be done: those few pass singly"),
    (TunOffload.TSO4 | TunOffload.TSO6, "TCP superpackets", "use another kernel; TCP runs at half its speed meanwhile"),
    (TunOffload.CSUM, "unfinished checksums", "use another kernel; it computes every checksum itself meanwhile"),
)
"""What is given up in turn until the kernel agrees: (offloads, their name, what to do about it)."""


class TunDevice:
    """An open TUN device; a context manager. The interface goes when the last descriptor of it is closed.

    Attributes
    ----------
    name
        Of the interface, e.g. ``"vantun0"``.
    offloads
        What the kernel leaves to the reader now.
    takes
        Which unfinished packets may be written to it. Checksums and TCP superpackets are taken by every kernel that has
        virtio-net headers, whatever it leaves to the reader; UDP superpackets by those that could leave them.
    missing
        Every offload that was asked for and refused, with its reason.
    plain
        Whether packets go in and out without a header, because the driver has none: nothing is left unfinished then.
    """

    def __init__(self, descriptor: int, name: str, ioctl: Ioctl = system_ioctl, *, plain: bool = False) -> None:
        self.name = name
        self.plain = plain
        self.offloads = TunOffload.NONE
        self.takes = TunOffload.NONE if plain else TCP_OFFLOADS
        self.missing: tuple[Unavailable, ...] = ()
        self._descriptor = descriptor
        self._ioctl = ioctl

    @classmethod
    def open(
        cls, name: str = "", *, multi_queue: bool = False, exclusive: bool = False, ioctl: Ioctl = system_ioctl
    ) -> TunDevice:
        """Create an interface, or attach to a persistent one, with as many offloads as the kernel grants.

        Parameters
        ----------
        name
            At most 15 bytes; ``"vantun%d"`` takes the first free number, the empty name is ``"tun%d"``.
        multi_queue
            Whether further descriptors may be opened by the same name, one queue each.
        exclusive
            Whether an interface of several queues that somebody else holds is busy, as one of a single queue always is;
            else this descriptor becomes one more of its queues. A persistent interface may be held by nobody, so that
            one is attached to all the same.

        Raises
        ------
        DriverError
            When no interface can have the name.
        UnavailableError
            When this machine has no TUN driver, or several queues are wanted of one that has no more than one. A driver
            without virtio-net headers gives a :attr:`plain` device.
        SystemCallError
            When the process may not, or the name is taken.
        """
        _check_name(name)
        descriptor = _open_clone()
        try:
            features = _features(descriptor, ioctl)
            wanted = IFF_TUN | IFF_NO_PI | (features & IFF_VNET_HDR) | (IFF_MULTI_QUEUE if multi_queue else 0)
            if features & wanted != wanted:
                reason = f"the TUN driver of Linux {platform.release()} lacks features 0x{wanted & ~features:x}"
                raise Unavailable(reason, "use a newer kernel").error()
            taken = (
                _attach_alone(descriptor, name, wanted, ioctl)
                if exclusive
                else _attach(descriptor, name, wanted, ioctl)
            )
            if not features & IFF_VNET_HDR:
                plain = cls(descriptor, taken, ioctl, plain=True)
                plain.missing = (_plain_only(plain.name),)
                return plain
            device = cls(descriptor, taken, ioctl)
            _call(ioctl, descriptor, TUNSETVNETHDRSZ, VNET_HEADER, f"sizing the headers of {device.name}")
            device.takes |= device.set_offloads(ALL_OFFLOADS)
        except BaseException:
            os.close(descriptor)
            raise
        return device

    @classmethod
    def adopt(cls, descriptor: int, takes: TunOffload = TCP_OFFLOADS, ioctl: Ioctl = system_ioctl) -> TunDevice:
        """Take over a descriptor of a device that another process opened with :meth:`open`; closed with the device.

        The device is left as it is, and its ``offloads`` are not known; ``takes`` is the opener's word.

        Raises
        ------
        DriverError
            When it is no TUN device, or one with other headers.
        """
        try:
            request = ioctl(descriptor, TUNGETIFF, bytes(40))
            assert isinstance(request, bytes)
            flags = struct.unpack_from("=H", request, 16)[0]
            plain = not flags & IFF_VNET_HDR
            size = VNET_HEADER if plain else _integer(ioctl(descriptor, TUNGETVNETHDRSZ, bytes(4)))
        except OSError as error:
            raise DriverError(f"descriptor {descriptor} is no TUN device ({error.strerror}); open it again") from None
        kind = IFF_TUN | IFF_NO_PI
        if flags & kind != kind or size != VNET_HEADER:
            raise DriverError(
                f"the device has flags 0x{flags:x} and headers of {size} B, expected 0x{kind:x} and {VNET_HEADER} B; "
                "open it with TunDevice.open"
            )
        os.set_blocking(descriptor, False)
        device = cls(descriptor, request[:16].split(b"\0", 1)[0].decode(), ioctl, plain=plain)
        device.takes = TunOffload.NONE if plain else takes
        return device

    def set_offloads(self, wanted: TunOffload) -> TunOffload:
        """Have the kernel leave ``wanted``, or as much of it as it can, to the reader; return what it granted.

        May be called at any time: what the far end cannot write (UDP superpackets before Linux 6.2) must not be read
        here. Raises SystemCallError when even nothing is refused: the device is gone. A plain device grants nothing.
        """
        if self.plain:  # the kernel would agree, and leave packets unfinished without a word
            return TunOffload.NONE
        asked, missing = wanted, []
        refusal = self._refusal(asked)
        for offloads, name, remedy in _LADDER:
            if refusal is not None and asked & offloads:
                reason = f"Linux {platform.release()} does not leave {name} to {self.name} ({os.strerror(refusal)})"
                missing.append(Unavailable(reason, remedy))
                asked &= ~offloads
                refusal = self._refusal(asked)
        if refusal is not None:
            raise SystemCallError(f"setting the offloads of {self.name}", refusal, "open the device again")
        self.offloads, self.missing = asked, tuple(missing)
        return asked

    def _refusal(self, offloads: TunOffload) -> int | None:
        """Ask for ``offloads``; return the errno of a refusal."""
        try:
            self._ioctl(self._descriptor, TUNSETOFFLOAD, int(offloads))
        except OSError as error:
            return error.errno or errno.EINVAL
        return None

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._descriptor

    def close(self) -> None:
        """Close this descriptor; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> TunDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TunDevice({self.name!r}, {self.offloads!r})"


def use_queue(descriptor: int, wanted: bool, ioctl: Ioctl = system_ioctl) -> None:  # noqa: FBT001 - an ioctl's argument
    """Have the kernel put packets into a queue of a device, or put none there and drop those that wait in it.

    Writing works in any case. Raises SystemCallError for what is no queue of a multi-queue device.
    """
    flag = IFF_ATTACH_QUEUE if wanted else IFF_DETACH_QUEUE
    try:
        ioctl(descriptor, TUNSETQUEUE, struct.pack("=16sH22x", b"", flag))
    except OSError as error:
        step = "open the device with multi_queue=True"
        raise SystemCallError(f"changing a queue (descriptor {descriptor})", error.errno or 0, step) from None


def probe_tun(path: str = TUN_PATH, ioctl: Ioctl = system_ioctl) -> Capability | Unavailable:
    """Return whether this process could open a TUN device, and with what; changes nothing, creates no interface."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return _unavailable(error, path)
    try:
        features = _features(descriptor, ioctl)
    except DriverError as error:
        return Unavailable(f"{path} is not the TUN driver ({error})", _NO_DRIVER)
    finally:
        os.close(descriptor)
    if not _may_administer():
        return Unavailable("this process may not create network interfaces (no CAP_NET_ADMIN)", _PRIVILEGE)
    has = {"vnet_hdr": bool(features & IFF_VNET_HDR), "multi_queue": bool(features & IFF_MULTI_QUEUE)}
    return Capability("TUN device", {"kernel": platform.release(), **has})


def _features(descriptor: int, ioctl: Ioctl) -> int:
    """Return the IFF_* flags that the driver has."""
    answer = _call(ioctl, descriptor, TUNGETFEATURES, bytes(4), "asking the TUN driver what it has", {})
    return _integer(answer)


def _plain_only(name: str) -> Unavailable:
    reason = f"the TUN driver of Linux {platform.release()} refuses virtio-net headers on {name}"
    return Unavailable(reason, "use another kernel; packets pass one by one, and are completed by it, meanwhile")


def _check_name(name: str) -> None:
    size = len(name.encode())
    if size > NAME_BYTES or "/" in name or any(letter.isspace() for letter in name) or name in (".", ".."):
        raise DriverError(
            f"no interface can be called {name!r}; give at most {NAME_BYTES} bytes without spaces and slashes"
        )


def _open_clone() -> int:
    try:
        return os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            raise _unavailable(error, TUN_PATH).error() from None
        step = _PRIVILEGE if error.errno in (errno.EACCES, errno.EPERM) else "see `ls -l /dev/net/tun`"
        raise SystemCallError(f"opening {TUN_PATH}", error.errno or 0, step) from None


def _unavailable(error: OSError, path: str) -> Unavailable:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return Unavailable(f"there is no TUN driver behind {path} ({error.strerror})", _NO_DRIVER)
    return Unavailable(f"{path} cannot be opened ({error.strerror})", _PRIVILEGE)


def _attach(descriptor: int, name: str, flags: int, ioctl: Ioctl) -> str:
    """Bind a descriptor to an interface; return the name that the kernel gave it."""
    steps = {
        errno.EPERM: _PRIVILEGE,
        errno.EBUSY: f"stop the program that holds {name} (see `ip -details tuntap`), or choose another name",
        errno.EINVAL: f"{name or 'it'} is an interface of another kind (see `ip -details link`): choose another name",
    }
    request = struct.pack("=16sH22x", name.encode(), flags)
    shown = f"creating the TUN interface {name}".rstrip()
    answer = _call(ioctl, descriptor, TUNSETIFF, request, shown, steps)
    assert isinstance(answer, bytes)
    return answer[:16].split(b"\0", 1)[0].decode()


def _attach_alone(descriptor: int, name: str, flags: int, ioctl: Ioctl) -> str:
    """As :func:`_attach`, where a device of several queues that is there already is busy, unless it is persistent."""
    try:
        return _attach(descriptor, name, flags | IFF_TUN_EXCL, ioctl)
    except SystemCallError as error:
        if error.errno != errno.EBUSY:
            raise
        busy = error
    # the kernel tells whether a device is persistent to those only who are attached to it
    taken = _attach(descriptor, name, flags, ioctl)
    request = ioctl(descriptor, TUNGETIFF, bytes(40))
    assert isinstance(request, bytes)
    if not struct.unpack_from("=H", request, 16)[0] & IFF_PERSIST:
        raise busy  # the caller closes the descriptor, and the queue is gone
    return taken


def _call(
    ioctl: Ioctl,
    descriptor: int,
    request: int,
    argument: bytes | int,
    doing: str,
    steps: dict[int, str] | None = None,
) -> bytes | int:
    if request == TUNSETVNETHDRSZ:
        argument = struct.pack("=i", int(argument))  # takes a pointer, as TUNSETOFFLOAD does not
    try:
        return ioctl(descriptor, request, argument)
    except OSError as error:
        number = error.errno or 0
        raise SystemCallError(doing, number, (steps or {}).get(number, "see `dmesg`")) from None


def _integer(answer: bytes | int) -> int:
    assert isinstance(answer, bytes)
    return int(struct.unpack("=I", answer)[0])


def _may_administer() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return os.geteuid() == 0
