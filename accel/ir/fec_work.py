"""The working area of one call: what the walk over spans hands to the kernels, as byte offsets.

It lies on the stack of the call, so any number of threads may use one engine.
"""

from __future__ import annotations

from accel.gf256 import COLUMNS

ROOM = 128
"""Rows that are prepared together; a span with more is encoded in turns."""
BASE = 0
"""ptr to the memory; units are offsets from it."""
SOURCES = BASE + 8
"""ptr to i64 [k]: the units that go in, in the order of ORDER."""
TARGETS = SOURCES + 8
"""ptr to i64 [M]: the units that come out."""
K = TARGETS + 8
"""i64 units in."""
M = K + 8
"""i64 units out."""
LENGTH = M + 8
"""i64 bytes of each unit; at least one vector of the kernel."""
ONES = LENGTH + 8
"""i64: 1 when every coefficient of the first target is 1."""
KNOWN = ONES + 8
"""i64: 1 when WORDS holds these coefficients already; 0 = they have to be made."""
SWAP = KNOWN + 8
"""i64, encoding: the parity unit that changed places with the first one, so that a row 0 is first."""
COLUMN = SWAP + 8
"""i64 column of the first unit."""
ORDER = COLUMN + 8
"""ptr to i8 [k]: the place among SOURCES of each unit of the span, and the other way round (fec_tables)."""
SOLVE = ORDER + 8
"""ptr to the closed form of the instruction set, decoding."""
ROWS = 128
"""ptr [ROOM] the k coefficients of each target, a byte each."""
NUMBERS = ROWS + 8 * ROOM
"""i8 [ROOM], encoding: the rows as the job has them. With K, M and COLUMN, they say what WORDS holds."""
OWN_SOURCES = NUMBERS + ROOM
"""i64 [128] for SOURCES."""
OWN_TARGETS = OWN_SOURCES + 8 * COLUMNS
"""i64 [ROOM] for TARGETS, when the job's own list will not do."""
POINTS = OWN_TARGETS + 8 * ROOM
"""i8 [2][128] points of the units that go in, and of the lost ones, while decoding."""
HEADS = POINTS + 2 * COLUMNS
"""i8 [2][128] factors of the units that go in, and of the lost ones, while decoding."""
PARITIES = HEADS + 2 * COLUMNS
"""i8 [128] points of the parity units, while decoding."""
SEEN = PARITIES + COLUMNS
"""i64 [8] a bit for each row and each lost position that was named."""
MATRIX = SEEN + 64
"""i8 [ROOM][128] coefficients to decode with."""
STAGE = MATRIX + ROOM * COLUMNS
"""i8 [128 + ROOM][64] units that are shorter than a vector."""
STAGE_TARGETS = STAGE + 64 * (COLUMNS + ROOM)
"""i64 [ROOM] where the results in STAGE belong."""
WORDS = (STAGE_TARGETS + 8 * ROOM + 63) // 64 * 64
"""i64 [k][rows] for each group of rows: what the kernel multiplies with."""
SIZE = WORDS + 8 * COLUMNS * ROOM
