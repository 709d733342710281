"""The rows of a flow and of a piece of it in the tables. Units as in :mod:`vantun.session.layout`."""

from __future__ import annotations

import numpy as np

flow_dtype = np.dtype(
    [
        ("used", "u1"),
        ("session", "i4"),
        ("id", "i8"),
        ("generation", "i4"),
        # --- sending
        ("tx_open", "u1"),
        ("refill", "u1"),  # stands in the ring of those whose sockets may have bytes
        ("large", "u1"),  # the last read that had room for it was a large one
        ("descriptor", "i4"),  # of the TCP socket that compiled code reads and writes, plus 1; 0 = Python does
        ("starved", "u1"),  # has bytes to send and no credit
        ("offset", "i8"),
        ("credit", "i8"),
        ("burst", "f8"),
        ("burst_at", "f8"),
        ("bulk", "u1"),
        # --- receiving
        ("writable", "u1"),
        ("announced", "u1"),  # its OPEN has arrived (or this end opened it)
        ("discard", "u1"),
        ("next", "i8"),
        ("final", "i8"),
        ("granted", "i8"),
        ("window", "i8"),
        ("window_at", "f8"),
        ("owed", "u1"),  # credit waits for room in the control channel
        ("head", "i4"),
        ("tail", "i4"),
        ("pending", "i8"),
        ("deliver", "u1"),  # stands in the delivery list
        # --- packets
        ("kind", "u1"),  # UNKNOWN, STREAMS or PACKET_FLOW, by what came first
        ("mode", "u1"),
        ("pieces", "i4"),
        ("hint", "i4"),  # the last piece that was inserted out of order (-1 = none)
        ("scan", "i4"),  # no whole packet starts up to this piece (-1 = not known)
        ("ready", "i4"),  # piece that the packet found last starts in (-1 = none)
        ("ready_end", "i8"),  # its end
        ("final_at", "f8"),
        ("hold_at", "f8"),  # when something may have to be given up
        ("holding", "u1"),  # stands in the holding list
    ],
    align=True,
)

span_dtype = np.dtype(
    [
        ("offset", "i8"),
        ("start", "i8"),
        ("length", "i4"),
        ("row", "i4"),
        ("next", "i4"),
        ("begins", "u1"),  # packet flows: a packet starts with its first byte
        ("at", "f8"),  # packet flows: since when something behind or in it has been here
    ],
    align=True,
)
