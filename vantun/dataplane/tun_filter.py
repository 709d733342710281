"""Who may send what to whom through the TUN device: addresses first, then the rules, one packet at a time.

The session is known, because a packet arrived by its flow; whether the packet is the session's is decided by its source
address, which must be one that was assigned to it, or lie in a prefix that it announced and was granted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from drivers.linux.tun import VNET_HEADER
from vantun.dataplane.tun_parse import TCP, UDP, parse
from vantun.dataplane.tun_routes import lookup
from vantun.dataplane.tun_tables import (
    ACL,
    CLIENT_TO_CLIENT,
    HEAD,
    MALFORMED,
    MARTIAN,
    MULTICAST,
    NO_ROUTE,
    OK,
    REJECT,
    SPOOFED,
)
from vantun.dataplane.tun_vnet import check_vnet
from vantun.wire.integers import int64, uint64

_UNICAST, _BAD, _MANY = range(3)
_LAST_PORT = 65_535


@kernel
def _scope(family: int, high: int, low: int) -> int:
    """Return what kind of address it is: a host's, one that no packet may have here, or that of many."""
    if family == 4:
        first = low >> uint64(24)
        if first == 0 or first == 127:
            return _BAD
        return _MANY if first >= 224 else _UNICAST
    if high >> uint64(56) == 0xFF:
        return _MANY
    if high == 0 and (low >> uint64(32) == 0xFFFF or low <= uint64(1)):
        return _BAD  # IPv4-mapped, which has no place on a wire (and would dodge the rules for IPv4); :: and ::1
    return _UNICAST


@kernel
def _matches(rule: Any, p: Any, high: int, low: int, port: int) -> bool:
    if rule.family != 0 and rule.family != p.family:
        return False
    if rule.protocol != 0 and rule.protocol != p.protocol:
        return False
    if high & rule.mask[0] != rule.network[0] or low & rule.mask[1] != rule.network[1]:
        return False
    if rule.low == 0 and rule.high == _LAST_PORT:
        return True
    if p.protocol != TCP and p.protocol != UDP:
        return False
    if port < 0:  # a later fragment: worth nothing without the first, which is judged by its ports
        return bool(rule.action != REJECT)
    return bool(int64(rule.low) <= port <= int64(rule.high))


@kernel
def allowed(r: Any, p: Any, high: int, low: int, port: int) -> bool:
    """Tell whether the first rule that matches the address and port outside allows the packet; without one, it is."""
    for i in range(r.state[0].rules):
        rule = r.rule[i]
        if _matches(rule, p, high, low, port):
            return bool(rule.action != REJECT)
    return True


@kernel
def judge_outgoing(r: Any, memory: NDArray[np.uint8], size: int) -> tuple[int, int]:
    """Judge what was read from the device, ``memory[:size]``; return OK or why not, and the slot that it belongs to.

    The slot is -1 when it belongs to none.
    """
    state = r.state[0]
    p = r.packet[0]
    length = size - VNET_HEADER
    reason = parse(memory, VNET_HEADER, min(length, HEAD - VNET_HEADER), length, p)
    if reason != OK:
        return reason, -1
    scope = _scope(p.family, p.target[0], p.target[1])
    if scope != _UNICAST:
        return (MULTICAST if scope == _MANY else MARTIAN), -1
    if _scope(p.family, p.source[0], p.source[1]) != _UNICAST:
        return MARTIAN, -1
    if state.client:
        slot = int64(state.slot)
        if slot >= 0 and r.slot[slot].prefixes and lookup(r, p.family, p.source[0], p.source[1]) != slot:
            return SPOOFED, slot
        if not allowed(r, p, p.target[0], p.target[1], p.target_port):
            return ACL, slot
    else:
        slot = lookup(r, p.family, p.target[0], p.target[1])
        if slot >= 0 and not allowed(r, p, p.source[0], p.source[1], p.source_port):
            return ACL, slot
    if slot < 0 or r.slot[slot].flow < 0:
        return NO_ROUTE, slot
    return OK, slot


@kernel
def judge_incoming(r: Any, data: NDArray[np.uint8], have: int, size: int, slot: int) -> int:
    """Judge what a session sent: ``size`` bytes, of which ``data[:have]`` are there; return OK or why not.

    With OK, the vnet header in ``data`` is one that the kernel may be given.
    """
    state = r.state[0]
    p = r.packet[0]
    if have < VNET_HEADER:
        return MALFORMED
    reason = parse(data, VNET_HEADER, have - VNET_HEADER, size - VNET_HEADER, p)
    if reason != OK:
        return reason
    from_slot = lookup(r, p.family, p.source[0], p.source[1])
    to_slot = lookup(r, p.family, p.target[0], p.target[1])
    if state.client:
        if _scope(p.family, p.source[0], p.source[1]) != _UNICAST or from_slot >= 0:
            return MARTIAN
    elif from_slot != r.slot[slot].owner:
        return SPOOFED
    scope = _scope(p.family, p.target[0], p.target[1])
    if scope != _UNICAST:
        return MULTICAST if scope == _MANY else MARTIAN
    if state.client:
        if to_slot != slot and r.slot[slot].prefixes:
            return NO_ROUTE
        if not allowed(r, p, p.source[0], p.source[1], p.source_port):
            return ACL
    else:
        if to_slot == r.slot[slot].owner or (to_slot >= 0 and not state.client_to_client):
            return CLIENT_TO_CLIENT
        if not allowed(r, p, p.target[0], p.target[1], p.target_port):
            return ACL
    return check_vnet(data, size - VNET_HEADER, int64(state.offloads), p)
