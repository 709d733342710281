"""What the sockets of an appliance say about the slower ways that they have to take."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from drivers.errors import Capability, Unavailable
from drivers.linux import reuseport
from vantun.control.resolver import Address
from vantun.control.udp_sockets import UdpSockets

OFF = Unavailable("lo does not split UDP messages (tx-udp-segmentation is off), so the kernel does it", "another card")


def test_an_interface_without_segmentation_shows_while_paths_leave_by_it() -> None:
    sockets = UdpSockets(probe=lambda _device: OFF)
    assert all(row["what"] != "UDP split by the kernel" for row in sockets.fallbacks())
    for _ in range(2):
        for sock in sockets.bind_towards(Address(socket.AF_INET, "127.0.0.1", 9), ""):
            sock.close()
    shown = [row for row in sockets.fallbacks() if row["what"] == "UDP split by the kernel"]
    assert shown == [{"what": "UDP split by the kernel", "reason": OFF.reason, "next": "another card"}]


def test_a_server_names_the_interfaces_that_its_clients_are_behind() -> None:
    where = {"192.0.2.7": "eth0", "192.0.2.8": "eth0", "2001:db8::9": "eth1", "192.0.2.99": None}
    off = {name: Unavailable(f"{name} does not split UDP messages", "another card") for name in ("eth0", "eth1")}
    sockets = UdpSockets(probe=off.__getitem__, towards=where.__getitem__)
    assert sockets.fallbacks([]) == []
    lanes = [{"peer": f"{host}:4433"} for host in where] + [{"state": "new"}]
    shown = [row["reason"] for row in sockets.fallbacks(lanes)]
    assert shown == ["eth0 does not split UDP messages", "eth1 does not split UDP messages"]


def test_small_buffers_show_with_the_setting_that_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        """Without CAP_NET_ADMIN, on a machine that allows little."""

        def setsockopt(self, level: int, option: int, *value: Any) -> None:
            if level == socket.SOL_SOCKET and option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
                raise PermissionError(1, "Operation not permitted")
            if level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                value = (min(int(value[0]), 100_000),)
            super().setsockopt(level, option, *value)

    monkeypatch.setattr("drivers.linux.udp_bind.socket.socket", Refusing)
    sockets = UdpSockets()
    for sock in sockets.bind("127.0.0.1", 0):
        sock.close()
    [row] = sockets.fallbacks()
    assert row["what"] == "smaller UDP socket buffers"
    for said in ("gave 100000 bytes of UDP receive buffer", "sysctl -w net.core.rmem_max=", "net.core.wmem_max="):
        assert said in str(row["reason"])


def test_an_interface_that_splits_or_does_not_say_is_no_fallback() -> None:
    for answer in (Capability("USO"), Unavailable("the kernel does not say what lo does in hardware", "nothing")):
        sockets = UdpSockets(probe=lambda _device, answer=answer: answer)  # type: ignore[misc]
        for sock in sockets.bind_towards(Address(socket.AF_INET, "127.0.0.1", 9), ""):
            sock.close()
        assert all(row["what"] != "UDP split by the kernel" for row in sockets.fallbacks())


def test_a_kernel_that_does_not_steer_has_its_workers_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuseport, "SO_ATTACH_REUSEPORT_CBPF", 9999)
    sockets = UdpSockets(2)
    for sock in sockets.bind("127.0.0.1", 0):
        sock.close()
    (row,) = (row for row in sockets.fallbacks() if row["what"] == "datagrams handed over between workers")
    assert os.strerror(errno.ENOPROTOOPT) in str(row["reason"])
    monkeypatch.undo()
    steered = UdpSockets(2)
    for sock in steered.bind("127.0.0.1", 0):
        sock.close()
    assert bool(steered.unsteered) == bool(reuseport.probe_steering())
