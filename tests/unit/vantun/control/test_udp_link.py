"""The commands about UDP: numbers are never used twice, time-outs are those of the kind."""

from __future__ import annotations

from tests.unit.vantun.control.test_udp_connector import Link
from tests.unit.vantun.dataplane.udp_lab import udp
from vantun.udp_messages import NO_PEER, AttachUdp, CloseUdp, MoveUdp, OpenUdp, UdpKind, UdpTarget


def test_commands() -> None:
    link = Link()
    first = link.open_udp(7, UdpKind.SOCKS5, udp(), peer=("127.0.0.1", 5))
    second = link.open_udp(0, UdpKind.FORWARD, udp(), target="a.example:53", idle=5, worker=3)
    link.move_udp(second, 7)
    link.close_udp(first)
    link.attach_udp(3, udp())
    link.udp_target(3, 1, ("192.0.2.1", 53))
    link.udp_target(3, 2, None)
    assert first != second
    assert link.posted == [
        OpenUdp(first, 7, UdpKind.SOCKS5, "", ("127.0.0.1", 5), 120.0, 1024),
        OpenUdp(second, 0, UdpKind.FORWARD, "a.example:53", NO_PEER, 5.0, 1024, 3),
        MoveUdp(second, 7),
        CloseUdp(first),
        AttachUdp(3, NO_PEER, 120.0),
        UdpTarget(3, 1, "192.0.2.1", 53),
        UdpTarget(3, 2, "", 0),
    ]
