"""Opening TUN devices: what is refused, and with which next step; offloads that are given up one after another."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import pytest

from drivers.errors import Capability, DriverError, SystemCallError, Unavailable, UnavailableError
from drivers.linux import tun
from drivers.linux.tun import ALL_OFFLOADS, TCP_OFFLOADS, TunDevice, TunOffload, probe_tun


class FakeKernel:
    """Answers ioctls as the TUN driver does; ``refused`` maps a request, or an offload, to an errno."""

    def __init__(self) -> None:
        self.features = tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_VNET_HDR | tun.IFF_MULTI_QUEUE
        self.refuse_request: dict[int, int] = {}
        self.refuse_offload = TunOffload.NONE
        self.refuse_everything = False
        self.flags = 0
        self.there = 0
        """Flags of a device that is there already."""
        self.header = 10
        self.offloads = -1

    def __call__(self, descriptor: int, request: int, argument: bytes | int) -> bytes | int:
        if request in self.refuse_request:
            raise OSError(self.refuse_request[request], os.strerror(self.refuse_request[request]))
        if request == tun.TUNSETOFFLOAD:
            if self.refuse_everything or TunOffload(int(argument)) & self.refuse_offload:
                raise OSError(errno.EINVAL, "no")
            self.offloads = int(argument)
            return 0
        assert isinstance(argument, bytes)
        if request == tun.TUNGETFEATURES:
            return struct.pack("=I", self.features)
        if request == tun.TUNGETVNETHDRSZ:
            return struct.pack("=I", self.header)
        if request == tun.TUNSETVNETHDRSZ:
            self.header = int(struct.unpack("=i", argument)[0])
            return argument
        if request == tun.TUNSETIFF:
            name = argument[:16]
            asked = int(struct.unpack_from("=H", argument, 16)[0])
            if self.there and asked & tun.IFF_TUN_EXCL:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self.flags = (asked & ~tun.IFF_TUN_EXCL) | self.there
            return name.replace(b"%d", b"7\0").ljust(16, b"\0") + argument[16:]
        assert request == tun.TUNGETIFF
        return struct.pack("=16sH22x", b"vt7", self.flags)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    monkeypatch.setattr(tun, "TUN_PATH", os.devnull)
    return FakeKernel()


@pytest.fixture
def descriptor() -> Iterator[int]:
    number = os.open(os.devnull, os.O_RDWR)
    yield number
    os.close(number)


def test_a_device_has_headers_offloads_and_the_name_that_the_kernel_gave(kernel: FakeKernel) -> None:
    with TunDevice.open("vt%d", ioctl=kernel) as device:
        assert device.name == "vt7"
        assert kernel.flags == tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_VNET_HDR
        assert kernel.header == tun.VNET_HEADER
        assert device.offloads == ALL_OFFLOADS
        assert kernel.offloads == int(ALL_OFFLOADS)
        assert device.missing == ()
        assert not os.get_blocking(device.fileno())
    assert device.fileno() == -1
    device.close()


def test_several_queues_only_when_asked(kernel: FakeKernel) -> None:
    with TunDevice.open("vt0", multi_queue=True, ioctl=kernel):
        assert kernel.flags & tun.IFF_MULTI_QUEUE


def test_a_device_of_several_queues_that_somebody_holds_is_busy(kernel: FakeKernel) -> None:
    with TunDevice.open("vt0", multi_queue=True, exclusive=True, ioctl=kernel):
        assert kernel.flags == tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_VNET_HDR | tun.IFF_MULTI_QUEUE
    kernel.there = tun.IFF_MULTI_QUEUE
    TunDevice.open("vt0", multi_queue=True, ioctl=kernel).close()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SystemCallError, match="stop the program that holds vt0") as caught:
        TunDevice.open("vt0", multi_queue=True, exclusive=True, ioctl=kernel)
    assert caught.value.errno == errno.EBUSY
    assert len(os.listdir("/proc/self/fd")) == before
    kernel.there = tun.IFF_MULTI_QUEUE | tun.IFF_PERSIST
    with TunDevice.open("vt0", multi_queue=True, exclusive=True, ioctl=kernel) as device:
        assert device.name == "vt0"


@pytest.mark.parametrize(
    ("refused", "granted", "reasons"),
    [
        (TunOffload.USO4, TCP_OFFLOADS, ["UDP superpackets"]),
        (TunOffload.USO6 | TunOffload.TSO_ECN, TCP_OFFLOADS & ~TunOffload.TSO_ECN, ["UDP", "congestion marks"]),
        (TunOffload.TSO6, TunOffload.CSUM, ["UDP", "congestion marks", "TCP superpackets"]),
        (TunOffload.CSUM, TunOffload.NONE, ["UDP", "congestion marks", "TCP superpackets", "checksums"]),
    ],
)
def test_offloads_are_given_up_one_after_another_with_a_reason_each(
    kernel: FakeKernel, refused: TunOffload, granted: TunOffload, reasons: list[str]
) -> None:
    kernel.refuse_offload = refused
    with TunDevice.open("vt0", ioctl=kernel) as device:
        assert device.offloads == granted
        assert device.offloads == granted
        assert kernel.offloads == int(granted)
        assert device.takes == TCP_OFFLOADS
        assert len(device.missing) == len(reasons)
        for each, reason in zip(device.missing, reasons, strict=True):
            assert reason in each.reason
            assert "vt0" in each.reason
            assert each.next_step


def test_what_the_far_end_cannot_write_is_not_asked_for(kernel: FakeKernel) -> None:
    with TunDevice.open("vt0", ioctl=kernel) as device:
        assert device.set_offloads(TCP_OFFLOADS) == TCP_OFFLOADS
        assert device.missing == ()
        assert device.takes == ALL_OFFLOADS
        kernel.refuse_everything = True
        with pytest.raises(SystemCallError, match=r"offloads of vt0 failed.*open the device again"):
            device.set_offloads(ALL_OFFLOADS)


@pytest.mark.parametrize(
    ("number", "step"),
    [(errno.EPERM, "CAP_NET_ADMIN"), (errno.EBUSY, "another name"), (errno.EINVAL, "another kind"), (77, "dmesg")],
)
def test_a_refused_interface_says_what_to_do(kernel: FakeKernel, number: int, step: str) -> None:
    kernel.refuse_request[tun.TUNSETIFF] = number
    with pytest.raises(SystemCallError, match=f"creating the TUN interface vt0 failed: .*{step}") as caught:
        TunDevice.open("vt0", ioctl=kernel)
    assert caught.value.errno == number


def test_a_driver_without_headers_gives_a_plain_device(kernel: FakeKernel) -> None:
    kernel.features &= ~tun.IFF_VNET_HDR
    with TunDevice.open("vt0", ioctl=kernel) as device:
        assert device.plain
        assert kernel.flags == tun.IFF_TUN | tun.IFF_NO_PI
        assert (device.offloads, device.takes) == (TunOffload.NONE, TunOffload.NONE)
        assert device.set_offloads(ALL_OFFLOADS) == TunOffload.NONE
        assert kernel.offloads == -1, "without a header, the kernel would leave packets unfinished without a word"
        (missing,) = device.missing
        assert "virtio-net headers on vt0" in missing.reason
        kernel.refuse_request[tun.TUNGETVNETHDRSZ] = errno.EINVAL
        adopted = TunDevice.adopt(os.dup(device.fileno()), TCP_OFFLOADS, ioctl=kernel)
        assert (adopted.plain, adopted.takes) == (True, TunOffload.NONE)
        adopted.close()


def test_a_driver_of_one_queue_says_so_when_several_are_wanted(kernel: FakeKernel) -> None:
    kernel.features &= ~tun.IFF_MULTI_QUEUE
    with pytest.raises(UnavailableError, match="0x100;"):
        TunDevice.open("vt0", multi_queue=True, ioctl=kernel)


def test_what_the_driver_has_is_probed(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "_may_administer", lambda: True)
    for left_out, facts in ((0, (True, True)), (tun.IFF_VNET_HDR, (False, True)), (tun.IFF_MULTI_QUEUE, (True, False))):
        kernel.features = tun.IFF_TUN | tun.IFF_NO_PI | (tun.IFF_VNET_HDR | tun.IFF_MULTI_QUEUE) & ~left_out
        found = probe_tun(os.devnull, kernel)
        assert isinstance(found, Capability)
        assert (found.facts["vnet_hdr"], found.facts["multi_queue"]) == facts
    monkeypatch.setattr(tun, "_may_administer", lambda: False)
    found = probe_tun(os.devnull, kernel)
    assert isinstance(found, Unavailable)
    assert "no CAP_NET_ADMIN" in found.reason


@pytest.mark.parametrize("name", ["sixteen-letters-", "a b", "a/b", ".."])
def test_names_that_no_interface_can_have(name: str) -> None:
    with pytest.raises(DriverError, match="no interface can be called"):
        TunDevice.open(name)


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "TUN_PATH", "/nowhere/tun")
    with pytest.raises(UnavailableError, match="modprobe tun"):
        TunDevice.open("vt0")
    found = probe_tun("/nowhere/tun")
    assert isinstance(found, Unavailable)
    assert "modprobe tun" in found.next_step


def test_a_device_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SystemCallError, match="run as root or give CAP_NET_ADMIN"):
        TunDevice.open("vt0")
    found = probe_tun()
    assert isinstance(found, Unavailable)
    assert "CAP_NET_ADMIN" in found.next_step


def test_something_else_is_no_driver() -> None:
    found = probe_tun(os.devnull)
    assert isinstance(found, Unavailable)
    assert "not the TUN driver" in found.reason


def test_adopting(kernel: FakeKernel, descriptor: int) -> None:
    kernel.flags = tun.IFF_TUN | tun.IFF_NO_PI | tun.IFF_VNET_HDR
    device = TunDevice.adopt(os.dup(descriptor), ALL_OFFLOADS, ioctl=kernel)
    assert (device.name, device.takes, kernel.offloads) == ("vt7", ALL_OFFLOADS, -1)
    assert "vt7" in repr(device)
    device.close()
    kernel.header = 12
    with pytest.raises(DriverError, match="headers of 12 B"):
        TunDevice.adopt(descriptor, ioctl=kernel)
    with pytest.raises(DriverError, match="is no TUN device"):
        TunDevice.adopt(descriptor)


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(tun.TUN_PATH), reason="needs root and a TUN driver")
def test_probing_the_real_driver_creates_no_interface() -> None:
    before = os.listdir("/sys/class/net")
    found = probe_tun()
    assert isinstance(found, Capability)
    assert "multi_queue" in found.facts
    assert os.listdir("/sys/class/net") == before
