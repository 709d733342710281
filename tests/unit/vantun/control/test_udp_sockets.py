"""What the sockets of an appliance say about the slower ways that they have to take."""

from __future__ import annotations

import socket

from drivers.errors import Capability, Unavailable
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


def test_an_interface_that_splits_or_does_not_say_is_no_fallback() -> None:
    for answer in (Capability("USO"), Unavailable("the kernel does not say what lo does in hardware", "nothing")):
        sockets = UdpSockets(probe=lambda _device, answer=answer: answer)  # type: ignore[misc]
        for sock in sockets.bind_towards(Address(socket.AF_INET, "127.0.0.1", 9), ""):
            sock.close()
        assert all(row["what"] != "UDP split by the kernel" for row in sockets.fallbacks())
