"""Kernels that part the datagrams of programs by the client's access list: into the tunnel, past it, nowhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.batch import PacketBatch
from drivers.kernel import kernel
from vantun.dataplane.udp_bodies import MALFORMED, NOT_ALLOWED, Bodies
from vantun.dataplane.udp_table import ALLOWED, REFUSED, Table, find_row
from vantun.session.packets import MAX_PACKET
from vantun.wire.addresses import address_size
from vantun.wire.integers import int64

TUNNELLED = 4
"""Another state of a row of Table; ALLOWED there means: sent from this machine."""
UNKNOWN, FLOWLESS = -1, -2
"""In place of a row: the target is to be asked for; the body has no flow yet."""


class Aside(NamedTuple):
    """Bodies that do not simply go into the tunnel, in order."""

    start: NDArray[np.int64]
    """[capacity] first byte of the body, or, if it is direct, of its payload."""
    length: NDArray[np.int32]
    """[capacity] bytes of the body, or of its payload."""
    row: NDArray[np.int32]
    """[capacity] row of the target, if it is direct; else UNKNOWN or FLOWLESS."""
    flow: NDArray[np.int64]
    """[capacity] what ``Bodies.flow`` was."""


@kernel
def divert_bodies(
    known: Table,
    memory: NDArray[np.uint8],
    bodies: Bodies,
    packets: tuple[int, bool],
    aside: Aside,
    drops: NDArray[np.int64],
    now: float,
) -> tuple[int, int]:
    """Part bodies in ``memory`` by what ``known`` says about their targets.

    ``packets`` is (how many bodies, whether targets are judged at all). Those for the tunnel move to the front of
    ``bodies``.

    Returns
    -------
    tuple[int, int]
        Bodies for the tunnel; bodies in ``aside``.
    """
    left = 0
    others = 0
    for i in range(packets[0]):
        start, size, flow = bodies.start[i], bodies.length[i], bodies.flow[i]
        row = FLOWLESS
        head = 0
        if packets[1]:
            head = address_size(memory, start, start + size)
            if head < 0:
                drops[MALFORMED] += 1
                continue
            row = find_row(known, memory, start, head)
            state = -1
            if row >= 0:
                known.used[row] = now
                state = int64(known.state[row])
            if state == REFUSED and known.expires[row] >= now:
                drops[NOT_ALLOWED] += 1
                continue
            if state == TUNNELLED:
                row = FLOWLESS
            elif state != ALLOWED or known.expires[row] < now:
                row = UNKNOWN
        if row == FLOWLESS and flow >= 0:
            bodies.start[left] = start
            bodies.length[left] = size
            bodies.flow[left] = flow
            left += 1
            continue
        if row < 0:
            head = 0
        aside.start[others] = start + head
        aside.length[others] = size - head
        aside.row[others] = row
        aside.flow[others] = flow
        others += 1
    return left, others


@kernel
def lay_bodies(bodies: Bodies, span: tuple[int, int], out: PacketBatch, lead: int) -> int:
    """Copy bodies ``span[0] .. span[1] - 1`` to ``out``, ``lead`` zero bytes before each; return how many had room.

    They are then as if ``take_bodies`` had taken them from a flow.
    """
    at = 0
    count = 0
    for i in range(span[0], span[1]):
        size = bodies.length[i]
        if count >= len(out.offset) or at + lead + MAX_PACKET > len(out.memory):
            break
        start = at
        for j in range(lead):
            out.memory[at + j] = 0
        at += lead
        for j in range(size):
            out.memory[at + j] = bodies.memory[bodies.start[i] + j]
        at += size
        out.offset[count] = start
        out.length[count] = at - start
        out.peer[count] = 0
        count += 1
    return count
