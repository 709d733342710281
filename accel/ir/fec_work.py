"""The working area of one call: what the walk over spans hands to the kernels, as byte offsets.

It lies on the stack of the call, so any number of threads may use one engine.
"""

from __future__ import annotations

from accel.gf256 import COLUMNS

ROOM = 128
"""Rows that are prepared together; a span with more is encoded in turns."""
SOURCES = 0
"""ptr [128] first bytes of the k units that go in."""
TARGETS = SOURCES + 8 * COLUMNS
"""ptr [ROOM] first bytes of the units that come out."""
ROWS = TARGETS + 8 * ROOM
"""ptr [ROOM] the k coefficients of each target, a byte each."""
K = ROWS + 8 * ROOM
"""i64 units in."""
M = K + 8
"""i64 units out."""
LENGTH = M + 8
"""i64 bytes of each unit; at least one vector of the kernel."""
ONES = LENGTH + 8
"""i64: 1 when every coefficient of the first target is 1."""
KNOWN = ONES + 8
"""i64: 1 when WORDS holds these coefficients already; 0 = they have to be made."""
POINTS = KNOWN + 8
"""i8 [128] points of the units that go in, while decoding."""
HEADS = POINTS + 2 * COLUMNS
"""i8 [128] logarithms, while decoding."""
SEEN = HEADS + 2 * COLUMNS
"""i64 [8] a bit for each row and each lost position that was named."""
MATRIX = SEEN + 64
"""i8 [ROOM][128] coefficients to decode with."""
STAGE = MATRIX + ROOM * COLUMNS
"""i8 [128 + ROOM][64] units that are shorter than a vector."""
STAGE_TARGETS = STAGE + 64 * (COLUMNS + ROOM)
"""ptr [ROOM] where the results in STAGE belong."""
WORDS = (STAGE_TARGETS + 8 * ROOM + 63) // 64 * 64
"""i64 [k][rows] for each group of rows: what the kernel multiplies with."""
SIZE = WORDS + 8 * COLUMNS * ROOM
