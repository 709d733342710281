"""Who may send what to whom: a spoofed source, a stranger's address, another client, a rule."""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.packets import ICMP, PLAIN, TCP, UDP, packet, transport, vnet
from vantun.acl import AccessList, Guard
from vantun.dataplane.tun_filter import judge_incoming, judge_outgoing
from vantun.dataplane.tun_routes import set_routes
from vantun.dataplane.tun_sessions import TunSessions
from vantun.dataplane.tun_tables import (
    ACL,
    BAD_VNET,
    CLIENT_TO_CLIENT,
    HEAD,
    MALFORMED,
    MARTIAN,
    MULTICAST,
    NO_ROUTE,
    OK,
    REASONS,
    SPOOFED,
)

OURS, THEIRS, NOBODY = 1, 2, 3


class Gate:
    """A device's tables: slot 1 is 10.8.0.2 and fd00::2 with 10.1.0.0/16 behind it, slot 2 is 10.8.0.3."""

    def __init__(self, *, client: bool = False, client_to_client: bool = False, routes: bool = True) -> None:
        self.sessions = TunSessions()
        self.tables = self.sessions.tables
        self.sessions.use_device(-1, 0x7F, client=client, client_to_client=client_to_client)
        if routes:
            set_routes(self.tables, OURS, ["10.8.0.2", "fd00::2"], ["10.1.0.0/16"])
        if not client:
            set_routes(self.tables, THEIRS, ["10.8.0.3"], [])
            self.sessions.connect(THEIRS, 22)
        self.sessions.connect(OURS, 11)

    def rules(self, *lines: str) -> Gate:
        """Have these rules hold."""
        self.sessions.set_rules(AccessList.parse(lines, Guard.NONE).packet_rules())
        return self

    def outgoing(self, made: bytes, header: bytes = PLAIN) -> tuple[int, int]:
        """Judge a packet that was read from the device."""
        data = np.frombuffer(header + made, np.uint8).copy()
        reason, slot = judge_outgoing(self.tables.root[0], data, len(data))
        return int(reason), int(slot)

    def incoming(self, made: bytes, slot: int = OURS, header: bytes = PLAIN) -> int:
        """Judge a packet that a session sent."""
        whole = header + made
        data = np.zeros(HEAD, np.uint8)
        have = min(HEAD, len(whole))
        data[:have] = np.frombuffer(whole[:have], np.uint8)
        return int(judge_incoming(self.tables.root[0], data, have, len(whole), slot))


def test_every_reason_has_a_name() -> None:
    assert len(set(REASONS)) == len(REASONS)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ("10.8.0.2", (OK, OURS)),
        ("10.1.200.3", (OK, OURS)),
        ("10.8.0.3", (OK, THEIRS)),
        ("10.8.0.4", (NO_ROUTE, -1)),
        ("fd00::2", (OK, OURS)),
        ("fd00::3", (NO_ROUTE, -1)),
        ("224.0.0.1", (MULTICAST, -1)),
        ("255.255.255.255", (MULTICAST, -1)),
        ("ff02::1", (MULTICAST, -1)),
        ("127.0.0.1", (MARTIAN, -1)),
        ("::1", (MARTIAN, -1)),
        ("::ffff:10.8.0.2", (MARTIAN, -1)),
    ],
)
def test_a_server_chooses_the_session_by_the_destination(target: str, verdict: tuple[int, int]) -> None:
    source = "198.51.100.1" if "." in target and ":" not in target else "2001:db8::1"
    assert Gate().outgoing(packet(source, target)) == verdict


def test_a_session_without_a_flow_gets_nothing() -> None:
    gate = Gate()
    gate.sessions.connect(OURS, -1)
    assert gate.outgoing(packet("198.51.100.1", "10.8.0.2")) == (NO_ROUTE, OURS)


@pytest.mark.parametrize(
    ("source", "slot", "verdict"),
    [
        ("10.8.0.2", OURS, OK),
        ("10.1.7.7", OURS, OK),
        ("fd00::2", OURS, OK),
        ("10.8.0.3", OURS, SPOOFED),
        ("10.8.0.3", THEIRS, OK),
        ("10.1.7.7", THEIRS, SPOOFED),
        ("198.51.100.9", OURS, SPOOFED),
        ("fd00::3", OURS, SPOOFED),
        ("::ffff:10.8.0.2", OURS, SPOOFED),
        ("127.0.0.1", OURS, SPOOFED),
        ("10.8.0.2", NOBODY, SPOOFED),
    ],
)
def test_a_session_sends_from_its_own_addresses_only(source: str, slot: int, verdict: int) -> None:
    target = "198.51.100.1" if "." in source and ":" not in source else "2001:db8::1"
    assert Gate().incoming(packet(source, target), slot) == verdict


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ("10.8.0.3", CLIENT_TO_CLIENT),
        ("10.1.0.1", CLIENT_TO_CLIENT),  # its own: a loop
        ("10.8.0.1", OK),
        ("127.0.0.1", MARTIAN),
        ("0.0.0.0", MARTIAN),
        ("239.1.2.3", MULTICAST),
    ],
)
def test_where_a_session_may_send(target: str, verdict: int) -> None:
    assert Gate().incoming(packet("10.8.0.2", target)) == verdict


def test_one_client_reaches_another_only_where_that_is_wanted() -> None:
    gate = Gate(client_to_client=True)
    assert gate.incoming(packet("10.8.0.2", "10.8.0.3")) == OK
    assert gate.incoming(packet("10.8.0.2", "10.1.0.1")) == CLIENT_TO_CLIENT
    assert gate.incoming(packet("10.8.0.2", "10.8.0.3"), THEIRS) == SPOOFED


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ("198.51.100.1", "10.8.0.2", OK),
        ("198.51.100.1", "10.1.3.3", OK),
        ("10.8.0.1", "10.8.0.2", OK),
        ("10.8.0.2", "10.8.0.2", MARTIAN),
        ("10.1.3.3", "10.8.0.2", MARTIAN),
        ("127.0.0.1", "10.8.0.2", MARTIAN),
        ("0.0.0.0", "10.8.0.2", MARTIAN),
        ("224.0.0.9", "10.8.0.2", MARTIAN),
        ("fd00::2", "fd00::2", MARTIAN),
        ("::1", "fd00::2", MARTIAN),
        ("2001:db8::1", "fd00::2", OK),
        ("198.51.100.1", "192.168.1.1", NO_ROUTE),  # the network that this machine stands in is nobody's business
        ("198.51.100.1", "127.0.0.1", MARTIAN),
        ("198.51.100.1", "224.0.0.1", MULTICAST),
    ],
)
def test_what_a_client_takes_from_its_server(source: str, target: str, verdict: int) -> None:
    assert Gate(client=True).incoming(packet(source, target)) == verdict


def test_what_a_client_sends() -> None:
    gate = Gate(client=True)
    assert gate.outgoing(packet("10.8.0.2", "198.51.100.1")) == (OK, OURS)
    assert gate.outgoing(packet("192.168.1.9", "198.51.100.1")) == (SPOOFED, OURS)
    assert gate.outgoing(packet("10.8.0.2", "224.0.0.251")) == (MULTICAST, -1)
    assert gate.outgoing(packet("fe80::1", "ff02::2")) == (MULTICAST, -1)
    gate.rules("reject(198.51.100.0/24, udp/2000)")
    assert gate.outgoing(packet("10.8.0.2", "198.51.100.1")) == (ACL, OURS)
    assert gate.incoming(packet("198.51.100.1", "10.8.0.2", ports=(2000, 1000))) == ACL


def test_a_client_without_addresses_is_not_held_to_them() -> None:
    gate = Gate(client=True, routes=False)
    assert gate.outgoing(packet("192.168.1.9", "198.51.100.1")) == (OK, OURS)
    assert gate.incoming(packet("198.51.100.1", "192.168.1.9")) == OK
    gate.sessions.connect(OURS, -1)
    assert gate.outgoing(packet("192.168.1.9", "198.51.100.1")) == (NO_ROUTE, OURS)


def test_what_may_be_reached_may_answer() -> None:
    gate = Gate().rules("allow(198.51.100.0/24, tcp/443)", "reject(all)")
    near, far = "10.8.0.2", "198.51.100.1"
    assert gate.incoming(packet(near, far, TCP, ports=(5, 443))) == OK
    assert gate.outgoing(packet(far, near, TCP, ports=(443, 5)))[0] == OK
    assert gate.incoming(packet(near, far, TCP, ports=(443, 444))) == ACL
    assert gate.outgoing(packet(far, near, TCP, ports=(444, 443))) == (ACL, OURS)
    assert gate.incoming(packet(near, far, UDP, ports=(5, 443))) == ACL
    assert gate.incoming(packet(near, far, ICMP, b"ping")) == ACL


def test_rules_with_ports_and_packets_without() -> None:
    near, far = "10.8.0.2", "198.51.100.1"
    later = packet(near, far, UDP, bytes(64), place=0x0010)
    first = packet(near, far, UDP, place=0x2000, ports=(1, 53))
    rejecting = Gate().rules("reject(all, udp/53)")
    assert rejecting.incoming(first) == ACL
    assert rejecting.incoming(later) == OK  # without its first one it comes to nothing
    allowing = Gate().rules("allow(all, udp/53)", "reject(all)")
    assert allowing.incoming(first) == OK
    assert allowing.incoming(later) == OK
    assert allowing.incoming(packet(near, far, UDP, place=0x2000, ports=(1, 54))) == ACL
    assert Gate().rules("reject(all, */0-65534)").incoming(packet(near, far, ICMP, b"ping")) == OK
    assert Gate().rules("reject(all, udp)").incoming(later) == ACL


NETWORKS = st.sampled_from(
    ["all", "198.51.100.0/24", "198.51.100.1/32", "0.0.0.0/0", "::/0", "2001:db8::/33", "2001:db8::1/128", "10.0.0.0/8"]
)
PORTS = st.sampled_from(["", ", tcp", ", udp", ", tcp/443", ", udp/53-55", ", */80-443", ", tcp/0"])
RULES = st.builds(
    lambda action, net, ports: f"{action}({net}{ports})",
    st.sampled_from(["allow", "reject", "direct"]),
    NETWORKS,
    PORTS,
)


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from(["198.51.100.1", "198.51.100.77", "203.0.113.1", "2001:db8::1", "2001:db8:8000::1", "2a00::1"]),
    st.sampled_from([TCP, UDP]),
    st.sampled_from([0, 53, 55, 56, 80, 443, 444, 65535]),
)
def test_packets_are_judged_as_targets_of_connections_are(lines: list[str], far: str, protocol: int, port: int) -> None:
    near = "10.8.0.2" if "." in far else "fd00::2"
    gate = Gate().rules(*lines)
    verdict = AccessList.parse(lines, Guard.NONE).judge(
        None, ip_address(far), port, "tcp" if protocol == TCP else "udp"
    )
    expected = ACL if verdict.action == "reject" else OK
    assert gate.incoming(packet(near, far, protocol, ports=(9, port))) == expected
    assert gate.outgoing(packet(far, near, protocol, ports=(port, 9)))[0] == expected


def test_a_bad_header_or_none_is_dropped() -> None:
    made = packet("10.8.0.2", "198.51.100.1", TCP, transport(TCP, payload=bytes(3000)))
    gate = Gate()
    assert gate.incoming(made, header=vnet(1, 1, 1000, 20, 16)) == OK
    assert gate.incoming(made, header=vnet(1, 4, 1000, 20, 16)) == BAD_VNET
    assert gate.incoming(b"", header=b"123") == MALFORMED
    assert gate.incoming(b"") == MALFORMED


@given(st.binary(max_size=120), st.booleans())
def test_noise_passes_nowhere(data: bytes, client: bool) -> None:
    gate = Gate(client=client)
    reason = gate.incoming(data, header=b"")
    assert reason != OK or data[10] >> 4 in (4, 6)
    assert gate.outgoing(data, header=PLAIN)[0] != OK or data[0] >> 4 in (4, 6)
