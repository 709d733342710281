"""Which session an address belongs to: longest prefix first, over a hash table of (family, length, network).

A lookup costs one probe per prefix length in use, which are few: 32 and 128 for the addresses of clients, and those of
announced networks. The table is rebuilt when a session's routes change (0.2 ms for 4,096 prefixes).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.dataplane.tun_tables import PLACES, TunTables, prefix_dtype
from vantun.errors import ResourceError
from vantun.session.tables import head
from vantun.tun_messages import MAX_PREFIXES
from vantun.wire.integers import int64, uint64

_ONES = 0xFFFFFFFFFFFFFFFF


@kernel
def _high_mask(length: int) -> int:
    """Return the mask of the upper half of 128 bits for a prefix."""
    if length <= 0:
        return uint64(0)
    if length >= 64:
        return uint64(_ONES)
    return uint64(_ONES) << uint64(64 - length)


@kernel
def _low_mask(family: int, length: int) -> int:
    """Return the mask of the lower half; an IPv4 prefix lies in its lowest 32 bits."""
    if family == 4:
        length += 32
    else:
        length -= 64
    return _high_mask(length)


@kernel
def _masked(family: int, length: int, high: int, low: int) -> tuple[int, int]:
    top = uint64(0) if family == 4 else uint64(high) & _high_mask(length)
    return top, uint64(low) & _low_mask(family, length)


@kernel
def _home(family: int, length: int, high: int, low: int) -> int:
    h = uint64(high) * uint64(0x9E3779B97F4A7C15) ^ uint64(low)
    h ^= uint64(length << 8 | family) * uint64(0xC2B2AE3D27D4EB4F)
    h ^= h >> uint64(33)
    h *= uint64(0xFF51AFD7ED558CCD)
    h ^= h >> uint64(33)
    return int64(h & uint64(PLACES - 1))


@kernel
def _find(r: Any, family: int, length: int, high: int, low: int) -> int:
    """Return the place of a prefix: its own, or the free one that it would take."""
    place = _home(family, length, high, low)
    while r.place[place] >= 0:
        entry = r.prefix[r.place[place]]
        same = entry.network[0] == uint64(high) and entry.network[1] == uint64(low)
        if same and entry.length == length and entry.family == family:
            break
        place = (place + 1) & (PLACES - 1)
    return place


@kernel
def rebuild(t: Any) -> int:
    """Enter every prefix; return how many had been entered before: the first one keeps its place."""
    r = head(t)
    r.place[:] = -1
    used = np.zeros((2, 129), np.bool_)
    conflicts = 0
    for i in range(r.state[0].prefixes):
        entry = r.prefix[i]
        family, length = int64(entry.family), int64(entry.length)
        place = _find(r, family, length, entry.network[0], entry.network[1])
        if r.place[place] >= 0:
            conflicts += 1
            continue
        r.place[place] = i
        used[0 if family == 4 else 1, length] = True
    for version in range(2):
        count = 0
        for length in range(128, -1, -1):
            if used[version, length]:
                r.level[version, count] = length
                count += 1
        r.levels[version] = count
    r.state[0].conflicts = conflicts
    return conflicts


@kernel
def lookup(t: Any, family: int, high: int, low: int) -> int:
    """Return the slot of the session that the longest prefix of an address belongs to, -1 = none."""
    r = head(t)
    version = 0 if family == 4 else 1
    for i in range(r.levels[version]):
        length = int64(r.level[version, i])
        top, bottom = _masked(family, length, high, low)
        place = _find(r, family, length, top, bottom)
        if r.place[place] >= 0:
            return int64(r.prefix[r.place[place]].slot)
    return -1


def set_routes(tables: TunTables, slot: int, addresses: Iterable[str], prefixes: Iterable[str]) -> None:
    """Give a slot these addresses and prefixes instead of those it had.

    Raises
    ------
    ValueError
        When one of them is none; nothing has changed.
    ResourceError
        When there is no room for them; nothing has changed.
    """
    wanted = [ipaddress.ip_network(ipaddress.ip_address(each)) for each in addresses]
    wanted += [ipaddress.ip_network(each) for each in prefixes]
    rows = np.zeros(len(wanted), prefix_dtype)
    for row, network in zip(rows, wanted, strict=True):
        number = int(network.network_address)
        row["network"] = number >> 64, number & _ONES
        row["slot"], row["length"], row["family"] = slot, network.prefixlen, network.version
    record = tables.root[0]
    state = record["state"][0]
    before = record["prefix"][: int(state["prefixes"])]
    # What a session goes on having keeps its place: were it entered anew, another's claim to it would come first.
    kept = before[(before["slot"] != slot) | _among(before, rows)]
    joined = np.concatenate([kept, rows[~_among(rows, before)]])
    if len(joined) > MAX_PREFIXES:
        raise ResourceError(
            f"{len(wanted)} addresses and prefixes of one session, {len(joined) - MAX_PREFIXES} more than fit; "
            "join prefixes, or send fewer"
        )
    record["prefix"][: len(joined)] = joined
    state["prefixes"] = len(joined)
    record["slot"][slot]["prefixes"] = len(wanted)
    rebuild(tables.root)


def _among(rows: NDArray[np.void], others: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows stand among others."""
    known = {other.tobytes() for other in others}
    return np.array([row.tobytes() in known for row in rows], np.bool_)
