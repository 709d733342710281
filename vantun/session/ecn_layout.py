"""What a lane keeps of congestion marks, see ecn.py: fields of ``lane_dtype``; arrays of four go by ECN bits."""

from __future__ import annotations

from typing import Any

ecn_fields: list[Any] = [
    ("ecn", "u1"),  # OFF, TESTING, CAPABLE or FAILED
    ("ecn_why", "u1"),
    ("ecn_known", "u1"),  # the counts are compared with ecn_base
    ("ecn_restarts", "u1"),
    ("ecn_acked", "i8"),  # marked packets acknowledged
    ("ecn_lost", "i8"),
    ("ecn_first", "i8"),  # lowest packet number that may be marked
    ("ecn_largest", "i8"),  # largest number of the last RECEIPT that was compared
    ("ecn_base", "i8", (4,)),
    ("ecn_seen", "i8", (4,)),  # what the peer has counted
    ("ecn_marks", "i8"),  # packets marked as congested on the way to the peer
    ("ecn_events", "i8"),  # times that the lane slowed down for it
    ("ecn_at", "f8"),
    ("ecn_scale", "f8"),  # what is left of the rate
]
