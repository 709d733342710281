"""Noting the packet numbers of a batch in the shared page, before anybody outside can see them.

The page is described in :mod:`vantun.session.floor_layout`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.kernel import kernel
from vantun.session.floor_layout import FLOW_STEP, SEND_STEP, floors_dtype
from vantun.session.tables import REPLAY_WORDS, Tables, head
from vantun.wire.short_header import cid_key

_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def private_floors() -> NDArray[Any]:
    """Return a page that nobody else sees, for a data plane whose sessions end with it."""
    return np.zeros(1, floors_dtype)


@kernel
def reserve_numbers(
    t: Tables, floors: NDArray[Any], lane: NDArray[np.int32], number: NDArray[np.int64], count: int
) -> None:
    """Reserve the numbers of ``count`` planned packets; to be called before they are sealed."""
    t = head(t)
    for i in range(count):
        place = t.lane[lane[i]].floor
        if place >= 0 and number[i] >= floors[0].lane[place].send:
            floors[0].lane[place].send = number[i] + 1 + SEND_STEP


@kernel
def note_received(t: Tables, floors: NDArray[Any], lane: NDArray[np.int32], count: int) -> None:
    """Note the highest number of each lane in a batch of ``count`` packets; to be called before any is delivered."""
    t = head(t)
    for i in range(count):
        record = t.lane[lane[i]]
        if record.floor >= 0 and record.largest_rx > floors[0].lane[record.floor].receive:
            floors[0].lane[record.floor].receive = record.largest_rx


def claim_lane(floors: NDArray[Any], place: int, cid: bytes) -> tuple[int, int, int, int]:
    """Take a place for the lane with receive connection id ``cid``.

    Returns
    -------
    tuple
        (first number to send, highest number received, key updates of what is sent, and of what is received).
    """
    entry = floors[0]["lane"][place]
    name = cid_key(cid)
    if int(entry["cid"]) == name:
        first = int(entry["send"])
        entry["send"] = first + SEND_STEP
        return first, int(entry["receive"]), int(entry["send_updates"]), int(entry["receive_updates"])
    entry["cid"] = 0  # nobody's, until everything is in its place: this process may die between two stores
    for field, value in (("send", SEND_STEP), ("receive", -1), ("send_updates", 0), ("receive_updates", 0)):
        entry[field] = value
    entry["send_start"] = 0
    entry["cid"] = name
    return 0, -1, 0, 0


def claim_session(floors: NDArray[Any], place: int, session: int, first_flow: int) -> tuple[int, int]:
    """Take a place for a session; return its epoch, and the first flow id that this end has never used."""
    entry = floors[0]["session"][place]
    if int(entry["id"]) == session:
        entry["epoch"] += 1
        return int(entry["epoch"]), int(entry["next_flow"])
    entry["id"] = 0
    entry["epoch"] = 0
    entry["next_flow"] = first_flow
    entry["id"] = session
    return 0, first_flow


def reserve_flow(floors: NDArray[Any], place: int, flow: int) -> None:
    """Reserve flow ids up to ``flow`` and some more; to be called before it is announced."""
    if place >= 0 and flow >= int(floors[0]["session"][place]["next_flow"]):
        floors[0]["session"][place]["next_flow"] = flow + FLOW_STEP


def refuse_all_below(t: Tables, lane: int) -> None:
    """Take every number up to ``largest_rx`` for received: this process does not know which of them were."""
    t.replay[lane, :REPLAY_WORDS] = _ALL
