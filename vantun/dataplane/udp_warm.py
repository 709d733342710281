"""Every kernel of UDP flows, called once on nothing, so that it is loaded, or compiled, before a worker serves."""

from __future__ import annotations

import numpy as np

from drivers.linux.origin_kernel import original_destinations
from vantun.dataplane import udp_kernels as kernels
from vantun.dataplane.context import Context
from vantun.dataplane.udp_divert import Aside, divert_bodies, lay_bodies
from vantun.dataplane.udp_io import OUT, UdpIo
from vantun.dataplane.udp_table import ALLOWED, UdpTable
from vantun.session.packets import packet_room


def warm_udp(context: Context) -> None:
    """Call the kernels with the types that they are called with later; no flow is touched."""
    io = UdpIo(context)
    table = UdpTable(2, kernels.SOURCE_KEY)
    row = table.add(b"x", ALLOWED, 0.0)
    table.find(b"x")
    table.remove(row)
    known, batch, bodies, drops = table.table, io.batch, io.bodies, io.drops
    rows = np.zeros((OUT, 28), np.uint8)
    program = kernels.Program(np.zeros(259, np.uint8), np.zeros(2, np.int64), np.zeros((1, 28), np.uint8))
    heard = kernels.Listening(known, np.zeros(2, np.int64), np.zeros(260, np.uint8), rows[: len(batch.address)].copy())
    packet_room(context.tables.root, 0)
    kernels.put_bodies(context.tables.root, bodies.memory, bodies, 0, drops, 0.0)
    kernels.read_relay(batch, 0, program, bodies, 0, drops)
    kernels.name_answers(batch, 0, known, bodies, 0, drops)
    kernels.prefix_answers(batch, 0, np.zeros(7, np.uint8), bodies, 0)
    kernels.sort_sources(batch, (0, 0), heard, bodies, drops, 0.0)
    original_destinations(*io.messages, heard.original)
    io.take(0, 0, 0.0)
    kernels.strip_addresses(io.out, 0, 0, drops)
    kernels.name_sources(io.out, 0, 0, rows, drops)
    kernels.aim_bodies(io.out, 0, known, np.zeros((OUT, 2), np.int64), drops, 0.0)
    aside = Aside(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int64))
    for memory in (bodies.memory, batch.memory):
        divert_bodies(known, memory, bodies, (0, False), aside, drops, 0.0)
    lay_bodies(bodies, (0, 0), io.out, 0)
    io.close()
