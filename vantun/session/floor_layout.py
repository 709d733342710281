"""The page of floors: what a worker's successor must know so that no packet number is used twice, none accepted twice.

It lies in shared memory, belongs to the control process, and outlives workers. One worker writes it at a time. Every
field is stored before what it bounds can be seen outside, so it is right wherever the worker dies:

- ``send`` is stored before the first packet with a number of the reserved range is sealed;
- ``receive`` is stored after a batch was authenticated and before any of it is delivered or acknowledged;
- key updates, epochs and reserved flow ids are stored before a packet that shows them leaves.

A place belongs to the lane or session whose name stands in it; a worker that finds another name begins at 0.
"""

from __future__ import annotations

import numpy as np

from vantun.session.limits import FLOOR_BYTES, LANE_FLOORS, SESSION_FLOORS

SEND_STEP = 1 << 16
"""Packet numbers reserved at a time, and so the most that a death skips: far less than the 2^31 that four bytes on the
wire can tell apart, and less than a sixtieth of a key phase."""
FLOW_STEP = 1 << 12
"""Flow ids reserved at a time (half of them are this end's)."""

lane_floor_dtype = np.dtype(
    {
        "names": ["cid", "send", "receive", "send_updates", "send_start", "receive_updates"],
        "formats": ["u8", "i8", "i8", "i8", "i8", "i8"],
        "itemsize": FLOOR_BYTES,
    }
)
"""``cid``: the lane's receive connection id; ``send``: first number that is not reserved; ``receive``: highest number
authenticated (-1 = none); ``send_updates``, ``receive_updates``: key updates so far; ``send_start``: first number of
the present key phase."""
session_floor_dtype = np.dtype(
    {"names": ["id", "epoch", "next_flow"], "formats": ["u8", "i8", "i8"], "itemsize": FLOOR_BYTES},
)
"""``epoch``: see docs/protocol.md, "Restart"; ``next_flow``: first flow id of this end that is not reserved."""
floors_dtype = np.dtype(
    [("lane", lane_floor_dtype, (LANE_FLOORS,)), ("session", session_floor_dtype, (SESSION_FLOORS,))]
)
